"""From rows and bounds to a game that was played, and what came of it."""

import copy
import warnings

import numpy as np
import pandas as pd
import torch

from fairskorch import _building, _deployment, _parts
from fairskorch import _preparation as prep
from fairskorch._constrained_net import ConstrainedNet
from fairskorch._divisions import check_apart, split_rows
from fairskorch._games import ConstraintGame
from fairskorch._marks import SAMPLED, row_marks
from fairskorch._neural import NeuralClassifier
from fairskorch._players import MOST_FORMS, LagrangianPlayer, ProxyPlayer
from fairskorch._round_rows import cell_counts, rows_of_round
from fairskorch._validation import InvalidParameterError
from fairskorch.constraints._builder import Columns, FormsBuilder
from fairskorch.constraints._reading import read_constraints
from fairskorch.constraints._specs import Churn
from fairskorch.exceptions import (
    ConstantPredictionWarning,
    InfeasibleConstraintWarning,
)
from fairskorch.monitor import cell_sample
from fairskorch.sampling import EpochSampler

#: Rounds of the game in an epoch.
ROUNDS = 2

#: Weights that are kept at most: how many, and bytes of all.
MOST_KEPT, KEPT_BYTES = 128, 2**29

#: Steps of the multipliers, by game and for a fit of so many rounds: with fewer, each
#: is longer, so that multipliers come as far.
STEPS, STEPS_FOR = {"lagrangian": 2.0, "proxy": 20.0}, 40

#: What the network is given in proportion to the violation, beside the sum.
DAMPING = 2.0


