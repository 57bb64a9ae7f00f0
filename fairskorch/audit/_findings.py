"""A finding: a sentence of a report, with its evidence."""

#: What is found, the gravest first.
KINDS = (
    "constant prediction",
    "nearly constant prediction",
    "shared rows",
    "rows that chose",
    "not trained on",
    "shared subjects",
    "overfitted gap",
    "levelling down",
    "gap moved",
    "gap in a crossing",
    "not estimable",
    "absent group",
    "small cells",
    "unknown groups",
    "left out",
)


class Finding(str):
    """A sentence of a report's `warnings`, with what it was concluded from.

    A string like any other; the numbers behind it come as attributes.

    Parameters
    ----------
    text : str
        The sentence.
    kind : str
        What was found, such as "overfitted gap" or "levelling down"; see the user
        guide.
    evidence : dict
        Numbers and names by what they are.

    Attributes
    ----------
    kind : str
        See the parameter.
    evidence : dict
        See the parameter.

    Examples
    --------
    >>> from fairskorch.audit import Finding
    >>> found = Finding("test: 3 rows of unknown group.", "unknown groups", {"rows": 3})
    >>> found.kind, found.evidence["rows"], found.startswith("test")
    ('unknown groups', 3, True)
    """

    def __new__(cls, text, kind, evidence):
        found = super().__new__(cls, text)
        found.kind, found.evidence = kind, evidence
        return found

    def __reduce__(self):
        return type(self), (str(self), self.kind, self.evidence)


def listed(items, limit=5):
    """Join items, those beyond a limit as a number."""
    items = list(items)
    more = f" and {len(items) - limit} more" if len(items) > limit else ""
    return ", ".join(items[:limit]) + more


def shown(label):
    """Write the label of a group, a crossed one without the columns it is over."""
    if not isinstance(label, tuple):
        return str(label)
    parts = [str(part) for part in label if part != "overall"]
    return " x ".join(parts) if parts else "overall"


def quoted(label):
    """Write the label of a group so that 1 and '1' differ, a crossed one as `shown`."""
    return shown(label) if isinstance(label, tuple) else repr(label)
