"""Fits of the constrained study, by name: what is trained, and with what settings.

One training of a game is read in all ways to deploy it, so that names are of fits.
"""

from _constrained_data import IMAGES

BOUNDS = (0.02, 0.05, 0.1)
GAMES = ("lagrangian", "proxy")
SOURCES = ("train", "holdout")
WAYS = ("uniform", "last", "best", "mixture")
PENALTY_WEIGHTS = (0.3, 0.7, 1.5)

#: The bound of all sweeps.
SWEPT = 0.05

#: Sweeps behind the claims: rounds, radius, width.
EPOCHS = (5, 10, 20, 40, 80)
RADII = (0.25, 0.5, 1, 2, 4)
WIDTHS = (16, 64, 256)
#: The radius at which widths are compared.
WIDTHS_RADIUS = 1
IMAGE_RADII = (1, 4)


def fits(task, claims=False):
    """Return (kind, settings) of each fit by name.

    Kinds: ``"plain"`` (with thresholds on its scores), ``"penalty"``, ``"game"`` and
    ``"eg"``, which is fairlearn's reduction.
    """
    images = task in IMAGES
    common = {"validation_fraction": 0, "monitor": None} if images else {}
    found = {"plain": ("plain", common)}
    for weight in PENALTY_WEIGHTS:
        settings = {**common, "penalty_weight": weight}
        found[f"penalty {weight:g}"] = "penalty", settings
    for bound in BOUNDS:
        for game in GAMES:
            for source in SOURCES:
                settings = {"game": game, "multiplier_data": source, "bound": bound}
                found[f"{game} {source} {bound:g}"] = "game", {**common, **settings}
    if not images:
        found["moment 0.05"] = "game", {"moment": SWEPT}
        found["moment proxy 0.05"] = "game", {"moment": SWEPT, "game": "proxy"}
        for bound in BOUNDS:
            found[f"eg {bound:g}"] = "eg", {"bound": bound}
    if claims:
        for name, settings in sweeps(images).items():
            found[name] = "game", {**common, "bound": SWEPT, **settings}
    return found


def sweeps(images):
    """Return the settings of the sweeps by name."""
    if images:
        return {
            **{f"radius {r:g}": {"radius": r} for r in IMAGE_RADII},
            "surrogate": {"multiplier_rates": "scores"},
        }
    return {
        **{f"epochs {n}": {"max_epochs": n} for n in EPOCHS},
        **{f"radius {r:g}": {"radius": r, "linear": True} for r in RADII},
        **{f"width {w}": {"module__hidden": (w, w)} for w in WIDTHS},
        **{
            f"width {w} radius {WIDTHS_RADIUS}": {
                "module__hidden": (w, w),
                "radius": WIDTHS_RADIUS,
                "linear": True,
            }
            for w in WIDTHS
        },
        "surrogate": {"multiplier_rates": "scores"},
    }
