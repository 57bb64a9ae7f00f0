"""Steps as CUDA graphs, and the ways on which rows come to the device."""

import copy
import logging
import pickle
import shutil
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback, GradientNormClipping
from torch.utils.data import Dataset

from fairskorch import FairNeuralClassifier, _sources
from fairskorch.batches import Batches, GroupedRows
from fairskorch.modules import MLP, SmallResNet

gpu = pytest.mark.gpu


@pytest.fixture
def exact(monkeypatch):
    """Have no kernel whose sums depend on the order of threads."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(before)


@pytest.fixture
def pictures(rng):
    """Enough images for 26 batches; two rows less than whole ones."""
    groups = rng.integers(0, 2, 414)
    y = rng.integers(0, 2, 414)
    X = rng.integers(0, 200, (414, 3, 16, 16)) + 50 * y[:, None, None, None]
    return X.astype(np.uint8), y, groups


def fit(data, **params):
    settings = {
        "module": SmallResNet,
        "module__width": 4,
        "batch_size": 16,
        "max_epochs": 2,
        "validation_fraction": 0,
        "precision": "float32",
        "device": "cuda",
        "random_state": 0,
        **params,
    }
    return FairNeuralClassifier(**settings).fit(*data)


def weights(clf):
    parts = clf.net_.module_.state_dict().values()
    return torch.cat([part.detach().double().flatten().cpu() for part in parts])


def distance(clf, other):
    a, b = weights(clf), weights(other)
    return float((a - b).norm() / b.norm())


class Chain(torch.nn.Module):
    """What may go wrong in a graph, on top of a linear layer."""

    def __init__(self, n_features, n_classes, waits="never"):
        super().__init__()
        self.layer = torch.nn.Linear(n_features, n_classes)
        self.drop = torch.nn.Dropout(0.2)
        self.waits = waits

    def forward(self, X):
        outputs = self.layer(self.drop(X))
        capturing = X.is_cuda and torch.cuda.is_current_stream_capturing()
        if self.waits == "always" or (self.waits == "capture" and capturing):
            return outputs if outputs.detach().sum() > 0 else 2 * outputs
        return outputs


@gpu
@pytest.mark.parametrize(
    "params",
    [
        {},
        {"augment": "flip+shift"},
        {"penalty": None},
        {"penalty__running": "predictions"},
        {"penalty": "mindiff", "penalty__memory": 0.5},
        {"sampler": "stratified", "batch_size": 23},
        {"optimizer": torch.optim.SGD, "optimizer__momentum": 0.9},
        {"optimizer": torch.optim.NAdam},
        {"optimizer__fused": False},
        {"optimizer__weight_decay": 0.1, "lr": 1e-3},
        {"class_weight": "balanced"},
        {"precision": "float64"},
        {"penalty_data": "holdout", "penalty__memory": 0.9},
        {"penalty_data": "holdout", "penalty": "ae", "augment": "flip"},
        {"flood": 0.5, "ema_decay": 0.9},
        {"penalty_schedule": "ascent"},
    ],
    ids=str,
)
def test_a_graph_trains_as_kernels_one_by_one(params, pictures, exact, caplog):
    captured = fit(pictures, capture=True, **params)
    plain = fit(pictures, capture=False, **params)
    assert distance(captured, plain) <= 1e-5
    assert not caplog.records
    loss = captured.history_["objective"]
    np.testing.assert_allclose(loss, plain.history_["objective"], rtol=1e-4)


@gpu
def test_a_graph_draws_what_kernels_one_by_one_draw(rng, exact):
    X = rng.normal(size=(414, 6)).astype(np.float32)
    data = X, (X[:, 0] > 0).astype(int), rng.integers(0, 2, 414)
    settings = {"batch_size": 16, "max_epochs": 3, "device": "cuda", "random_state": 0}
    captured, plain = (
        FairNeuralClassifier(MLP, module__dropout=0.5, capture=capture, **settings).fit(
            *data
        )
        for capture in (True, False)
    )
    assert distance(captured, plain) <= 1e-5


@gpu
@pytest.mark.parametrize("capture", [True, False])
def test_the_same_seed_gives_the_same_bits_on_cuda(capture, pictures, exact):
    first, second = (
        fit(pictures, capture=capture, augment="flip", precision="bfloat16")
        for _ in range(2)
    )
    assert torch.equal(weights(first), weights(second))


@gpu
@pytest.mark.parametrize("waits", ["always", "capture"])
def test_a_module_that_waits_for_the_device_trains_without_a_graph(
    waits, rng, exact, caplog
):
    X = rng.normal(size=(414, 6)).astype(np.float32)
    data = X, (X[:, 0] > 0).astype(int), rng.integers(0, 2, 414)
    settings = {
        "module": Chain,
        "module__waits": waits,
        "batch_size": 16,
        "max_epochs": 3,
        "device": "cuda",
        "random_state": 0,
    }
    plain = FairNeuralClassifier(capture=False, **settings).fit(*data)
    assert not caplog.records
    captured = FairNeuralClassifier(capture=True, **settings).fit(*data)
    assert distance(captured, plain) <= 1e-6
    (record,) = caplog.records
    assert "not captured" in record.getMessage()
    # The generator of the device is not left in the midst of a capture.
    assert torch.rand(3, device="cuda").shape == (3,)


@gpu
@pytest.mark.filterwarnings("ignore:TensorFloat32", "ignore:The CUDA Graph is empty")
@pytest.mark.parametrize(
    "params, reason",
    [
        ({"optimizer": torch.optim.Adagrad}, "Adagrad has no capturable"),
        ({"module__hooked": True}, "has hooks"),
        ({"compile": True, "compile__mode": "reduce-overhead"}, "graphs of its own"),
    ],
    ids=str,
)
def test_what_a_graph_would_get_wrong_is_not_captured(params, reason, pictures, caplog):
    class Hooked(SmallResNet):
        def __init__(self, in_channels, n_classes, hooked=False):
            super().__init__(in_channels, n_classes, width=4)
            if hooked:
                self.head.register_forward_hook(lambda *args: None)

    params = {"module": Hooked, **params}
    if "compile" in params:
        params["max_epochs"] = 1
    settings = {"device": "cuda", "validation_fraction": 0, "random_state": 0}
    FairNeuralClassifier(capture=True, batch_size=64, **settings, **params).fit(
        *pictures
    )
    # The compiler has a log of its own.
    said = [r.getMessage() for r in caplog.records if r.name.startswith("fairskorch")]
    assert [reason in text for text in said] == [True]


@gpu
def test_changes_between_epochs_reach_a_graph(pictures, exact):
    class Changes(Callback):
        def on_epoch_begin(self, net, **kwargs):
            epoch = len(net.history)
            net.module_.stem.requires_grad_(epoch % 2 == 0)
            for group in net.optimizer_.param_groups:
                group["weight_decay"] = 0.1 * epoch

    captured, plain = (
        fit(pictures, capture=capture, callbacks=[Changes()], max_epochs=4)
        for capture in (True, False)
    )
    assert distance(captured, plain) <= 1e-5


@gpu
def test_a_hook_inside_the_step_is_called_at_every_step(pictures, exact):
    class Counts(Callback):
        n_steps = 0

        def on_grad_computed(self, net, **kwargs):
            type(self).n_steps += 1

    clip = GradientNormClipping(gradient_clip_value=0.1)
    fit(pictures, capture=True, callbacks=[Counts(), clip])
    assert Counts.n_steps == 2 * 26


@gpu
def test_a_fit_with_graphs_is_copied_pickled_and_gone_on_with(pictures, exact):
    class Copies(Callback):
        def on_epoch_end(self, net, **kwargs):
            self.copy_ = copy.deepcopy(net)

    copies = Copies()
    clf = fit(pictures, capture=True, callbacks=[copies])
    before = weights(clf)
    clf.set_params(warm_start=True).fit(*pictures)
    assert not torch.equal(weights(clf), before)
    kept = copies.copy_.module_.state_dict().values()
    assert torch.cat([part.double().flatten().cpu() for part in kept]).shape == (
        before.shape
    )


@gpu
def test_an_interrupted_graph_leaves_what_was_trained(pictures):
    class Stop(Callback):
        def on_epoch_end(self, net, **kwargs):
            if len(net.history) == 2:
                raise KeyboardInterrupt

    clf = fit(pictures, capture=True, callbacks=[Stop()], max_epochs=9)
    assert clf.n_iter_ == 2
    assert clf.predict(pictures[0]).shape == (414,)


class Items(Dataset):
    def __init__(self, X, y, groups):
        self.X, self.y, self.groups = X, y, groups

    def __len__(self):
        return len(self.X)

    def __getitem__(self, i):
        return torch.as_tensor(self.X[i]), self.y[i], self.groups[i]


@gpu
@pytest.mark.parametrize("capture", [True, False])
def test_rows_train_alike_wherever_they_lie(
    capture, pictures, exact, tmp_path, monkeypatch
):
    X, y, groups = pictures
    expected = fit(pictures, capture=capture)
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert distance(fit((mapped, y, groups), capture=capture), expected) == 0
    # Processor and device round a division by 255 differently.
    scaled = (X / 256).astype(np.float32)
    floats = fit((scaled, y, groups), capture=capture)
    for workers in (0, 2):
        found = fit(
            (Items(scaled, y, groups),),
            capture=capture,
            iterator_train__num_workers=workers,
        )
        assert distance(found, floats) == 0
    monkeypatch.setattr(_sources, "STAGED_SHARE", 0)
    assert distance(fit(pictures, capture=capture), expected) == 0
    assert distance(fit((mapped, y, groups), capture=capture), expected) == 0


@gpu
@pytest.mark.parametrize("channels_last", [False, True])
def test_many_rows_reach_the_device_as_they_are(channels_last, rng, tmp_path):
    # So many that threads take turns to send them.
    X = rng.integers(0, 256, (3000, 3, 64, 64)).astype(np.uint8)
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    turned = torch.from_numpy(X).to(memory_format=torch.channels_last)
    wanted = torch.from_numpy(X).float()
    some = torch.from_numpy(rng.permutation(3000))
    for given in (X, mapped, turned, wanted.bfloat16(), wanted.cuda()):
        rows = GroupedRows(given)
        batches = Batches(rows, 1000, device="cuda", channels_last=channels_last)
        found = batches.batch(some)[0]["X"].cpu()
        scale = 255 if rows.source.data.dtype in (np.uint8, torch.uint8) else 1
        torch.testing.assert_close(scale * found, wanted[some], rtol=1e-6, atol=0)


def _starved_fit():
    """Fit rows for which this process has no room; return what was logged."""
    messages = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    logging.getLogger("fairskorch").addHandler(handler)
    wide = np.zeros((120_000, 3, 64, 64), dtype=np.uint8)
    rows = np.arange(120_000)
    small = wide[:400], rows[:400] % 2, rows[:400] // 2 % 2
    expected = fit(small)
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    # The driver says that most is free; this process may not have it.
    torch.cuda.set_per_process_memory_fraction(1200 * 2**20 / total)
    # Monitoring reads more rows at a time than there is memory left for.
    settings = {"max_epochs": 1, "batch_size": 64, "monitor": None}
    clf = fit((wide, rows % 2, rows // 2 % 2), **settings)
    torch.cuda.set_per_process_memory_fraction(1.0)
    return clf.n_iter_, messages, distance(fit(small), expected)


@gpu
def test_rows_for_which_there_is_no_room_are_streamed():
    # A process of its own: what others keep on the device would count.
    with ProcessPoolExecutor(1, get_context("spawn")) as one:
        n_epochs, messages, moved = one.submit(_starved_fit).result()
    assert n_epochs == 1
    (message,) = messages
    assert "has no room for the 1.5 GB of X" in message
    assert moved < 1e-4


@gpu
def test_bfloat16_images_lie_channels_last(pictures):
    class Looks(SmallResNet):
        seen = []

        def forward(self, X):
            self.seen.append(X.is_contiguous(memory_format=torch.channels_last))
            return super().forward(X)

    for layout in (pictures[0], pictures[0].transpose(0, 2, 3, 1)):
        Looks.seen.clear()
        fit((layout, *pictures[1:]), module=Looks, precision="bfloat16", max_epochs=1)
        assert Looks.seen
        assert all(Looks.seen)


def test_capture_asked_for_on_the_cpu_is_logged_once(table, caplog):
    settings = {"max_epochs": 2, "random_state": 0, "device": "cpu"}
    with caplog.at_level(logging.WARNING, logger="fairskorch"):
        asked = FairNeuralClassifier(capture=True, **settings).fit(*table)
    (record,) = caplog.records
    assert "the device is cpu" in record.getMessage()
    auto = FairNeuralClassifier(**settings).fit(*table)
    assert torch.equal(weights(asked), weights(auto))
    assert len(caplog.records) == 1
    clip = GradientNormClipping(gradient_clip_value=1)
    FairNeuralClassifier(capture=True, callbacks=[clip], **settings).fit(*table)
    assert "a callback has a hook inside the step" in caplog.records[1].getMessage()
    assert len(caplog.records) == 2


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_pages_of_a_memory_map_are_given_back_and_changes_are_kept(
    mode, pictures, tmp_path, monkeypatch
):
    X, y, groups = pictures
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode=mode)
    expected = X
    if mode != "r":
        expected = X.copy()
        mapped[:50] = expected[:50] = 255 - X[:50]
    monkeypatch.setattr(_sources, "MAPPED", 10_000)
    settings = {"device": "cpu", "max_epochs": 1}
    found = fit((mapped, y, groups), **settings)
    assert torch.equal(weights(found), weights(fit((expected, y, groups), **settings)))


def test_optimisers_keep_the_implementation_that_was_asked_for(table):
    settings = {"max_epochs": 1, "random_state": 0, "device": "cpu"}
    chosen = FairNeuralClassifier(**settings).fit(*table).net_.optimizer_
    assert chosen.defaults["fused"] is True
    plain = FairNeuralClassifier(optimizer__foreach=False, **settings).fit(*table)
    assert not plain.net_.optimizer_.defaults["fused"]
    other = FairNeuralClassifier(optimizer=torch.optim.Adagrad, **settings).fit(*table)
    assert not other.net_.optimizer_.defaults.get("fused")


def test_an_optimiser_that_calls_the_closure_again_trains(table):
    settings = {"max_epochs": 3, "random_state": 0, "device": "cpu", "lr": 0.1}
    clf = FairNeuralClassifier(optimizer=torch.optim.LBFGS, penalty=None, **settings)
    loss = clf.fit(*table[:2]).history_["train_loss"]
    assert loss.iloc[-1] < 0.6


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the compiler
@pytest.mark.skipif(shutil.which("g++") is None, reason="the compiler needs g++")
def test_a_compiled_module_trains_pickles_and_goes_on(table):
    settings = {"max_epochs": 2, "random_state": 0, "device": "cpu"}
    plain = FairNeuralClassifier(**settings).fit(*table)
    clf = FairNeuralClassifier(compile=True, warm_start=True, **settings).fit(*table)
    expected = plain.predict_proba(table[0])
    np.testing.assert_allclose(clf.predict_proba(table[0]), expected, atol=1e-5)
    copied = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(
        copied.predict_proba(table[0]), clf.predict_proba(table[0])
    )
    assert clf.fit(*table).n_iter_ == 4


@pytest.mark.filterwarnings("ignore")  # of the compiler
def test_a_compiled_module_is_compiled_for_training_alone_where_nothing_else_runs(
    table,
):
    with_gradient = []

    def backend(graph, inputs):
        with_gradient.append(torch.is_grad_enabled())
        return graph

    settings = {"max_epochs": 1, "random_state": 0, "device": "cpu"}
    clf = FairNeuralClassifier(
        compile=True, compile__backend=backend, monitor=None, **settings
    ).fit(*table)
    assert with_gradient
    assert all(with_gradient)
    clf.predict(table[0])
    assert not all(with_gradient)
