"""Public docstrings: complete, in numpydoc's form, and true of what is there."""

import importlib
import inspect
import re
import warnings
from pathlib import Path

import pytest
from numpydoc.docscrape import ClassDoc, FunctionDoc

from fairskorch import (
    FairLastLayerClassifier,
    FairLastLayerClassifierCV,
    FairNeuralClassifier,
    FairNeuralClassifierCV,
)

ROOT = Path(__file__).parents[1]
MODULES = [
    "fairskorch",
    "fairskorch.audit",
    "fairskorch.augment",
    "fairskorch.batches",
    "fairskorch.constraints",
    "fairskorch.datasets",
    "fairskorch.display",
    "fairskorch.exceptions",
    "fairskorch.groups",
    "fairskorch.intervals",
    "fairskorch.metrics",
    "fairskorch.modules",
    "fairskorch.monitor",
    "fairskorch.nets",
    "fairskorch.penalties",
    "fairskorch.rates",
    "fairskorch.sampling",
    "fairskorch.schedules",
    "fairskorch.stopping",
    "fairskorch.selection",
]


def public():
    for module in MODULES:
        loaded = importlib.import_module(module)
        assert loaded.__doc__, module
        names = [n for n in loaded.__all__ if not n.startswith("__")]
        for name in names:
            value = getattr(loaded, name)
            if inspect.isclass(value) or inspect.isfunction(value):
                yield f"{module}.{name}", value


PUBLIC = dict(public())


@pytest.mark.parametrize("module", MODULES)
def test_all_is_sorted_and_true(module):
    loaded = importlib.import_module(module)
    names = list(loaded.__all__)
    assert names == sorted(names)
    assert all(hasattr(loaded, name) for name in names)


@pytest.mark.parametrize("name", PUBLIC)
def test_every_parameter_is_documented(name):
    value = PUBLIC[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        doc = (ClassDoc if inspect.isclass(value) else FunctionDoc)(value)
    assert doc["Summary"], name
    if inspect.isclass(value) and (
        issubclass(value, tuple | Exception) or value.__init__ is object.__init__
    ):
        return
    documented = set()
    for parameter in doc["Parameters"] + doc["Other Parameters"]:
        documented |= {n.strip() for n in parameter.name.split(",")}
    documented = {n.lstrip("*") for n in documented}
    call = value.__init__ if inspect.isclass(value) else value
    expected = {
        p.name
        for p in inspect.signature(call).parameters.values()
        if p.name not in ("self", "args")
    }
    if name == "fairskorch.nets.GroupPenaltyNet":
        # skorch documents its own.
        expected -= {"iterator_train", "iterator_valid", "dataset", "train_split"}
        documented -= {"train_split"}
    assert documented == expected


# What is raised or returned, not called.
SEEN = ("fairskorch.exceptions.", "fairskorch.rates.Rates")


@pytest.mark.parametrize("name", [n for n in PUBLIC if not n.startswith(SEEN)])
def test_every_name_has_an_example_that_uses_it(name):
    value = PUBLIC[name]
    doc = (ClassDoc if inspect.isclass(value) else FunctionDoc)(value)
    made_by = {"FairnessReport": "fairness_report", "Interval": "rate_interval"}
    short = name.rpartition(".")[2]
    assert made_by.get(short, short) in " ".join(doc["Examples"])


@pytest.mark.parametrize("name", PUBLIC)
def test_every_reference_is_cited_in_the_text(name):
    text, _, listed = inspect.getdoc(PUBLIC[name]).partition("\nReferences\n")
    numbers = re.findall(r"^\.\. \[(\d+)\]", listed, flags=re.MULTILINE)
    assert [n for n in numbers if f"[{n}]_" not in text] == []


def test_the_paper_on_constraints_has_one_title():
    files = [ROOT / "README.md", ROOT / "docs" / "references.rst"]
    texts = [path.read_text() for path in files]
    text = " ".join([*texts, *map(inspect.getdoc, PUBLIC.values())])
    *before, _ = " ".join(text.split()).split("arXiv:2012.15274")
    title = "Neural Network Classifiers with Non-convex Constraints."
    assert len(before) > 5
    assert [entry[-250:] for entry in before if title not in entry[-250:]] == []


FITTED = {
    "whole": lambda plain: plain,
    "last": lambda plain: FairLastLayerClassifier(plain),
    "search": lambda plain: FairLastLayerClassifierCV(plain, cv=2),
    "path": lambda plain: FairNeuralClassifierCV(cv=2),
}


@pytest.mark.filterwarnings("ignore::fairskorch.exceptions.ConstantPredictionWarning")
@pytest.mark.parametrize("name", FITTED)
def test_fitted_attributes_are_the_documented_ones(name, table):
    X, y, groups = table
    short = {"max_epochs": 2, "random_state": 0}
    clf = FITTED[name](FairNeuralClassifier(**short)).set_params(**short)
    clf.fit(X, y, groups)
    documented = set()
    for attribute in ClassDoc(type(clf))["Attributes"]:
        documented |= {n.strip() for n in attribute.name.split(",")}
    present = {n for n in vars(clf) if n.endswith("_") and not n.startswith("_")}
    assert present | {"feature_names_in_"} == documented
