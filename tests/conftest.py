import os

import numpy as np
import pytest
import torch

# Deterministic matrix products on CUDA need it before the first of them.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    # The networks here are so small that a second thread only waits.
    torch.set_num_threads(1)


@pytest.fixture(
    params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)], scope="session"
)
def device(request):
    if request.param == "cuda":
        assert torch.cuda.is_available(), "marker gpu needs a CUDA device"
    return request.param


@pytest.fixture(params=[torch.float32, torch.float64], ids=["float32", "float64"])
def dtype(request):
    return request.param


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def table():
    """Rows of two groups and two classes, one group rarer; do not change them."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 5)).astype(np.float32)
    groups = np.where(rng.random(400) < 0.3, "b", "a")
    score = X[:, 0] + 0.8 * (groups == "b") + 0.5 * rng.normal(size=400)
    return X, (score > 0.5).astype(int), groups


@pytest.fixture(scope="session")
def images():
    """Small uint8 images whose brightness tells the class; do not change them."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 60)
    X = rng.integers(0, 120, size=(60, 3, 12, 12)) + 100 * y[:, None, None, None]
    return X.astype(np.uint8), y, rng.integers(0, 2, 60)
