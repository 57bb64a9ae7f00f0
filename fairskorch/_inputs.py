"""What a row of X is: learnt at ``fit``, demanded at ``predict``."""

import warnings

import numpy as np
import torch
from sklearn.utils.validation import assert_all_finite, validate_data
from torch.utils.data import Dataset

from fairskorch.batches import GroupedRows
from fairskorch.exceptions import UnscaledImagesWarning

#: Sizes of a dimension that may count the channels of an image.
CHANNELS = (1, 2, 3, 4)

#: Images that are looked at to tell bytes among floats.
LOOKED_AT = 32

#: Whole numbers up to here may be counts or levels of gray as well as bytes.
FEW_LEVELS = 20


class InputFormat:
    """Shape and kind of the rows that an estimator was fitted on.

    Parameters
    ----------
    owner : str
        Name of the estimator's class, for messages.
    channels : {"auto", "first", "last"}
        Where 4-D images have their channels.

    Attributes
    ----------
    kind : {"table", "images", "dataset"}
        What X is.
    scale : {"uint8", "float"}
        Whether numbers are bytes, to be divided by 255, or taken as they are.
    shape : tuple of int
        Of one row: ``(n_features,)``, or ``(channels, height, width)``.
    unscaled : bool
        Whether floats of images look like bytes.
    """

    def __init__(self, owner, channels):
        self.owner = owner
        self.channels = channels
        self.kind = None
        self.unscaled = False

    def read(self, estimator, X, *, name="X", reset, exact=False):
        """Check X and return it as an array that `GroupedRows` takes, with its layout.

        Parameters
        ----------
        estimator : BaseEstimator
            Gets ``n_features_in_`` and ``feature_names_in_`` when `reset` is true.
        X : array-like, Tensor or Dataset
        name : str, default="X"
            What messages call it.
        reset : bool
            Whether to learn the format, or to demand the one that was learnt.
        exact : bool, default=False
            Whether tables are kept in float64.

        Returns
        -------
        X : ndarray, Tensor or Dataset
        layout : str
            As `GroupedRows` takes it.

        Raises
        ------
        ValueError
            For an X of impossible or other shape or kind, with NaN or infinity, or
            whose channels cannot be found.
        """
        if isinstance(X, Dataset):
            return self._read_dataset(estimator, X, reset)
        if isinstance(X, torch.Tensor):
            X = X.detach().cpu()
            X = (X.float() if X.dtype == torch.bfloat16 else X).numpy()
        elif hasattr(X, "dataset") and hasattr(X, "indices"):
            X = np.asarray(X)  # skorch's SliceDataset
        n_dims = X.ndim if hasattr(X, "ndim") else np.asarray(X).ndim
        if n_dims in (3, 4):
            return self._read_images(estimator, X, name, reset)
        if n_dims > 4:
            raise ValueError(
                f"{name} of {self.owner} must be 2-D, or 3-D or 4-D for images; "
                f"got {n_dims} dimensions."
            )
        return self._read_table(
            estimator, X, name, reset, np.float64 if exact else np.float32
        )

    def _read_table(self, estimator, X, name, reset, dtype):
        if not reset and self.kind == "images":
            raise ValueError(
                f"{name} is no array of images, but {self.owner} was fitted on "
                f"images of (channels, height, width) = {self.shape}."
            )
        bytes_ = isinstance(X, np.ndarray) and X.dtype == np.uint8
        try:
            X = validate_data(estimator, X, dtype=dtype, reset=reset)
        except ValueError as error:
            if "could not convert string" not in str(error):
                raise
            raise ValueError(
                f"{name} of {self.owner} holds values that are no numbers: {error}. "
                "Encode categories first, for instance with "
                "sklearn.preprocessing.OneHotEncoder."
            ) from error
        self._settle("table", "uint8" if bytes_ else "float", X.shape[1:], name, reset)
        X = X / dtype(255) if bytes_ else X
        # PyTorch reads no backward strides.
        return (np.ascontiguousarray(X) if min(X.strides) < 0 else X), "first"

    def _read_images(self, estimator, X, name, reset):
        X = X if isinstance(X, np.ndarray) else np.asarray(X)
        if X.dtype == object:
            try:
                X = X.astype(np.float32)
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f"{name} of {self.owner} is an array of objects that are not "
                    f"numbers: {error}."
                ) from error
        if 0 in X.shape:
            raise ValueError(
                f"{name} of {self.owner} has the shape {X.shape}; every dimension must "
                "be at least 1."
            )
        if X.dtype.kind not in "fb" and X.dtype != np.uint8:
            raise ValueError(
                f"{name} of {self.owner} holds images of {X.dtype}; expected uint8 "
                "(0 to 255) or floats. X.astype('uint8') converts whole numbers."
            )
        if X.dtype.kind == "f":
            assert_all_finite(X, input_name=name, estimator_name=self.owner)
        # PyTorch reads neither foreign byte order nor backward strides.
        if not X.dtype.isnative or any(step < 0 for step in X.strides):
            X = np.ascontiguousarray(X, dtype=X.dtype.newbyteorder("="))
        layout = self._layout(X.shape, name, reset)
        shape = X.shape[1:]
        if layout == "gray":
            shape = (1, *shape)
        elif layout == "last":
            shape = (shape[2], shape[0], shape[1])
        scale = "uint8" if X.dtype == np.uint8 else "float"
        self._settle("images", scale, shape, name, reset)
        self._warn_of_bytes(X, name, reset)
        if reset:
            self._learn(estimator, layout)
        return X, layout

    def _layout(self, shape, name, reset):
        if len(shape) == 3:
            return "gray"
        if not reset and getattr(self, "layout", "gray") != "gray":
            return self.layout
        if self.channels != "auto":
            return self.channels
        first, last = shape[1] in CHANNELS, shape[3] in CHANNELS
        if first == last:
            found = "both have" if first else "neither has"
            raise ValueError(
                f"{name} has the shape {shape}; of its second dimension and its last "
                f"{found} the size of channels, 1 to 4. Set channels='first' or "
                f"channels='last' of {self.owner}."
            )
        return "first" if first else "last"

    def _read_dataset(self, estimator, X, reset):
        if len(X) == 0:
            raise ValueError(f"The Dataset given to {self.owner} is empty.")
        fields, _ = GroupedRows(X).take(torch.tensor([0]))
        shape = tuple(fields["X"].shape)
        layout = "first"
        if len(shape) in (3, 4):
            layout = self._layout(shape, "An item of X", reset)
        shape = shape[1:]
        if layout == "gray":
            shape = (1, *shape)
        elif layout == "last":
            shape = (shape[2], shape[0], shape[1])
        self._settle("dataset", "float", shape, "X", reset)
        self._warn_of_bytes(fields["X"].numpy(), "X", reset)
        if reset:
            self._learn(estimator, layout)
        return X, layout

    def _warn_of_bytes(self, X, name, reset):
        """Warn of 4-D floats that are bytes, unless the network was fitted on such."""
        unscaled = X.ndim == 4 and X.dtype.kind == "f" and _look_like_bytes(X)
        if unscaled and (reset or not self.unscaled):
            warnings.warn(
                f"{name} of {self.owner} holds images of floats that look like bytes, "
                "whole numbers from 0 to 255, and floats are taken as they are. Divide "
                "them by 255, or pass uint8, which is divided here.",
                UnscaledImagesWarning,
                stacklevel=7,
            )
        if reset:
            self.unscaled = unscaled

    def _learn(self, estimator, layout):
        """Set what scikit-learn's own validation sets for tables."""
        self.layout = layout
        estimator.n_features_in_ = int(np.prod(self.shape))
        if hasattr(estimator, "feature_names_in_"):
            del estimator.feature_names_in_

    def _settle(self, kind, scale, shape, name, reset):
        shape = tuple(int(size) for size in shape)
        if reset:
            self.kind, self.scale, self.shape = kind, scale, shape
            return
        if kind == "dataset" or self.kind == "dataset":
            scale = self.scale
        if shape != self.shape:
            what = "(channels, height, width)" if len(shape) == 3 else "row shape"
            raise ValueError(
                f"{name} has {what} = {shape}, but {self.owner} was fitted on "
                f"{self.shape}."
            )
        if scale != self.scale:
            raise ValueError(
                f"{name} holds {scale} numbers, but {self.owner} was fitted on "
                f"{self.scale}: uint8 is divided by 255, floats are taken as they are. "
                "Give both in the same type."
            )


def _look_like_bytes(X):
    """Tell whether some images hold whole numbers in 0 to 255, up to high ones."""
    some = X[:: max(1, len(X) // LOOKED_AT)]
    low, high = some.min(), some.max()
    if low < 0 or not FEW_LEVELS < high <= 255:
        return False
    return bool((some == some.round()).all())


def refuse_items(X, owner):
    """Refuse a list of a Dataset's items: its classes and groups would be lost."""
    if not (isinstance(X, list | tuple) and len(X) and isinstance(X[0], tuple)):
        return
    if any(np.ndim(part) > 0 for part in X[0]):
        raise TypeError(
            f"{owner} got a list of a Dataset's items. Searches cut X, y and groups "
            "apart: give them X=skorch.helper.SliceDataset(dataset, idx=0), "
            "y=np.array([...]) of its classes and sensitive_features=[...] of its "
            "groups; or give the Dataset itself to fit."
        )
