"""Sensitive features to integer codes and back, fixed once at ``fit``."""

import numpy as np
import pandas as pd

__all__ = ["GroupEncoder", "UNKNOWN"]

#: Code of a row whose group is unknown.
UNKNOWN = -1


class GroupEncoder:
    """Code rows by the group they belong to.

    One column of labels gives one group a label; several columns are crossed,
    and each combination that occurs is a group. A missing value (``None``,
    ``NaN``, ``pd.NA``, ``NaT``) in any column makes the group of a row unknown.

    Attributes
    ----------
    labels_ : ndarray of shape (n_groups,)
        Labels in code order: values of the column, or tuples of values where
        columns are crossed.
    names_ : list
        Names of the columns.

    Examples
    --------
    >>> from fairskorch.groups import GroupEncoder
    >>> encoder = GroupEncoder().fit(["f", "m", None, "f"])
    >>> encoder.labels_
    array(['f', 'm'], dtype='<U1')
    >>> encoder.transform(["m", "x", None])
    array([ 1, -1, -1])
    """

    def fit(self, sensitive_features):
        """Learn the groups that occur.

        Parameters
        ----------
        sensitive_features : array-like of shape (n_samples,) or (n_samples, k)
            Labels of any kind, strings and numbers mixed if need be.

        Returns
        -------
        self : GroupEncoder
        """
        self.fit_transform(sensitive_features)
        return self

    def fit_transform(self, sensitive_features):
        """Learn the groups that occur, and give each row the code of its group.

        Parameters
        ----------
        sensitive_features : array-like of shape (n_samples,) or (n_samples, k)
            As of `fit`.

        Returns
        -------
        codes : ndarray of shape (n_samples,), int64
            Position in `labels_`; -1 where the group is unknown.
        """
        frame = as_frame(sensitive_features)
        self.names_ = list(frame.columns)
        learnt = [_factorize(frame.iloc[:, j]) for j in range(frame.shape[1])]
        self._levels = [levels for levels, _ in learnt]
        codes = np.column_stack([column for _, column in learnt])
        if len(self._levels) == 1:
            known = np.arange(len(self._levels[0]))[:, None]
        else:
            known = self._crossings(codes[(codes >= 0).all(axis=1)])
        self._known = pd.MultiIndex.from_arrays(known.T)
        labels = [
            tuple(level[i] for level, i in zip(self._levels, row, strict=True))
            for row in known
        ]
        if len(self._levels) == 1:
            self.labels_ = _natural_array([label[0] for label in labels])
        else:
            self.labels_ = np.empty(len(labels), dtype=object)
            self.labels_[:] = labels
        return self._crossed(codes)

    def transform(self, sensitive_features):
        """Give each row the code of its group.

        Parameters
        ----------
        sensitive_features : array-like of shape (n_samples,) or (n_samples, k)
            As at `fit`, with the same number of columns: found by their names where
            these are the same, by their places otherwise.

        Returns
        -------
        codes : ndarray of shape (n_samples,), int64
            Position in `labels_`; -1 where the group is unknown or was not seen
            at `fit`.
        """
        frame = in_order(as_frame(sensitive_features), self.names_)
        if frame.shape[1] != len(self._levels):
            raise ValueError(
                f"sensitive_features has {frame.shape[1]} columns; the groups were "
                f"learnt from {len(self._levels)}: {self.names_}."
            )
        return self._crossed(self._column_codes(frame))

    def _crossed(self, codes):
        """Turn the codes of columns into those of their crossing."""
        if not len(self._known):
            return np.full(len(codes), UNKNOWN, dtype=np.int64)
        if codes.shape[1] == 1:
            return codes[:, 0]
        rows = pd.MultiIndex.from_arrays(codes.T)
        return np.asarray(self._known.get_indexer(rows), dtype=np.int64)

    def unseen(self, sensitive_features):
        """List the labels that were not seen at `fit`, missing values aside.

        Parameters
        ----------
        sensitive_features : array-like of shape (n_samples,) or (n_samples, k)

        Returns
        -------
        labels : list
            Distinct labels, in order of appearance.
        """
        frame = in_order(as_frame(sensitive_features), self.names_)
        new = (self.transform(frame) == UNKNOWN) & ~frame.isna().any(axis=1).to_numpy()
        rows = frame.loc[new].drop_duplicates().itertuples(index=False, name=None)
        return [row[0] if len(row) == 1 else row for row in rows]

    def index(self):
        """Return the groups as an index for a DataFrame with one row a group."""
        if len(self.names_) > 1:
            return pd.MultiIndex.from_tuples(list(self.labels_), names=self.names_)
        return pd.Index(self.labels_, name=self.names_[0])

    def _crossings(self, codes):
        """Return the distinct rows of column codes, sorted."""
        crossed, first = np.zeros(len(codes), dtype=np.int64), np.arange(0)
        for j, level in enumerate(self._levels):
            # Numbered anew with each column, the codes cannot overflow.
            _, first, crossed = np.unique(
                crossed * len(level) + codes[:, j],
                return_index=True,
                return_inverse=True,
            )
        return codes[first]

    def _column_codes(self, frame):
        columns = []
        for j, level in enumerate(self._levels):
            values = frame.iloc[:, j]
            codes = pd.Index(level, dtype=object).get_indexer(values)
            columns.append(np.where(values.isna(), UNKNOWN, codes))
        return np.column_stack(columns).astype(np.int64)


