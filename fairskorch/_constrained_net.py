"""The net that plays a game with multipliers while it trains."""

from itertools import count

import torch

from fairskorch._balls import balls_of, project
from fairskorch._cross_entropy import is_plain
from fairskorch._mixtures import Snapshots
from fairskorch._penalised_loss import DTYPES
from fairskorch._shared_pass import SharedPass
from fairskorch.batches import Batches
from fairskorch.monitor import FairnessMonitor
from fairskorch.nets import GroupPenaltyNet


class ConstrainedNet(GroupPenaltyNet):
    """A net that plays a game with multipliers while it trains.

    Its penalty is a `ConstraintGame`. After every few steps a *round* is played: the
    network is held still, its hard predictions of the rows in `game_rows` are
    counted, the multipliers move on these counts, and the weights are kept.

    Parameters
    ----------
    module : type or callable
        The network; returns logits of shape (n_samples, n_classes).
    rounds : int, default=2
        Rounds in an epoch, evenly spaced; at most one a step.
    radius : float, optional
        The weights stay in a ball around those that they start from.
    radius_scope : {"network", "layer"}, default="network"
        Whether there is one ball for all weights, or one for each layer.
    **kwargs
        As `GroupPenaltyNet`.
    """

    cuda_dependent_attributes_ = [
        *GroupPenaltyNet.cuda_dependent_attributes_,
        "members_",
    ]

    _game_batches = _store = _balls = _start = _scale = _rows = _shared = None
    _turns = None

    def __init__(
        self, module, *args, rounds=2, radius=None, radius_scope="network", **kwargs
    ):
        self.rounds = rounds
        self.radius = radius
        self.radius_scope = radius_scope
        super().__init__(module, *args, **kwargs)

    def initialize_penalty(self):
        """Build the game; its own numbers stay in float64."""
        if self.penalty is None:
            return super().initialize_penalty()
        dtype = DTYPES[self.precision]
        game = self.initialized_instance(self.penalty, self.get_params_for("penalty"))
        self.penalty_ = game.placed(self.device, dtype)
        self.penalty_memory_ = self.penalty_multiplier_ = None
        self._ramped_weight, self._one = self._number(1.0), self._number(1.0)
        return self

    @property
    def _undoes_sampling(self):
        """Whether drawn rows count otherwise than the rows that rates refer to."""
        return self.penalty_ is not None and self.sampler != "shuffle"

    def get_iterator(self, dataset, training=False):
        """Cut rows into batches; those of a step bring charges in place of groups."""
        batches = super().get_iterator(dataset, training)
        looked_up = training and isinstance(batches, Batches)
        if looked_up and self._is_usual(batches) and not self._has_step_hooks():
            self._rows = RowCharges(batches, self.penalty_)
        return batches

    def _is_usual(self, batches):
        """Whether the game knows the gradient of a step by heart."""
        game = self.penalty_
        known = game is not None and game.plain and game.slope == 1
        return known and is_plain(self.criterion_, "weight" in batches.fields)

    def descend(self, outputs, fields, target):
        """Give the weights the gradient of the Lagrangian; return the task loss."""
        if "charges" not in fields:
            return super().descend(outputs, fields, target)
        charges = fields["charges"]
        if len(charges) != self._rows.batch_size:
            charges = charges * (self._rows.batch_size / len(charges))
        task, by_outputs = self.penalty_.descent(
            outputs.detach(), target, charges, fields.get("weight")
        )
        torch.autograd.backward(outputs, by_outputs)
        return task

    def get_loss(self, y_pred, y_true, X=None, training=False):
        """Return task loss, and in training what the multipliers add to it."""
        if not training or self.penalty_ is None:
            return super().get_loss(y_pred, y_true, X, training)
        loss = self.criterion_(y_pred, y_true)
        return self.penalty_.lagrangian(
            self._mean_loss(loss, X),
            y_pred,
            y_true,
            X["groups"],
            X["importance"] if self._undoes_sampling else None,
            loss if loss.ndim else None,
            X.get("reference"),
        )

    known_loss = get_loss

    def start_game(self, rows, scale, n_steps, keep_every):
        """Prepare for rounds.

        Parameters
        ----------
        rows : GroupedRows
            What the multipliers see in a round.
        scale : Tensor of shape (1 + n_groups, n_classes)
            Rows that a row of a cell stands for.
        n_steps : int
            Steps in an epoch.
        keep_every : int
            Rounds from one at which weights are kept to the next.
        """
        self._game_batches = self._shared = None
        if self.penalty_ is not None:
            self._game_batches = self.get_iterator(rows, training=False)
            self._scale = scale.to(self.device).unsqueeze(-1)
            self._scale = self._scale.to(self.penalty_.masses.dtype)
        self._turns = _turns(n_steps, self.rounds)
        self._keep_every = keep_every
        self._store = Snapshots(self.module_)
        self._seen, self._paths = [], []
        self._balls = self._start = None
        if self.radius is not None:
            self._balls = balls_of(self.module_, self.radius_scope)
            self._start = [[w.detach().clone() for w in ball] for ball in self._balls]

    def end_game(self):
        """Let go of the rows, and return what the rounds left.

        Returns
        -------
        store : Snapshots
        seen : Tensor of shape (n_kept, 1 + n_groups, n_classes, n_sums) or None
            What the multipliers saw of the weights that were kept, as
            `ConstraintGame.sums` returns it.
        paths : Tensor of shape (n_rounds, n_forms) or None
            Multipliers after each round.
        """
        store, seen, paths = self._store, self._seen, self._paths
        self._forget_game()
        if not seen:
            return store, None, None
        return store, torch.stack(seen).cpu().double(), torch.stack(paths).cpu()

    def _forget_game(self):
        self._game_batches = self._store = self._balls = self._start = None
        self._rows = self._shared = self._turns = None
        self._seen, self._paths = [], []

    def __getstate__(self):
        game = ("_game_batches", "_store", "_balls", "_start", "_scale")
        game = (*game, "_rows", "_shared", "_turns")
        return {**super().__getstate__(), **dict.fromkeys(game)}

    def after_update(self):
        """Bring the weights back into their balls."""
        super().after_update()
        if self.radius is None:
            return
        with torch.no_grad():
            for ball, start in zip(self._balls, self._start, strict=True):
                project(ball, start, self.radius)

    def after_step(self):
        """Play a round when it is due."""
        if self._game_batches is None:
            return
        due, is_last = next(self._turns)
        if due:
            self._play_round(is_last)

    @torch.no_grad()
    def _play_round(self, is_last):
        self._set_training(False)
        monitor = self._reads_next() if is_last else None
        if monitor is None:
            sums = self.sums_of(self.module_, self._game_batches, self.penalty_.hard)
        else:
            sums = self._sums_shared(monitor.parts_)
        sums = sums * self._scale
        if len(self._paths) % self._keep_every == 0:
            self._store.take(self.module_)
            self._seen.append(sums)
        self.penalty_.play(sums)
        if self._rows is not None:
            self._rows.refresh()
        self._paths.append(self.penalty_.player.multipliers.clone())
        self._set_training(True)

    @torch.no_grad()
    def sums_of(self, module, batches, hard=True):
        """Return `ConstraintGame.sums` of all rows under a network in eval mode."""
        total = 0
        for fields, target in batches:
            logits = self.infer_with(module, fields)
            total = total + self._sums(logits, target, fields, hard)
        return total

    def _sums(self, logits, target, fields, hard):
        loss = None
        if "loss" in self.penalty_.forms.columns.others:
            loss = self.criterion_(logits, target)
            loss = loss if loss.ndim else None
        return self.penalty_.sums(logits, target, fields, loss, hard)

    def _reads_next(self):
        """Return the monitor if it is the next to see the weights, as they are now."""
        if self._average is not None or self._has_step_hooks():
            return None
        found = [c for _, c in self.callbacks_ if isinstance(c, FairnessMonitor)]
        batches = self._game_batches
        if not found or not isinstance(batches, Batches):
            return None
        (rows, *others) = found[0].parts_.rows
        return None if others or rows.source is not batches.rows.source else found[0]

    def _sums_shared(self, watched):
        """Read the rows of a round together with those that the monitor looks at."""
        batches = self._game_batches
        if self._shared is None:
            self._shared = SharedPass(self, [batches.rows, *watched.rows])
        logits, watched.given = self._shared.outputs(self)
        return self._sums(logits, batches.y, batches.fields, self.penalty_.hard)

    def on_epoch_end(self, net, **kwargs):
        """Record what the multipliers are and what they saw last."""
        if self._paths:
            game = self.penalty_
            self.history.record("multiplier_sum", float(game.player.multipliers.sum()))
        return super().on_epoch_end(net, **kwargs)


