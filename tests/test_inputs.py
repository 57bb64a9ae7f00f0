"""Bad input: one clear error each, and nothing changed."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.exceptions import NotFittedError
from sklearn.utils._param_validation import InvalidParameterError
from torch.utils.data import Dataset

from fairskorch import FairNeuralClassifier, FairNeuralClassifierCV
from fairskorch.exceptions import (
    EmptyCellWarning,
    NonFiniteLossError,
    UnknownGroupWarning,
    UnscaledImagesWarning,
)
from fairskorch.penalties import EqualizedOdds

N = 40
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 3))
Y = np.arange(N) % 2
G = np.arange(N) // 2 % 2
TABLE = pd.DataFrame(X, columns=["age", "sex", "size"])
IMAGES = RNG.integers(0, 256, (N, 3, 12, 12)).astype(np.uint8)


# One epoch on forty rows of noise may well end in one class; that is tested elsewhere.
pytestmark = pytest.mark.filterwarnings(
    "ignore::fairskorch.exceptions.ConstantPredictionWarning"
)


def quick(**params):
    return FairNeuralClassifier(**{"max_epochs": 1, "random_state": 0, **params})


def with_(array, row, value):
    array = np.array(array, dtype=object if isinstance(value, str) else None)
    array[row] = value
    return array


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((X, Y), {}, "penalty='eo' needs the group of every training row"),
        ((X, Y, G), {"sensitive_features": G}, "got both groups and sensitive_feat"),
        ((X, Y[:-1], G), {}, "y of FairNeuralClassifier has 39 rows and X has 40"),
        ((X, Y, G[:-1]), {}, "groups of FairNeuralClassifier has 39 rows"),
        ((X, Y, [None] * N), {}, "there is no known group"),
        ((X, Y, ["a"] * N), {}, r"there is one group only: \['a'\]"),
        ((X, None, G), {}, "requires y to be passed"),
        ((X, np.zeros(N), G), {}, "at least two classes in y; got one class"),
        ((X, RNG.normal(size=N), G), {}, "Unknown label type: continuous"),
        ((with_(X, (1, 1), np.nan), Y, G), {}, "NaN"),
        ((with_(X, (1, 1), np.inf), Y, G), {}, "infinity"),
        (
            (with_(X, (1, 1), "red"), Y, G),
            {},
            "holds values that are no numbers: could not",
        ),
        ((X, with_(Y.astype(object), 3, None), G), {}, "y .* holds missing values"),
        (
            (X, np.array(["a", 1] * 20, dtype=object), G),
            {},
            r"y of FairNeuralClassifier mixes labels of the types \['int', 'str'\]",
        ),
        ((X, Y, G), {"subjects": 3}, r"subjects of .* must be 1-D.*shape \(\)"),
        ((X, Y, G), {"subjects": X}, r"subjects of .* must be 1-D.*shape \(40, 3\)"),
        ((X, Y, 3), {}, "must hold one label, or one row of labels"),
        ((X, Y, "sex"), {}, r"got the string 'sex'. Pass the column .* X\['sex'\]"),
        ((TABLE, Y, ["sex"]), {}, r"pass groups=X\[\['sex'\]\]"),
        ((TABLE, Y, ["sex", "age"]), {}, "groups of .*, not names of columns; got"),
        (
            (TABLE, Y, G),
            {"X_val": TABLE, "y_val": Y, "groups_val": TABLE.columns},
            r"groups_val of .*: pass groups_val=X_val\[\['age', 'sex', 'size'\]\]",
        ),
        ((TABLE, Y, ["sex", "race"]), {}, "has 2 rows and X has 40"),
        ((X[:, 0], Y, G), {}, "Expected 2D array, got 1D array"),
        ((X[:0], Y[:0], G[:0]), {}, "0 sample"),
        ((X, Y, G), {"sample_weight": np.zeros(N)}, "is zero for every row"),
        ((X, Y, G), {"sample_weight": -np.ones(N)}, "[Nn]egative"),
        ((X, Y, G), {"sample_weight": np.ones(3)}, "sample_weight"),
        ((X, Y, G), {"y_val": Y}, "got y_val or groups_val without X_val"),
        ((X, Y, G), {"X_val": X, "y_val": Y}, "got X_val without groups_val"),
        (
            (X, Y, G),
            {"X_val": X[:, :2], "y_val": Y, "groups_val": G},
            "X has 2 features, but FairNeuralClassifier is expecting 3",
        ),
        (
            (X, Y, G),
            {"X_val": X, "y_val": Y + 1, "groups_val": G},
            r"y_val holds classes that FairNeuralClassifier does not know: \[2\]",
        ),
        ((IMAGES[:, :, :0], Y, G), {}, "every dimension must be at least 1"),
        ((IMAGES[None], Y, G), {}, "must be 2-D, or 3-D or 4-D for images; got 5"),
        ((IMAGES.astype(int), Y, G), {}, "holds images of int64; expected uint8"),
        ((IMAGES[..., :3], Y, G), {}, "both have .* Set channels='first' or"),
        ((np.zeros((N, 9, 12, 12)), Y, G), {}, "neither has .* Set channels='first'"),
        (
            (np.full((N, 3, 12, 12), "a", dtype=object), Y, G),
            {},
            "array of objects that are not numbers",
        ),
        (
            (np.full((N, 3, 12, 12), np.nan), Y, G),
            {},
            "Input X contains NaN",
        ),
    ],
)
def test_bad_data_is_refused_before_any_work(args, kwargs, message):
    clf = quick()
    with pytest.raises(ValueError, match=message):
        clf.fit(*args, **kwargs)
    assert set(vars(clf)) == set(vars(quick()))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"penalty": "oe"}, "'penalty' parameter .* Did you mean 'eo'"),
        ({"penalty": "equalised_odds"}, "'eo' .EqualizedOdds.*Did you mean 'eo'"),
        ({"penalty": "demographic parity"}, "Did you mean 'dp'"),
        ({"penalty": "max-min loss"}, "Did you mean 'mmf'"),
        ({"penalty": "?"}, r"'mmf' \(MaxMinLoss\)\. Got '\?' instead\.$"),
        ({"penalty": EqualizedOdds(2)}, "Pass the class; .* penalty__reduction"),
        ({"penalty": torch.nn.Linear}, "a class derived from .*GroupPenalty"),
        ({"penalty_weight": -1}, "'penalty_weight' parameter .* Got -1"),
        ({"penalty_weight": float("nan")}, "'penalty_weight' parameter .* Got nan"),
        ({"penalty": "mmf", "penalty_weight": 2}, "at most 1.0 with MaxMinLoss"),
        ({"penalty_warmup": -1}, "'penalty_warmup' parameter"),
        ({"penalty_warmup": 1.5}, "'penalty_warmup' parameter"),
        ({"sampler": "balanced"}, "'sampler' parameter"),
        ({"monitor": "none"}, "'monitor' parameter"),
        ({"precision": "float16"}, "'precision' parameter"),
        ({"module": 3}, "'module' parameter .* Got 3"),
        ({"callbacks": [print]}, "'callbacks' parameter .* must hold callbacks"),
        ({"penalti": "eo"}, "no parameter 'penalti'. Did you mean 'penalty'"),
        ({"weight_decay": 0.1}, "Did you mean 'optimizer__weight_decay'"),
        ({"train_split": None}, "Did you mean 'validation_fraction'"),
        ({"learning_rate": 0.1}, "Did you mean 'lr'"),
        ({"compile__mood": "default"}, "compile takes no 'mood'. Did you mean 'mode'"),
        ({"capture": "always"}, "The 'capture' parameter"),
        ({"penalty__slop": 2}, "penalty takes no 'slop'. Did you mean 'slope'"),
        ({"penalty__n_groups": 2}, "penalty takes no 'n_groups'"),
        ({"module__hiden": (3,)}, "module takes no 'hiden'. Did you mean 'hidden'"),
        ({"optimizer__weight_deacy": 1}, "Did you mean 'weight_decay'"),
        ({"optimiser__lr": 1}, "no part 'optimiser'. Did you mean 'optimizer'"),
        ({"callbacks__progres": None}, "Did you mean 'progress'"),
        ({"class_weight": "balance"}, "'class_weight' parameter"),
        (
            {"module": torch.nn.Linear(3, 2), "module__bias": False},
            "'module__bias' has no effect; pass the class instead",
        ),
        (
            {"module": torch.nn.Linear(3, 3)},
            r"returns \(2, 3\) for 2 rows; expected logits of shape \(2, 2\)",
        ),
        (
            {"module": torch.nn.Linear(4, 2)},
            r"fails on 2 rows, a tensor of shape \(2, 3\) and torch.float32: mat1",
        ),
        (
            {"module": torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Softmax(1))},
            "returns probabilities; expected logits. Leave its softmax out",
        ),
        (
            {"criterion": torch.nn.NLLLoss},
            "criterion NLLLoss of FairNeuralClassifier compares log-probabilities",
        ),
        ({"module": torch.nn.Linear}, "'in_features': pass module__in_features=..."),
        ({"optimizer__lr": 0.1}, "optimizer takes no 'lr'"),
        ({"criterion__reduction": "sum"}, "criterion takes no 'reduction'"),
        ({"criterion": torch.nn.CrossEntropyLoss()}, "must be a class, whose"),
        ({"criterion": torch.nn.BCEWithLogitsLoss}, "cannot compare logits of shape"),
        ({"criterion": torch.nn.MSELoss}, "cannot compare logits of shape"),
        ({"augment": "flip"}, "changes images, and X is a table"),
        ({"device": "gpu"}, "must be 'auto' or a device of PyTorch"),
        ({"validation_fraction": "0.2"}, "'validation_fraction' parameter"),
        ({"class_weight": {0: 0.0, 1: 1.0}}, "must be positive for every class"),
        ({"class_weight": {0: 1.0, 1: np.inf}}, "for every class, and finite; got"),
        ({"penalty_attributes": []}, r"'penalty_attributes' .* one at least. Got \[\]"),
        (
            {"penalty_schedule": lambda epoch: 1},
            r"'penalty_schedule' parameter of .* take \(epoch, n_epochs\)",
        ),
        (
            {"penalty": "mindiff", "penalty__bandwidth": np.inf},
            "bandwidth of MinDiff must be positive and finite; got inf",
        ),
        ({"optimizer": torch.nn.Linear}, "'optimizer' parameter .* class of torch.opt"),
        (
            {"optimizer__betas": 3},
            "optimizer AdamW of FairNeuralClassifier cannot be built with optimizer__b",
        ),
        ({"optimizer__weight_decay": -1}, "with optimizer__weight_decay=-1: Invalid"),
        ({"module": lambda: 3}, "'module' parameter .* factory .* that returns 3"),
        ({"module": torch.nn.Identity}, "Identity, has no parameters.* to train"),
        (
            {"module__dropout": 7},
            "module MLP of FairNeuralClassifier cannot be built with module__dropout=7",
        ),
        ({"criterion__weight": [1, 2]}, "criterion Cross.* with criterion__weight="),
        ({"penalty__reduction": "median"}, "reduction of EqualizedOdds must be one"),
        ({"device": "cuda:9"}, "device|CUDA"),
    ],
)
def test_bad_parameters_are_named_at_fit(params, message):
    clf = quick(**params)
    with pytest.raises((ValueError, RuntimeError), match=message):
        clf.fit(X, Y, G)
    assert set(vars(clf)) == set(vars(quick(**params)))


def test_parameter_errors_are_scikit_learns():
    with pytest.raises(InvalidParameterError):
        quick(penalty="oe").fit(X, Y, G)


def test_a_failed_refit_leaves_the_fitted_estimator_as_it_was():
    clf = quick().fit(X, Y, G)
    before = clf.predict_proba(X)
    with pytest.raises(ValueError, match="NaN"):
        clf.fit(np.full((N, 7), np.nan), Y, G)
    np.testing.assert_array_equal(clf.predict_proba(X), before)
    assert clf.n_features_in_ == 3


def test_labels_may_be_the_names_of_columns():
    rows = TABLE.iloc[:4], [0, 1, 0, 1], ["age", "sex", "sex", "age"]
    assert quick(validation_fraction=0).fit(*rows).groups_.tolist() == ["age", "sex"]


@pytest.mark.parametrize("method", ["predict", "predict_proba", "score"])
def test_predict_before_fit(method):
    with pytest.raises(NotFittedError):
        getattr(quick(), method)(*((X, Y) if method == "score" else (X,)))


@pytest.mark.parametrize(
    ("fitted_on", "given", "message"),
    [
        (X, X[:, :2], "X has 2 features, but FairNeuralClassifier is expecting 3"),
        (IMAGES, IMAGES[:, :1], r"= \(1, 12, 12\), but .* fitted on \(3, 12, 12\)"),
        (IMAGES, IMAGES[:, :, :, :8], r"= \(3, 12, 8\), but"),
        (IMAGES, IMAGES / 255, "holds float numbers, but .* fitted on uint8"),
        (IMAGES / 255, IMAGES, "holds uint8 numbers, but .* fitted on float"),
        (IMAGES, X, "no array of images, but .* fitted on images"),
        (X, IMAGES, r"= \(3, 12, 12\), but .* fitted on \(3,\)"),
    ],
)
def test_other_rows_at_predict_are_refused(fitted_on, given, message):
    clf = quick().fit(fitted_on, Y, G)
    with pytest.raises(ValueError, match=message):
        clf.predict(given)


def test_other_feature_names_are_refused():
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    clf = quick().fit(frame, Y, G)
    assert clf.feature_names_in_.tolist() == ["a", "b", "c"]
    with pytest.raises(ValueError, match="feature names should match"):
        clf.predict(frame.rename(columns={"c": "d"}))


def test_an_empty_cell_warns_and_is_named():
    groups = np.where(Y == 1, "f", np.where(np.arange(N) < 20, "f", "m"))
    with pytest.warns(EmptyCellWarning, match="group .*'m'.* no row of class .*1"):
        clf = quick().fit(X, Y, groups)
    assert clf.group_counts_.loc["m", 1] == 0


def test_many_empty_cells_are_counted():
    groups = np.arange(N)
    with pytest.warns(EmptyCellWarning, match=r"and 35 more cells"):
        quick().fit(X, Y, groups)


def test_held_out_groups_that_are_new_count_in_no_group():
    with pytest.warns(UnknownGroupWarning, match=r"not fitted on: \[7\]"):
        quick().fit(X, Y, G, X_val=X, y_val=Y, groups_val=np.where(G == 1, 7, 0))


def test_a_loss_that_is_not_finite_names_the_epoch_and_what_to_try():
    clf = quick(optimizer=torch.optim.SGD, lr=1e30, max_epochs=5, batch_size=8)
    with pytest.raises(NonFiniteLossError, match=r"epoch \d.*smaller lr"):
        clf.fit(X, Y, G)
    assert not hasattr(clf, "net_")


class Items(Dataset):
    def __len__(self):
        return N

    def __getitem__(self, i):
        return torch.as_tensor(X[i], dtype=torch.float32), int(Y[i]), int(G[i])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_that_look_like_bytes_are_named_once(dtype):
    floats = IMAGES.astype(dtype)
    with pytest.warns(UnscaledImagesWarning, match="X of .* Divide them by 255, or"):
        clf = quick().fit(floats, Y, G)
    clf.predict(floats)  # as the network knows them


def test_floats_that_look_like_bytes_after_others_are_named():
    scaled, floats = IMAGES / np.float32(255), IMAGES.astype(np.float32)
    clf = quick().fit(scaled, Y, G)
    with pytest.warns(UnscaledImagesWarning, match="X of .* look like bytes"):
        clf.predict(floats)
    with pytest.warns(UnscaledImagesWarning, match="X_val of .* look like bytes"):
        quick().fit(scaled, Y, G, X_val=floats, y_val=Y, groups_val=G)


@pytest.mark.parametrize("stack", [False, "auto"])
def test_a_search_does_not_name_them_for_each_network(stack):
    params = {"penalty_weights": 4, "cv": 2, "max_epochs": 1, "random_state": 0}
    search = FairNeuralClassifierCV(**params, stack=stack)
    with pytest.warns(UnscaledImagesWarning) as caught:
        search.fit(IMAGES.astype(np.float32), Y, G)
    # Once of the search, once of its last fit.
    assert sum(w.category is UnscaledImagesWarning for w in caught) == 2


def test_items_that_look_like_bytes_are_named():
    class Images(Items):
        def __getitem__(self, i):
            return torch.as_tensor(IMAGES[i]).float(), *super().__getitem__(i)[1:]

    with pytest.warns(UnscaledImagesWarning):
        quick().fit(Images())


@pytest.mark.parametrize(
    "images",
    [
        IMAGES / 255,
        (IMAGES - 128.0) / 64,
        IMAGES - 128.0,
        IMAGES % 17 * 1.0,
        IMAGES * 16.0,
        IMAGES + 0.5,
        IMAGES > 128,
    ],
    ids=["scaled", "standard", "centred", "few levels", "16 bits", "halves", "bool"],
)
def test_images_that_do_not_look_like_bytes_pass(images):
    # Warnings are errors here.
    assert quick().fit(images, Y, G).n_iter_ == 1


def test_a_list_of_a_datasets_items_is_refused():
    items = [Items()[i] for i in range(N)]
    with pytest.raises(TypeError, match="skorch.helper.SliceDataset"):
        quick().fit(items)


def test_a_dataset_comes_alone():
    with pytest.raises(ValueError, match="brings its own"):
        quick().fit(Items(), groups=G)

    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            yield Items()[0]

    with pytest.raises(TypeError, match="a Dataset with a length"):
        quick().fit(Stream())


@pytest.mark.parametrize("name", ["_format", "bogus_"])
def test_names_that_would_hide_an_attribute_are_no_parameters(name):
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        quick(**{name: 1})


def test_backward_strides_and_dicts_of_groups_are_taken():
    X32 = X.astype(np.float32)
    clf = quick().fit(X32[::-1], Y, {"sex": G})
    assert clf.group_counts_.index.name == "sex"
    np.testing.assert_allclose(
        clf.predict_proba(X32[::-1])[::-1], clf.predict_proba(X32)
    )


def test_names_of_columns_do_not_outlive_a_refit_on_images():
    clf = quick().fit(pd.DataFrame(X, columns=["a", "b", "c"]), Y, G)
    clf.fit(IMAGES, Y, G)
    assert not hasattr(clf, "feature_names_in_")
    assert clf.n_features_in_ == 432


def test_a_dataset_of_pairs_is_refused():
    class Pairs(Items):
        def __getitem__(self, i):
            return super().__getitem__(i)[:2]

    with pytest.raises(ValueError, match=r"must yield .* yield \(x, y, None\)"):
        quick().fit(Pairs())

    class Unknown(Pairs):
        def __getitem__(self, i):
            return *super().__getitem__(i), None

    assert len(quick(penalty=None).fit(Unknown()).predict(Unknown())) == N
