"""The documentation names what the package has, and its code runs."""

import importlib
import importlib.util
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import sklearn

from fairskorch.audit import fairness_report

ROOT = Path(__file__).resolve().parents[1]
API = ROOT / "docs" / "api.rst"
MODULES = [
    "fairskorch",
    *(
        f"fairskorch.{name}"
        for name in (
            "audit",
            "augment",
            "batches",
            "constraints",
            "datasets",
            "display",
            "exceptions",
            "groups",
            "intervals",
            "metrics",
            "modules",
            "monitor",
            "nets",
            "penalties",
            "rates",
            "sampling",
            "schedules",
            "stopping",
            "selection",
        )
    ),
]


def documented_names():
    """Full names of the entries of all autosummaries and of all data directives."""
    module, inside, names = None, False, []
    for line in API.read_text().splitlines():
        if line.startswith(".. automodule:: "):
            module = line.split(":: ")[1]
        elif line.startswith(".. py:data:: "):
            names.append(f"{module}.{line.split(':: ')[1]}")
        elif line.startswith(".. autosummary::"):
            inside = True
        elif line and not line.startswith(" "):
            inside = False
        elif inside and re.fullmatch(r" +\w+", line):
            names.append(f"{module}.{line.strip()}")
    return names


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_is_on_the_api_page(module):
    public = {f"{module}.{name}" for name in importlib.import_module(module).__all__}
    assert public - set(documented_names()) == set()


def test_every_name_on_the_api_page_exists_and_is_public():
    names = documented_names()
    assert len(names) == len(set(names)) > 50
    for name in names:
        module, _, attribute = name.rpartition(".")
        assert module in MODULES
        assert attribute in importlib.import_module(module).__all__, name


def test_no_public_module_is_left_out():
    package = ROOT / "fairskorch"
    found = {
        "fairskorch." + path.relative_to(package).parts[0].removesuffix(".py")
        for path in package.rglob("*.py")
        if not path.relative_to(package).parts[0].startswith("_")
    }
    # Whose names are offered by the package itself.
    names = ("classifier", "classifier_cv", "constrained", "last_layer")
    names += ("last_layer_cv",)
    inside = {f"fairskorch.{name}" for name in names}
    assert found - set(MODULES) == inside


def test_readme_code_runs(capsys):
    code = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert len(code) == 2
    scope = {}
    with sklearn.config_context():
        for block in code:
            exec(compile(block, "README.md", "exec"), scope)
    assert "equalized_odds_difference" in capsys.readouterr().out
    assert not sklearn.get_config()["enable_metadata_routing"]


def test_readme_is_short_and_its_links_exist():
    text = (ROOT / "README.md").read_text()
    assert text.count("\n") < 150
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", text):
        assert (ROOT / target).is_file(), target


def test_the_page_for_contributors_names_what_is_there():
    text = (ROOT / "docs" / "contributing.rst").read_text()
    named = re.findall(r"``([^`]+)``", text)
    paths = [name for name in named if "/" in name]
    assert len(paths) > 20
    for path in paths:
        assert (ROOT / path).exists(), path
    # Each table is in the file that is named behind it.
    tables = re.findall(r"``([A-Z]+)``\s+of\s+``([^`]+)``", text)
    assert len(tables) == 7
    for table, path in tables:
        assert f"\n{table} = " in (ROOT / path).read_text(), table


def test_the_figure_is_small():
    assert (ROOT / "docs" / "_static" / "demo.png").stat().st_size < 100_000


def load_demo():
    spec = importlib.util.spec_from_file_location("demo", ROOT / "examples/demo.py")
    demo = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(demo)
    return demo


def test_the_table_in_the_readme_is_the_demos():
    demo = load_demo()
    text = (ROOT / "README.md").read_text()
    start, end = (text.index(mark) for mark in demo.MARKS)
    shown = text[start:end]
    for arm in demo.ARMS:
        assert shown.count(f"| {arm} ") == 2


@pytest.mark.parametrize("flat", [(), ("EO, plain loop",), ("EO, defaults",)])
def test_the_demos_sentences_name_constant_predictions(flat):
    demo = load_demo()
    rng = np.random.default_rng(0)
    rows = [
        (rng.normal(size=(80, 1)), rng.integers(0, 2, 80), rng.choice(["f", "m"], 80))
        for _ in range(2)
    ]

    class Model:
        def __init__(self, constant):
            self.constant = constant

        def predict(self, X):
            return np.zeros(len(X), int) if self.constant else (X[:, 0] > 0).astype(int)

    models = {arm: Model(arm in flat) for arm in demo.ARMS}
    reports = {
        arm: fairness_report(
            model,
            train=rows[0],
            test=rows[1],
            metrics=list(demo.METRICS),
            baseline=None if arm == demo.DEFAULTS else models[demo.DEFAULTS],
            random_state=0,
        )
        for arm, model in models.items()
    }
    said = demo.sentences(reports, list(flat))
    assert said.count("one class for every row") == len(flat)
    assert "nan" not in said
    assert len(demo.table(reports).splitlines()) == 2 + 2 * len(models)


def test_the_demo_renews_only_its_part_of_the_readme(tmp_path, monkeypatch):
    demo = load_demo()
    (tmp_path / "docs" / "_static").mkdir(parents=True)
    shutil.copy(ROOT / "README.md", tmp_path)
    figure = tmp_path / "figure.png"
    figure.write_bytes(b"png")
    monkeypatch.setattr(demo, "ROOT", tmp_path)
    for text in ("first \\1", "second"):
        demo.write_readme(text, figure)
    before, after = (
        p.read_text() for p in (ROOT / "README.md", tmp_path / "README.md")
    )
    start, end = demo.MARKS
    assert after.split(start)[0] == before.split(start)[0]
    assert after.split(end)[1] == before.split(end)[1]
    assert after.split(start)[1].split(end)[0] == "\nsecond\n"
    assert (tmp_path / "docs" / "_static" / "demo.png").read_bytes() == b"png"
