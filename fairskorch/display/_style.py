"""What the displays share: axes, words, and the looks of the two sides."""

import numpy as np

#: Looks that tell the sides apart in print: marker, line and grey.
LOOKS = {
    "training": {
        "marker": "s",
        "markersize": 5,
        "markerfacecolor": "white",
        "linestyle": "--",
        "color": "0.55",
    },
    "held-out": {"marker": "o", "markersize": 5, "linestyle": "-", "color": "0"},
}

#: Short words of names that would fill an axis.
WORDS = {
    "score": "score",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
}


def prepare(display, ax, size=(5.2, 3.8)):
    """Return the axes to draw in, of a new figure where none is given."""
    if ax is None:
        try:
            import matplotlib.pyplot as plt
        except ImportError as error:
            raise ImportError(
                f"{type(display).__name__} needs matplotlib; install fairskorch[plot]."
            ) from error
        _, ax = plt.subplots(figsize=size, layout="constrained")
    display.ax_, display.figure_ = ax, ax.figure
    return ax


def words(name):
    """Return a name as words."""
    return WORDS.get(name, name.replace("_", " "))


def literal(text):
    """Return a text that matplotlib draws as it is: a dollar begins no formula."""
    return text.replace("$", r"\$")


def whiskers(frame, name):
    """Return the lengths of error bars; none where a limit is unknown."""
    value = frame[name]
    lengths = [value - frame[f"{name}_low"], frame[f"{name}_high"] - value]
    return np.nan_to_num(np.maximum(lengths, 0.0))