def as_frame(sensitive_features):
    """Bring sensitive features of any accepted kind into a DataFrame of objects."""
    if isinstance(sensitive_features, dict):
        sensitive_features = pd.DataFrame(sensitive_features)
    if isinstance(sensitive_features, str):
        raise ValueError(
            "sensitive_features must hold one label for each row of X; got the string "
            f"{sensitive_features!r}. Pass the column itself, such as "
            f"X[{sensitive_features!r}]."
        )
    if not hasattr(sensitive_features, "__len__"):
        raise ValueError(
            "sensitive_features must hold one label, or one row of labels, for each "
            f"row of X; got {sensitive_features!r}."
        )
    if isinstance(sensitive_features, pd.DataFrame):
        frame = sensitive_features
    elif isinstance(sensitive_features, pd.Series):
        frame = sensitive_features.to_frame(
            "group" if sensitive_features.name is None else sensitive_features.name
        )
    else:
        if hasattr(sensitive_features, "detach"):
            sensitive_features = sensitive_features.detach().cpu().numpy()
        if not isinstance(sensitive_features, np.ndarray):
            values = np.empty(len(sensitive_features), dtype=object)
            values[:] = [
                tuple(v) if isinstance(v, list | tuple | np.ndarray) else v
                for v in sensitive_features
            ]
            if len(values) and all(isinstance(v, tuple) for v in values):
                values = np.array(list(sensitive_features), dtype=object)
            sensitive_features = values
        if sensitive_features.ndim not in (1, 2) or (
            sensitive_features.ndim == 2 and sensitive_features.shape[1] == 0
        ):
            raise ValueError(
                "sensitive_features must have the shape (n_samples,) or (n_samples, k) "
                f"with at least one column; got {sensitive_features.shape}."
            )
        if sensitive_features.ndim == 1:
            names = ["group"]
        else:
            names = [f"group_{j}" for j in range(sensitive_features.shape[1])]
        columns = sensitive_features.reshape(-1, len(names)).astype(object)
        frame = pd.DataFrame(columns, columns=names, dtype=object)
    if frame.shape[1] == 0:
        raise ValueError("sensitive_features has no column; expected at least one.")
    frame = frame.astype(object).reset_index(drop=True)
    frame.columns = [str(name) for name in frame.columns]
    if not frame.columns.is_unique:
        twice = frame.columns[frame.columns.duplicated()][0]
        raise ValueError(
            "sensitive_features must have columns of different names; got several "
            f"called {twice!r}."
        )
    return frame


def in_order(frame, names):
    """Bring columns into the order of `names`, where they have the same names."""
    same = sorted(frame.columns) == sorted(names)
    return frame[list(names)] if same else frame


def refuse_names(owner, groups, X, *, suffix=""):
    """Refuse names of columns of X in the place of what the columns hold.

    Parameters
    ----------
    owner : str
        For the message.
    groups : object
        What was given as groups.
    X : object
    suffix : str, default=""
        What follows "groups" and "X" in the message.

    Raises
    ------
    ValueError
        Where `groups` lists columns of X, and has not as many entries as X has rows.
    """
    columns = getattr(X, "columns", None)
    if columns is None or not isinstance(groups, list | tuple | np.ndarray | pd.Index):
        return
    if len(groups) == len(X) or not len(groups):
        return
    if all(isinstance(name, str) and name in columns for name in groups):
        raise ValueError(
            f"groups{suffix} of {owner} must hold the labels of every row, not names "
            f"of columns; got {list(groups)}: pass "
            f"groups{suffix}=X{suffix}[{list(map(str, groups))}]."
        )


def _factorize(column):
    """Distinct labels of a column, sorted, and each row's code.

    By type and text where types mix.
    """
    codes, values = pd.factorize(column.to_numpy())
    values = values.tolist()
    try:
        order = sorted(range(len(values)), key=values.__getitem__)
    except TypeError:
        texts = [(type(value).__name__, str(value)) for value in values]
        order = sorted(range(len(values)), key=texts.__getitem__)
    # The last place is that of a missing value.
    rank = np.full(len(values) + 1, UNKNOWN, dtype=np.int64)
    rank[order] = np.arange(len(order))
    return [values[i] for i in order], rank[codes]


def _natural_array(labels):
    """Return an array of the labels' own type, of objects where types mix."""
    if len({type(label) for label in labels}) == 1:
        array = np.asarray(labels)
        if array.ndim == 1 and array.dtype.kind in "biufU":
            return array
    array = np.empty(len(labels), dtype=object)
    array[:] = labels
    return array
