"""UTKFace: faces whose file names hold age, gender and race."""

import re
import warnings

import numpy as np
import pandas as pd
from sklearn.utils import Bunch

from fairskorch.datasets._checks import as_names, check_choice, check_folder
from fairskorch.datasets._images import check_reading, read_images

OWNER = "load_utkface"
LAYOUT = (
    "Get 'Aligned & Cropped Faces' from https://susanqq.github.io/UTKFace/ and put its "
    "files, [age]_[gender]_[race]_[date].jpg.chip.jpg, into 'root' or 'root'/UTKFace."
)
GENDERS = np.array(["male", "female"])
RACES = np.array(["White", "Black", "Asian", "Indian", "Others"])
NAMES = ("gender", "race", "age")
_FILE_NAME = re.compile(r"(\d{1,3})_([01])_([0-4])_\d+\.jpg(\.chip\.jpg)?", re.I)
DESCR = """\
UTKFace: faces between 0 and 116 years of age, with age, gender and race.

Licence: non-commercial research only; the copyright of the images stays with their
owners.
Citation: Z. Zhang, Y. Song, H. Qi, "Age Progression/Regression by Conditional
Adversarial Autoencoder", CVPR 2017. https://susanqq.github.io/UTKFace/

Age, gender and race were estimated by an algorithm and checked by annotators; they say
how a face was seen. Who is shown is not recorded, so the same person may be in several
images.
"""


def load_utkface(
    root,
    *,
    target="gender",
    sensitive="race",
    age_bins=(20, 40, 60),
    image_size=64,
    cache=None,
    n_jobs=None,
    verbose=0,
):
    """Load UTKFace; all labels come from the file names.

    Parameters
    ----------
    root : path-like
        Folder with the files ``[age]_[gender]_[race]_[date].jpg`` or
        ``….jpg.chip.jpg``, or with a folder ``UTKFace`` of them. Nothing is written
        here. Files whose name lacks a part are left out, with one warning.
    target : {"gender", "race", "age"}, default="gender"
        What to predict; ages as the bins of `age_bins`.
    sensitive : {"gender", "race", "age"} or list of these, default="race"
        What makes the groups.
    age_bins : sequence of int, default=(20, 40, 60)
        Ages in years at which a new bin starts, ascending: the default makes the bins
        ``"<20"``, ``"20-39"``, ``"40-59"`` and ``">=60"``.
    image_size : int, default=64
        Height and width in pixels after the centre crop to a square.
    cache : path-like, default=None
        Folder, made if need be, where the decoded images are kept and found again
        until a file, its size or its time changes.
    n_jobs : int, default=None
        Threads that decode; None for all available cores, -1 likewise.
    verbose : int, default=0
        Above 0 for a progress bar.

    Returns
    -------
    bunch : :class:`~sklearn.utils.Bunch`
        data : ndarray or memmap of shape (n_samples, 3, image_size, image_size), uint8
            RGB images; a read-only memory map where `cache` is given.
        target : ndarray of shape (n_samples,), int64
            Position in `target_names`.
        sensitive_features : DataFrame of shape (n_samples, n_sensitive)
            Columns ``"gender"``, ``"race"``, ``"age"`` as asked for, with the names of
            the groups.
        subject : None
            The data do not say who is shown.
        age : ndarray of shape (n_samples,), int64
            Age in years.
        target_names : ndarray of shape (n_classes,)
            Names of the classes.
        filenames : ndarray of shape (n_samples,)
            Paths relative to `root`, in alphabetical order.
        DESCR : str
            Licence and citation.

    Raises
    ------
    FileNotFoundError
        If the folder is absent or holds no image.
    ValueError
        If a parameter is out of range or an image is damaged.
    ImportError
        If pillow is not installed.

    Warns
    -----
    UserWarning
        If names of files do not follow the pattern: how many, and which.

    References
    ----------
    Z. Zhang, Y. Song, H. Qi, "Age Progression/Regression by Conditional Adversarial
    Autoencoder", CVPR 2017.

    Examples
    --------
    .. code-block:: python

        faces = load_utkface("data/UTKFace", target="age", sensitive=["race", "gender"])
    """
    reading = {"cache": cache, "n_jobs": n_jobs, "verbose": verbose}
    check_reading(OWNER, image_size=image_size, **reading)
    check_choice(target, NAMES, "target", OWNER)
    sensitive = as_names(sensitive, "sensitive", OWNER)
    for name in sensitive:
        check_choice(name, NAMES, "sensitive", OWNER)
    bins, bin_names = _name_bins(age_bins)
    folder = check_folder(root, OWNER, LAYOUT)
    filenames, labels = _read_names(folder)
    codes = {
        "gender": labels[:, 1],
        "race": labels[:, 2],
        "age": np.digitize(labels[:, 0], bins),
    }
    names = {"gender": GENDERS, "race": RACES, "age": bin_names}
    return Bunch(
        data=read_images(
            filenames, folder, owner=OWNER, image_size=image_size, **reading
        ),
        target=codes[target].astype(np.int64),
        sensitive_features=pd.DataFrame({n: names[n][codes[n]] for n in sensitive}),
        subject=None,
        age=labels[:, 0].copy(),
        target_names=names[target],
        filenames=np.array(filenames),
        DESCR=DESCR,
    )


def _name_bins(age_bins):
    bins = np.asarray(age_bins)
    sound = bins.ndim == 1 and bins.size > 0 and bins.dtype.kind in "iu"
    if not (sound and bins[0] > 0 and (np.diff(bins) > 0).all()):
        raise ValueError(
            f"The 'age_bins' parameter of {OWNER} must hold ascending ages in years "
            f"above 0. Got {age_bins!r} instead."
        )
    inner = [f"{a}-{b - 1}" for a, b in zip(bins[:-1], bins[1:], strict=True)]
    return bins, np.array([f"<{bins[0]}", *inner, f">={bins[-1]}"])


def _read_names(folder):
    """Return the usable file names and (age, gender, race) of each."""
    prefix = "UTKFace/" if (folder / "UTKFace").is_dir() else ""
    files = sorted(
        path.name
        for path in (folder / prefix).iterdir()
        if path.suffix.lower() == ".jpg" and not path.name.startswith(".")
    )
    matches = [_FILE_NAME.fullmatch(name) for name in files]
    bad = [name for name, match in zip(files, matches, strict=True) if not match]
    good = [match for match in matches if match]
    if not good:
        raise FileNotFoundError(
            f"{OWNER}: none of the {len(files)} .jpg files in {str(folder / prefix)!r} "
            f"is named as those of UTKFace are. {LAYOUT}"
        )
    if bad:
        warnings.warn(
            f"{OWNER}: {len(bad)} files are left out, for their names are not "
            f"[age]_[gender]_[race]_[date].jpg: {', '.join(bad[:5])}"
            f"{', …' if len(bad) > 5 else ''}",
            UserWarning,
            stacklevel=3,
        )
    labels = np.array([[int(m[i]) for i in (1, 2, 3)] for m in good], dtype=np.int64)
    return [prefix + match[0] for match in good], labels
