"""Imports go one way, files stay rooms, and no loop waits for the device."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "fairskorch"
FILES = sorted(PACKAGE.rglob("*.py"))

#: What each room may import of the package, and which frameworks.
ARROWS = {
    "exceptions": {"sklearn"},
    "_names": set(),
    "_validation": {"sklearn", "_names"},
    "_params": {"sklearn"},
    "groups": {"numpy", "pandas"},
    "rates": {"torch"},
    "penalties": {"torch", "rates"},
    "_cells": {"torch", "numpy"},
    "sampling": {"torch", "_cells"},
    "augment": {"torch"},
    "modules": {"torch"},
    "_sources": {"torch", "numpy"},
    "batches": {"torch", "numpy", "skorch", "_sources", "groups"},
    "metrics": {
        *("torch", "numpy", "pandas", "sklearn", "fairlearn"),
        *("_names", "rates", "groups", "exceptions"),
    },
    "intervals": {"torch", "numpy", "pandas", "scipy", "metrics"},
    "audit": {
        *("torch", "numpy", "pandas", "scipy", "fairlearn", "matplotlib", "sklearn"),
        *("_marks", "display", "groups", "intervals", "metrics", "rates"),
    },
    "_candidates": {"numpy", "pandas", "_names", "metrics"},
    "_rules": {"numpy", "_candidates", "exceptions"},
    "selection": {"numpy", "pandas", "_candidates", "_rules"},
    "display": {
        *("numpy", "pandas", "sklearn", "matplotlib"),
        *("_candidates", "intervals", "metrics"),
    },
    "monitor": {"torch", "skorch", "_cells", "metrics", "rates"},
    "_progress": {"skorch", "tqdm"},
    "stopping": {"numpy", "pandas", "skorch", "_candidates", "_names", "exceptions"},
    "_steps": {"torch", "modules", "rates"},
    "_streams": {"_sources"},
    "_averaging": {"torch"},
    "_cross_entropy": {"torch"},
    "schedules": set(),
    "_penalised_loss": {"torch", "_cross_entropy", "_streams", "schedules"},
    "_net_rows": {"torch", "_penalised_loss", "_streams", "batches", "sampling"},
    "_net_epochs": {
        *("skorch", "_averaging", "_steps", "_streams", "batches", "exceptions"),
    },
    "nets": {
        *("torch", "skorch", "_net_epochs", "_net_rows", "_penalised_loss", "batches"),
        "monitor",
    },
    "_inputs": {"torch", "numpy", "sklearn", "batches", "exceptions"},
    "_preparation": {
        *("numpy", "pandas", "sklearn", "exceptions", "groups", "_validation"),
    },
    "_divisions": {"numpy", "_cells"},
    "_settings": {
        *("torch", "numpy", "sklearn", "_names", "_validation", "penalties"),
        "schedules",
    },
    "_parts": {
        *("torch", "numpy", "skorch", "_settings", "_validation", "modules"),
        *("_progress", "stopping"),
    },
    "_building": {
        *("torch", "numpy", "pandas", "skorch", "_attributes", "_parts"),
        *("_validation", "augment", "nets"),
    },
    "constraints": {
        *("torch", "numpy", "pandas", "scipy", "fairlearn", "_validation"),
        *("_names", "intervals"),
    },
    "_players": {"torch"},
    "_mixtures": {"torch", "numpy", "scipy"},
    "_games": {"torch", "_cross_entropy", "penalties", "rates"},
    "_balls": {"torch", "rates"},
    "_shared_pass": {"torch", "numpy"},
    "_constrained_net": {
        *("torch", "_balls", "_cross_entropy", "_mixtures", "_penalised_loss"),
        *("_shared_pass", "batches", "monitor", "nets"),
    },
    "_round_rows": {"torch", "numpy", "_cells"},
    "_deployment": {"torch", "numpy", "pandas", "_mixtures", "constraints"},
    "_certificate": {"torch"},
    "_bounded": {
        *("torch", "numpy", "pandas", "_building", "_constrained_net", "_deployment"),
        "_divisions",
        *("_games", "_marks", "_neural", "_parts", "_players", "_preparation"),
        "_round_rows",
        *("_validation", "constraints", "exceptions", "monitor", "sampling"),
    },
    "_answers": {
        *("torch", "numpy", "sklearn", "matplotlib", "_certificate", "_mixtures"),
        *("_preparation", "_probabilities", "_round_rows", "_settings"),
    },
    "constrained": {
        *("torch", "numpy", "sklearn", "_answers", "_bounded", "_divisions"),
        "_preparation",
        *("_settings", "_validation", "augment", "sampling"),
    },
    "_marks": {"numpy"},
    "_probabilities": {"torch", "numpy", "rates", "sampling"},
    "_attributes": {"_names", "_validation", "groups", "metrics"},
    "_estimator_rows": {
        *("torch", "numpy", "sklearn", "_attributes", "_divisions", "_preparation"),
        *("_inputs", "batches", "groups"),
    },
    "_neural": {
        *("torch", "numpy", "sklearn", "_building", "_estimator_rows", "_marks"),
        *("_params", "_parts", "_probabilities", "_settings", "exceptions"),
        *("modules", "monitor", "rates"),
    },
    "classifier": {
        *("torch", "numpy", "sklearn", "_neural", "_preparation", "_settings"),
        *("_validation", "augment", "sampling", "schedules"),
    },
    "_features": {"torch", "numpy", "skorch", "sklearn", "batches", "modules"},
    "_paths": {
        *("numpy", "pandas", "sklearn", "_candidates", "_rules", "_settings"),
        *("_names", "_validation", "metrics"),
    },
    "_objective": {"torch", "penalties"},
    "_heads": {
        *("torch", "numpy", "_objective", "exceptions", "metrics", "penalties"),
    },
    "_row_sets": {"numpy", "sklearn", "_cells"},
    "_fine_tuning_rows": {
        *("torch", "numpy", "sklearn", "_divisions", "_features", "_preparation"),
        "_row_sets",
        *("_settings", "batches"),
    },
    "_fine_tuning": {
        *("torch", "numpy", "pandas", "sklearn", "tqdm", "_features", "_heads"),
        *("_fine_tuning_rows", "_marks", "_neural", "_probabilities", "_settings"),
        *("_validation", "batches", "exceptions", "modules", "rates"),
    },
    "_scopes": {"torch", "numpy", "_building", "_validation", "monitor", "nets"},
    "last_layer": {
        *("torch", "numpy", "_features", "_fine_tuning", "_preparation", "_scopes"),
        *("_settings", "_validation"),
    },
    "_head_scores": {"torch", "numpy", "sklearn", "_paths", "_probabilities"},
    "last_layer_cv": {
        *("torch", "numpy", "_features", "_fine_tuning"),
        *("_head_scores", "_heads", "_preparation", "_settings", "_validation"),
        *("_paths",),
    },
    "_batched_layers": {"torch"},
    "_stacks": {"torch", "_batched_layers", "_settings", "_steps", "rates"},
    "_side_by_side": {
        *("torch", "_batched_layers", "_objective", "_settings", "_stacks", "batches"),
        "nets",
        "penalties",
    },
    "_network_scores": {"torch", "metrics", "rates"},
    "_network_paths": {
        *("torch", "numpy", "sklearn", "tqdm", "_batched_layers", "_building"),
        *("_features", "_network_scores", "_parts", "_paths", "_settings"),
        "_side_by_side",
        *("classifier", "exceptions"),
    },
    "classifier_cv": {
        *("torch", "numpy", "sklearn", "_features", "_network_paths", "_neural"),
        *("_paths", "_preparation", "_settings", "_validation", "classifier"),
        "groups",
    },
    "datasets": {
        *("numpy", "pandas", "scipy", "sklearn", "PIL", "joblib", "tqdm", "_names"),
    },
    "__init__": {
        *("classifier", "classifier_cv", "constrained", "last_layer"),
        "last_layer_cv",
    },
}


def room(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path):
    """Return the frameworks and rooms that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module]
            if node.module == "fairskorch":
                names = [f"fairskorch.{alias.name}" for alias in node.names]
        for name in names:
            top, *rest = name.split(".")
            if top == "fairskorch":
                found.add(rest[0])
            elif top not in sys.stdlib_module_names:
                found.add(top)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_arrows_go_one_way(path):
    own = room(path)
    assert own in ARROWS, f"say in ARROWS what {own} may import"
    assert imports(path) - {own} <= ARROWS[own]


