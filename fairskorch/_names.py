"""Which known name a user may mean by one that is not known."""

import difflib

#: Names of one and the same notion: short, in full, of fairlearn, and of its metric.
NOTIONS = (
    ("ae", "accuracy_equality", "accuracy_parity", "accuracy_difference"),
    ("di", "disparate_impact", "demographic_parity_ratio"),
    ("dp", "demographic_parity", "statistical_parity", "demographic_parity_difference"),
    ("eo", "equalized_odds", "equalized_odds_difference"),
    (
        *("eopp", "equal_opportunity", "true_positive_rate_parity"),
        "equal_opportunity_difference",
    ),
    ("mmf", "max_min_loss", "max_min_fairness", "worst_group_accuracy"),
)


def did_you_mean(name, known, *, listed=False):
    """Return the end of a message that suggests the nearest known name.

    Case and separators are overlooked, and a notion of parity is found under each of
    its names: "equalized_odds" suggests "eo" among aliases and
    "equalized_odds_difference" among metrics.

    Parameters
    ----------
    name : object
        What was said.
    known : iterable
        Names that would have been right.
    listed : bool, default=False
        Whether the message lists them already; else it does where none is near.

    Returns
    -------
    hint : str
    """
    known = sorted(set(known), key=str)
    # Of names that differ in separators alone the shortest stands.
    meant = {_text(choice): choice for choice in reversed(known)}
    for notion in map(_texts, NOTIONS):
        for text in set(meant) & notion:
            meant = dict.fromkeys(notion, meant[text]) | meant
    near = difflib.get_close_matches(_text(name), meant, n=1, cutoff=0.5)
    if near:
        return f" Did you mean {meant[near[0]]!r}?"
    return f" Known are {', '.join(map(repr, known))}." if known and not listed else ""


def _text(name):
    return str(name).lower().translate(dict.fromkeys(map(ord, "_- ")))


def _texts(names):
    return set(map(_text, names))
