"""From splits and classifiers to counts and scores."""

from fairskorch.audit._counting import Counts
from fairskorch.audit._measures import SCORE_METRICS, Measured
from fairskorch.audit._predictions import predictions_of
from fairskorch.intervals._paired import generator
from fairskorch.intervals._scores import score_rates
from fairskorch.metrics import METRICS
from fairskorch.metrics._inputs import as_labels, label_codes, positive_class

#: Who is named in messages.
OWNER = "fairness_report"


def ask(fits, others, splits, names, seed):
    """Ask every classifier for every split, each only once."""
    wants_scores = any(name in SCORE_METRICS for name in names)
    asked, known = {}, {}
    roles = {"fit": (fits, splits, "estimator")}
    if others:
        roles["baseline"] = (others, {"test": splits["test"]}, "baseline")
    for role, (models, wanted, words) in roles.items():
        for key, split in wanted.items():
            found = []
            for model in models:
                if (id(model), key) not in known:
                    known[id(model), key] = predictions_of(
                        model, key, split, wants_scores, seed, words
                    )
                found.append(known[id(model), key])
            asked[role, key] = found
            if role == "fit" and wants_scores and any(p.scores is None for p in found):
                wanted_names = [name for name in names if name in SCORE_METRICS]
                raise ValueError(
                    f"{wanted_names[0]} of {OWNER} needs probabilities, which "
                    f"{type(models[0]).__name__} does not give; leave the metric out, "
                    "or pass a dict of split name to (labels, probabilities)."
                )
    return asked


def code(asked, splits, names, pos_label):
    """Code all labels over their union, and find the positive class."""
    named, places = {}, []
    for key, split in splits.items():
        owner = f"{OWNER}, split {key!r},"
        named[f"y of {key}"] = as_labels(split.y, "y", owner)
        places.append(key)
        for role in ("fit", "baseline"):
            for i, found in enumerate(asked.get((role, key), ())):
                labels = as_labels(found.labels, "The prediction", owner)
                if len(labels) != len(split.frame):
                    raise ValueError(
                        f"The prediction of {owner} must have {len(split.frame)} rows; "
                        f"got {len(labels)}."
                    )
                end = f" of fit {i + 1}" if len(asked[role, key]) > 1 else ""
                whose = "baseline's prediction" if role == "baseline" else "prediction"
                named[f"the {whose} of {key}{end}"] = labels
                places.append((role, key))
    classes, codes = label_codes(named, OWNER)
    needs = any(name in SCORE_METRICS or METRICS[name].one_vs_rest for name in names)
    classes, positive, shift = positive_class(classes, pos_label, OWNER, needs)
    true, predicted = {}, {}
    for place, found in zip(places, codes, strict=True):
        if isinstance(place, str):
            true[place] = found + shift
        else:
            predicted.setdefault(place, []).append(found + shift)
    return classes, positive, true, predicted


def measure(
    true, predicted, scores, groups, sizes, subjects, *, names, positive, level, n_boot,
    seed,
):  # fmt: skip
    """Count one split under one way of grouping, for each fit and its baseline."""
    wanted = list(
        dict.fromkeys(SCORE_METRICS[n].rate for n in names if n in SCORE_METRICS)
    )
    found = {role: [] for role in predicted}
    roles = list(predicted)
    for i in range(len(predicted["fit"])):
        columns = {r: scores[r][i] for r in roles if scores[r][i] is not None}
        rates = dict.fromkeys(roles, {})
        if wanted and columns:
            # Scores without a scale are of the larger of two labels.
            sides = [
                -c if c.ndim == 1 and positive == 0 else c for c in columns.values()
            ]
            known = score_rates(
                wanted,
                sides,
                true,
                groups,
                sizes[0],
                positive=positive,
                subjects=subjects,
                n_boot=n_boot,
                rng=generator(seed),
            )
            rates |= dict(zip(columns, known, strict=True))
        for role in roles:
            counts = Counts(true, predicted[role][i], groups, sizes, subjects)
            found[role].append(Measured(counts, rates[role], positive, level))
    return found
