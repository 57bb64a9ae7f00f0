"""What a classifier under bounds answers once it is fitted."""

import copy

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from fairskorch import _certificate, _settings
from fairskorch import _preparation as prep
from fairskorch._mixtures import draws, row_hashes
from fairskorch._probabilities import joined_probabilities
from fairskorch._round_rows import cell_counts


class BoundedAnswers:
    """The part of an estimator that draws among members, and judges them."""

    @property
    def estimators_(self):
        """Networks of the deployed classifier, in eval mode."""
        check_is_fitted(self, "net_")
        return list(self.net_.members_)

    def _outputs(self, X, hashes=False):
        """Return probabilities of all members: (n_members, n_samples, n_classes)."""
        check_is_fitted(self, "net_")
        batches = self.net_.get_iterator(self._read_rows(X), training=False)
        parts, marks = [], []
        with torch.no_grad():
            for fields, _ in batches:
                logits = [
                    self.net_.infer_with(m.eval(), fields) for m in self.net_.members_
                ]
                parts.append(torch.stack(logits))
                if hashes:
                    marks.append(row_hashes(fields["X"]).cpu())
        marks = torch.cat(marks).numpy() if hashes else None
        return joined_probabilities(parts, axis=1), marks

    def predict_proba(self, X):
        """Return the probability of each class, expected over members.

        Parameters
        ----------
        X : array-like, DataFrame, Tensor or Dataset
            Rows of the kind and shape that were fitted on.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_classes), float64
            The members' probabilities, averaged with their weights; rows sum to 1. The
            bounds are on what `predict` answers, not on these.
        """
        shares, _ = self._outputs(X)
        return np.tensordot(self.estimator_weights_, shares, 1)

    def predict(self, X, random_state=None):
        """Return the answer of a member that is drawn for each row.

        Parameters
        ----------
        X : array-like, DataFrame, Tensor or Dataset
            Rows of the kind and shape that were fitted on.
        random_state : int, RandomState or None, default=None
            Another seed gives other draws. None is a seed that `fit` drew: the same
            row gets the same answer whenever it is asked for.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            Each row's draw is fixed by its numbers (as float32) and the seed alone, so
            equal rows get equal answers whatever their order and batch.
        """
        check_is_fitted(self, "net_")
        if len(self.estimator_weights_) == 1:
            shares, _ = self._outputs(X)
            return self.classes_[shares[0].argmax(-1)]
        seed = self._predict_seed
        if random_state is not None:
            seed = _settings.draw_seed(random_state)
        shares, marks = self._outputs(X, hashes=True)
        ends = np.cumsum(self.estimator_weights_)
        member = np.searchsorted(ends[:-1], draws(marks, seed), side="right")
        codes = shares.argmax(-1)[member, np.arange(shares.shape[1])]
        return self.classes_[codes]

    def to_module(self):
        """Return the deployed network.

        Returns
        -------
        module : torch.nn.Module
            A copy on the CPU, in eval mode; returns logits.

        Raises
        ------
        ValueError
            Where several networks are drawn from, as with ``deploy="mixture"``.
        """
        check_is_fitted(self, "net_")
        if len(self.net_.members_) > 1:
            raise ValueError(
                f"{self._owner} was fitted with deploy={self.deploy!r} and draws among "
                f"{len(self.net_.members_)} networks, which is no one module; fit with "
                "deploy='best' or deploy='last'."
            )
        return copy.deepcopy(self.net_.members_[0]).cpu()

    def duality_gap(self, X, y, groups=None, *, sensitive_features=None):
        r"""Return how far the answer of a linear network can be from the best one.

        For any multipliers no network that keeps the bounds has a smaller task loss
        than the least value of the Lagrangian,

        .. math:: \min_\theta \; \ell(\theta) + \sum_i \lambda_i h_i(\theta),

        taken here at the multipliers' mean over the second half of the rounds. It is
        found exactly where the Lagrangian is convex: for bounds on losses ("mmf",
        "ae" with one group above). Rates of scores are not convex, and there the
        minimum is the one that is reached from the answer itself: a sign of
        convergence, no proof.

        Parameters
        ----------
        X, y, groups : array-like
            The training rows.
        sensitive_features : array-like, optional
            Another name of `groups`.

        Returns
        -------
        certificate : Certificate
            ``primal``, the answer's mean task loss in expectation over members;
            ``dual``, the least value of the Lagrangian; ``gap``, their difference. A
            gap below 0 says that a bound is left, on scores.

        Raises
        ------
        ValueError
            Where the network is not one linear layer, or the game is not
            "lagrangian".

        Examples
        --------
        >>> from fairskorch import FairConstrainedClassifier
        >>> from fairskorch.datasets import make_biased_classification
        >>> data = make_biased_classification(n_samples=500, random_state=0)
        >>> rows = data.data, data.target, data.sensitive_features
        >>> clf = FairConstrainedClassifier(
        ...     constraint="mmf", bound=0.6, module__hidden=(), lr=0.02,
        ...     validation_fraction=0, batch_size=32, random_state=0,
        ... ).fit(*rows)
        >>> 0 <= clf.duality_gap(*rows).gap < 0.05
        True
        """
        check_is_fitted(self, "net_")
        groups = prep.given_groups(
            self._owner, "duality_gap", groups, sensitive_features
        )
        rows = self._known_rows(self._read_rows(X), y, groups)
        if self.game != "lagrangian" or self.net_.penalty_ is None:
            raise ValueError(
                f"duality_gap of {self._owner} needs a constraint and "
                "game='lagrangian', whose multipliers have the scale of the task loss."
            )
        if not _certificate.is_linear(self.net_.members_[0]):
            raise ValueError(
                f"duality_gap of {self._owner} needs a network that is one linear "
                "layer, such as module__hidden=() of the default for tables."
            )
        half = self.multipliers_.iloc[len(self.multipliers_) // 2 :]
        return _certificate.certify(
            self.net_,
            self.estimator_weights_,
            rows,
            cell_counts(rows, *self._sizes),
            torch.tensor(half.mean().to_numpy()),
        )

    def plot_multipliers(self, ax=None, n_largest=8):
        """Plot the multipliers over the rounds of the game.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to plot; a new figure if not given.
        n_largest : int, default=8
            How many are drawn and named: those that were the largest.

        Returns
        -------
        ax : matplotlib Axes

        Raises
        ------
        ValueError
            Where there is no constraint.
        """
        check_is_fitted(self, "net_")
        if self.multipliers_.empty:
            raise ValueError(f"{self._owner} with constraint=None has no multiplier.")
        import matplotlib.pyplot as plt

        ax = plt.subplots()[1] if ax is None else ax
        paths = self.multipliers_
        chosen = paths.max().sort_values(ascending=False, kind="stable")
        rounds = np.arange(1, len(paths) + 1)
        for i, label in enumerate(chosen.index[:n_largest]):
            name, rate, _, group, side = label
            text = f"{name}: {str(rate).replace('_', ' ')}, {group!s} {side}"
            # Of two groups the multipliers are alike: a broken line on a whole one.
            style = {"linestyle": ("-", (0, (2, 4)))[i % 2], "linewidth": 2}
            shade = str(0.7 * (i // 2) / max(n_largest // 2, 1))
            ax.plot(rounds, paths[label], color=shade, label=text, **style)
        ax.set(xlabel="round", ylabel="multiplier", ylim=(0, None))
        # Above, as paths go everywhere.
        ax.legend(fontsize="small", loc="lower left", bbox_to_anchor=(0, 1))
        return ax