class BoundedClassifier(NeuralClassifier):
    """Base of an estimator whose network plays a game with multipliers.

    A derived class has the parameters of `FairConstrainedClassifier` that are read
    here, and a `fit` made of these steps: `_multiplier_rows` and `_play`.
    """

    _compared_name = "constraint"

    @property
    def _compared(self):
        needed = [spec for spec, _ in self._specs if spec.needs_groups]
        return self.constraint if needed else None

    def _find_penalty(self):
        self._specs = []
        if self.constraint is None:
            return None
        self._specs = read_constraints(self._owner, self.constraint, self.bound)
        return ConstraintGame

    def _auto_sampler(self):
        return "shuffle"

    @property
    def _prior_shift(self):
        return None

    def _penalty_settings(self, given, n_batches):
        settings = {
            "penalty": self._penalty_class,
            "rounds": self._rounds(),
            "radius": self.radius,
            "radius_scope": self.radius_scope,
        }
        if self._penalty_class is None:
            return settings
        game = {
            **dict(zip(("n_groups", "n_classes"), self._sizes, strict=True)),
            "slope": self.surrogate_slope,
            "hard": self.multiplier_rates == "predictions",
            **self._game_parts,
        }
        return {**settings, **{f"penalty__{name}": v for name, v in game.items()}}

    @property
    def _sizes(self):
        """Numbers of groups and of classes."""
        return 0 if self.groups_ is None else len(self.groups_), len(self.classes_)

    def _n_batches(self, rows):
        return -(-len(rows) // self.batch_size)

    def _rounds(self):
        return ROUNDS if self.rounds == "auto" else self.rounds

    def _referred(self, rows, X):
        """Note what the classifier of a constraint on churn predicts for the rows."""
        found = [spec for spec, _ in self._specs if isinstance(spec, Churn)]
        if not found:
            return rows
        if len(found) > 1:
            raise ValueError(
                f"{self._owner} compares with the predictions of one classifier; "
                f"constraint has {len(found)} of Churn."
            )
        predicted = np.asarray(found[0].classifier.predict(X))
        prep.check_lengths(
            self._owner, "predict of Churn's classifier", predicted, len(rows.source)
        )
        codes = prep.encode_known(
            self._owner, predicted, self.classes_, name="predict of Churn's classifier"
        )
        return rows.referred(codes[rows.index.numpy()])

    def _multiplier_rows(self, rows, given_y, rng, valid):
        """Return training rows, and those that the multipliers move on."""
        if self._penalty_class is None:
            return rows, None
        seen, name = rows, "multiplier_fraction"
        if self.multiplier_data == "holdout":
            given = self.multiplier_fraction
            check_apart(self._owner, given, given_y, name, valid)
            rows, seen = split_rows(self._owner, given, rows, given_y, rng, name=name)
            if seen is None:
                raise ValueError(
                    f"multiplier_fraction={given} of {self._owner} holds out none of "
                    f"{len(rows)} rows."
                )
        if self.sampler_.startswith("balanced"):
            # What is wrong is to count as training counts it.
            sampler = EpochSampler(self.sampler_, seen.y, seen.groups, self.batch_size)
            weight = 1 / sampler.importance
            weight = weight if seen.weight is None else weight * seen.weight
            reference = seen.reference
            seen = seen.labelled(seen.y, seen.groups, weight)
            seen.reference = reference
        return rows, seen

    def _build_game(self, rows, seen):
        others = {name for spec, _ in self._specs for name in spec.others}
        columns = Columns(len(self.classes_), sorted(others))
        labels = [] if self.groups_ is None else self.groups_.tolist()
        counts = cell_counts(rows, *self._sizes)
        builder = FormsBuilder(
            columns,
            labels,
            self.classes_.tolist(),
            counts.numpy(),
            cell_counts(seen, *self._sizes).numpy(),
        )
        self._measures = [spec.add_to(builder, bound) for spec, bound in self._specs]
        if not builder.parts:
            raise ValueError(
                f"constraint={self.constraint!r} of {self._owner} has no rate that the "
                "rows could tell: every group lacks the class that it needs."
            )
        forms = builder.build()
        lr = self.multiplier_lr
        if lr == "auto":
            n_rounds = self.max_epochs * min(self._rounds(), self._n_batches(rows))
            lr = STEPS[self.game] * STEPS_FOR / n_rounds
        self.multiplier_lr_ = lr
        if self.game == "proxy":
            if forms.n_forms > MOST_FORMS:
                raise ValueError(
                    f"game='proxy' of {self._owner} keeps a square matrix of all "
                    f"{forms.n_forms} forms, more than {MOST_FORMS}; use "
                    "game='lagrangian'."
                )
            if self.multiplier_cap is not None:
                raise InvalidParameterError(
                    f"The 'multiplier_cap' parameter of {self._owner} must be None "
                    "with game='proxy', whose multipliers sum to at most 1. Got "
                    f"{self.multiplier_cap!r} instead."
                )
            player = ProxyPlayer(forms, lr)
        else:
            damping = DAMPING if lr > 0 else 0.0
            player = LagrangianPlayer(forms, lr, damping, self.multiplier_cap)
        return {"forms": forms, "player": player, "counts": counts}

    def _play(self, rows, seen, valid, seed):
        """Train, choose what to deploy, and measure it."""
        n_batches = self._n_batches(rows)
        part, scale, forms = rows, None, None
        self._game_parts = {}
        if seen is not None:
            self._game_parts = self._build_game(rows, seen)
            forms = self._game_parts["forms"]
            part, scale = rows_of_round(
                self.multiplier_rows,
                len(rows),
                seen,
                *self._sizes,
                self._read_anyway(rows, valid),
            )
        net = _building.build_net(self, self.max_epochs, n_batches, ConstrainedNet)
        del self._game_parts
        _parts.check_outputs(self._owner, net, rows, len(self.classes_))
        per_epoch = min(self._rounds(), n_batches)
        n_rounds = per_epoch * self.max_epochs
        every = -(-n_rounds // _most_kept(net.module_))
        net.start_game(part, scale, n_batches, every)
        try:
            _building.run(net, rows, valid)
        finally:
            store, sums, paths = net.end_game()
        self.net_ = net
        self.history_ = _building.history_frame(net)
        if self._compared is None:
            # What the monitor knows of all rows are sums by group.
            self.history_ = self.history_.drop(
                columns=["train_penalty", "valid_penalty"], errors="ignore"
            )
        self.n_iter_ = len(self.history_)
        self._marks = row_marks(rows, SAMPLED)
        # Members are chosen on rows of their own where multipliers have such.
        chose = seen is not None and self.multiplier_data == "holdout"
        self._valid_marks = row_marks(seen, SAMPLED) if chose else None
        counted = self._choose(forms, store, sums, seen, len(part))
        self._predict_seed = int(np.random.RandomState(seed).randint(2**31 - 1))
        if seen is None:
            self._nothing_bounded()
        else:
            self.multipliers_ = pd.DataFrame(paths.numpy(), columns=forms.labels)
            self._measure(forms, rows, seen, valid, counted, seed)

    def _read_anyway(self, rows, valid):
        """Return training rows that multipliers move on and the monitor looks at."""
        if self.multiplier_data != "train" or self.monitor != "sample":
            return None
        if valid is None or len(valid) >= len(rows):
            return None
        return cell_sample(rows.y, rows.groups, len(valid))

    def _choose(self, forms, store, sums, seen, n_read):
        """Choose members and their weights by the rule of `deploy`."""
        net, counted = self.net_, None
        # A mixture has early networks where late ones all leave a bound on one side.
        first = 0 if self.deploy == "mixture" else len(store) // 2
        if self.deploy == "last" or seen is None:
            members, weights = [copy.deepcopy(net.module_)], np.ones(1)
            members[0].eval().requires_grad_(False)
        elif self.deploy == "uniform":
            members = [store.network(i) for i in range(first, len(store))]
            weights = np.full(len(members), 1 / len(members))
        else:
            batches = net.get_iterator(seen, training=False)
            module = store.network(0)

            def count(numbers):
                each = [
                    net.sums_of(store.put(first + i, module), batches) for i in numbers
                ]
                return torch.stack(each).cpu().double()

            rule = _deployment.RULES[self.deploy]
            numbers, weights, counted = _deployment.choose(
                forms, rule, sums[first:], n_read, count
            )
            members = [store.network(first + i) for i in numbers]
        net.members_ = members
        self.estimator_weights_ = weights
        return counted

    def _nothing_bounded(self):
        self.multipliers_ = pd.DataFrame()
        self.train_violation_ = self.holdout_violation_ = float("nan")
        self.train_violation_interval_ = (float("nan"),) * 2
        self.holdout_violation_interval_ = (float("nan"),) * 2
        self.violations_ = None
        self.is_feasible_ = True

    def _measure(self, forms, rows, seen, valid, counted, seed):
        """Count what the deployed classifier does, in expectation over its members."""
        net = self.net_
        parts = {"train": rows, "multiplier": seen, "holdout": valid}
        known = {"multiplier": counted}
        if self.multiplier_data == "train":
            # The same rows, whatever the weights of their errors.
            known["train"] = counted
            parts["multiplier"] = rows
        sums = {}
        for name, part in parts.items():
            found = known.get(name)
            if found is None and part is not None:
                batches = net.get_iterator(part, training=False)
                found = [net.sums_of(m, batches) for m in net.members_]
                found = known[name] = torch.stack(found).cpu().double()
                if name == "train" and self.multiplier_data == "train":
                    known["multiplier"] = found
            if found is not None:
                found = _deployment.expected_sums(found, self.estimator_weights_)
            sums[name] = found
        table = _deployment.violations(forms, self._measures, sums, seed)
        self.violations_ = table
        for name in ("train", "holdout"):
            worst = table.loc[name, "violation"].fillna(-np.inf).argmax()
            row = table.loc[name].iloc[worst]
            ends = table.loc[name, ["low", "high"]].max()
            setattr(self, f"{name}_violation_", float(row["violation"]))
            setattr(self, f"{name}_violation_interval_", tuple(map(float, ends)))
        seen_rows = table.loc["multiplier", "violation"]
        self.is_feasible_ = not (seen_rows > _deployment.FEASIBLE).any()
        if not self.is_feasible_:
            row = table.loc["multiplier"].iloc[seen_rows.fillna(-np.inf).argmax()]
            warnings.warn(
                f"{self._owner} with deploy={self.deploy!r} misses the bound "
                f"{row['bound']:g} of {row.name!r} on the rows that multipliers moved "
                "on: the smallest violation that was reached is "
                f"{row['violation']:.3g}. Try a larger bound, more max_epochs, or "
                "another module.",
                InfeasibleConstraintWarning,
                stacklevel=4,
            )
        self._warn_if_one_class(sums)

    def _warn_if_one_class(self, sums):
        columns = self.net_.penalty_.forms.columns
        total = sum(s.sum((0, 1)) for s in sums.values() if s is not None)
        predicted = total[1 : 1 + columns.n_scores]
        if columns.n_scores == 1:
            predicted = torch.cat([total[:1] - predicted, predicted])
        if (predicted > 0).sum() < 2:
            warnings.warn(
                f"{self._owner} predicts one class for every row that was looked at, "
                "so its gaps are 0 for no merit. Try a larger bound, "
                "sampler='balanced_classes', or more max_epochs.",
                ConstantPredictionWarning,
                stacklevel=5,
            )


def _most_kept(module):
    """Return how many networks may be kept."""
    size = 2 * sum(t.numel() for t in module.state_dict().values())
    return int(np.clip(KEPT_BYTES // max(size, 1), 8, MOST_KEPT))
