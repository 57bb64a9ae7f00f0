"""Parameters with double underscores, which belong to the parts of an estimator."""

import inspect

from sklearn.base import BaseEstimator

__all__ = ["NestedParams"]


class NestedParams(BaseEstimator):
    """An estimator whose constructor takes parameters of its parts as keywords.

    They are stored as attributes of their full name, as skorch does, so that
    `get_params`, `set_params`, `clone` and searches know them. Whether the parts have
    such parameters is asked when `fit` builds them.
    """

    def _take(self, names):
        """Store parameters of parts; one that would hide an attribute is refused."""
        for name, value in names.items():
            if name.startswith("_") or name.endswith("_"):
                raise TypeError(
                    f"{type(self).__name__} got an unexpected keyword argument {name!r}"
                )
            setattr(self, name, value)

    def get_params(self, deep=True):
        """Return the parameters, those with double underscores among them.

        Parameters
        ----------
        deep : bool, default=True
            Whether parameters of parts that are estimators are returned, too.

        Returns
        -------
        params : dict
        """
        params = super().get_params(deep=deep)
        return {**params, **{name: getattr(self, name) for name in self._extra_names()}}

    def set_params(self, **params):
        """Set parameters; a name with double underscores need not have been set.

        Parameters
        ----------
        **params
            Names and values.

        Returns
        -------
        self : estimator
        """
        known = {name: v for name, v in params.items() if self._is_own(name)}
        nested = {n: v for n, v in params.items() if "__" in n and n not in known}
        for name in params.keys() - known.keys() - nested.keys():
            if name in self._extra_names():
                nested[name] = params[name]
            else:
                known[name] = params[name]  # scikit-learn refuses it
        super().set_params(**known)
        vars(self).update(nested)
        return self

    def _is_own(self, name):
        """Tell names of the signature, and of estimators that are given there."""
        own, part = self._own_names(), name.partition("__")[0]
        inside = part != name and hasattr(getattr(self, part, None), "get_params")
        return name in own or (part in own and inside)

    @classmethod
    def _own_names(cls):
        signature = inspect.signature(cls.__init__)
        return [
            p.name
            for p in signature.parameters.values()
            if p.name != "self" and p.kind is not p.VAR_KEYWORD
        ]

    def _extra_names(self):
        own = set(self._own_names())
        return sorted(
            name
            for name in vars(self)
            if name not in own and not name.startswith("_") and not name.endswith("_")
        )