def _turns(n_steps, rounds):
    """Tell of each step whether a round follows, and whether its epoch ends."""
    for n_done in count(1):
        before, now = (n_done - 1) * rounds // n_steps, n_done * rounds // n_steps
        yield now > before, n_done % n_steps == 0


class RowCharges:
    """What the multipliers of two classes charge for the score of each row.

    They change once a round, so a step picks those of its rows and nothing else: the
    charges of cells by the number of rows in a batch.

    Parameters
    ----------
    batches : Batches
        Training batches; get a field ``"charges"`` in place of groups.
    game : ConstraintGame
    """

    def __init__(self, batches, game):
        self.game = game
        groups = batches.fields.pop("groups")
        cell = torch.add(batches.y, groups, alpha=game.n_classes)
        # Unknown groups have code -1, and their charges are the last.
        self.cell = cell.remainder_(game.n_cells)
        self.batch_size = batches.batch_size
        share = batches.fields.pop("importance", torch.ones(1))
        self.share = (share / self.batch_size).to(game.slopes)
        # In one place, where a captured step finds them.
        self.charges = game.slopes.new_zeros(len(cell))
        batches.fields["charges"] = self.charges
        self.refresh()

    def refresh(self):
        """Look them up again."""
        charges = self.game.charges()
        torch.index_select(charges, 0, self.cell, out=self.charges).mul_(self.share)