def test_no_arrow_is_left_over():
    used = {name: set() for name in ARROWS}
    for path in FILES:
        used[room(path)] |= imports(path)
    assert {k: unused for k, v in ARROWS.items() if (unused := v - used[k])} == {}


def test_arrows_have_no_cycle():
    done = []
    while len(done) < len(ARROWS):
        ready = [
            name
            for name, needs in ARROWS.items()
            if name not in done and not (needs & ARROWS.keys()) - set(done)
        ]
        assert ready, f"a cycle among {ARROWS.keys() - set(done)}"
        done += ready


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_scikit_learns_private_names_are_imported_in_one_room(path):
    private = [
        f"{node.module}.{alias.name}"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module.startswith("sklearn")
        for alias in node.names
        if "._" in f"{node.module}.{alias.name}"
    ]
    assert room(path) == "_validation" or not private


@pytest.mark.parametrize(
    ("name", "times"),
    [
        *(("_net_epochs", 1), ("nets", 0), ("penalties", 0), ("rates", 0)),
        *(("batches", 0), ("_steps", 0), ("_penalised_loss", 0)),
        *(("_games", 0), ("_players", 0), ("constraints", 0)),
        *(("_constrained_net", 0), ("_balls", 0), ("_shared_pass", 0), ("monitor", 0)),
    ],
)
def test_no_value_is_read_from_the_device_in_a_step(name, times):
    # The one time: the loss of a batch that a callback asked for.
    calls = [
        node
        for path in FILES
        if room(path) == name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "item"
    ]
    assert len(calls) == times


def test_optional_packages_are_not_imported_with_the_package():
    code = (
        "import sys, fairskorch, fairskorch.audit, fairskorch.datasets;"
        "import fairskorch.display;"
        "print([m for m in ('matplotlib', 'PIL', 'torchvision') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
