"""HAM10000: dermatoscopic images of pigmented lesions."""

import numpy as np
import pandas as pd
from sklearn.utils import Bunch

from fairskorch.datasets._checks import (
    as_names,
    check_choice,
    check_folder,
    check_int,
    find_file,
)
from fairskorch.datasets._images import check_reading, read_images
from fairskorch.datasets._tables import age_groups, read_table, require_columns

OWNER = "load_ham10000"
LAYOUT = (
    "Get HAM10000 from https://doi.org/10.7910/DVN/DBW86T and put "
    "HAM10000_metadata.csv and the folders HAM10000_images_part_1/ and "
    "HAM10000_images_part_2/, or one folder images/ of all, into 'root'."
)
FOLDERS = ("images", "HAM10000_images_part_1", "HAM10000_images_part_2")
#: The repository offers its table under each of these names.
TABLES = ("HAM10000_metadata.csv", "HAM10000_metadata", "HAM10000_metadata.tab")
DIAGNOSES = np.array(["akiec", "bcc", "bkl", "df", "mel", "nv", "vasc"])
MALIGNANT = ("akiec", "bcc", "mel")
DESCR = """\
HAM10000 ("Human Against Machine with 10000 training images"): 10,015 dermatoscopic
images of 7,470 pigmented lesions in seven diagnoses.

Licence: CC BY-NC 4.0 (attribution, non-commercial).
Citation: P. Tschandl, C. Rosendahl, H. Kittler, "The HAM10000 dataset, a large
collection of multi-source dermatoscopic images of common pigmented skin lesions",
Scientific Data 5, 180161, 2018; data: https://doi.org/10.7910/DVN/DBW86T

Malignant here: akiec (actinic keratoses and intraepithelial carcinoma, some of which
are counted as precursors), bcc (basal cell carcinoma) and mel (melanoma); the others
are bkl, df, nv and vasc. A lesion may be shown several times: split by `subject`.
"""


def load_ham10000(
    root,
    *,
    target="malignant",
    sensitive=("sex", "age"),
    age_threshold=60,
    image_size=64,
    cache=None,
    n_jobs=None,
    verbose=0,
):
    """Load HAM10000 from its official files.

    Parameters
    ----------
    root : path-like
        Folder with ``HAM10000_metadata.csv`` and the images, in ``images/`` or in
        ``HAM10000_images_part_1/`` and ``HAM10000_images_part_2/``. Nothing is
        written here.
    target : {"malignant", "dx"}, default="malignant"
        Malignant (akiec, bcc, mel) against benign, or the seven diagnoses.
    sensitive : str or sequence of str, default=("sex", "age")
        Columns to return, out of ``"sex"``, ``"age"`` (years) and ``"age_60"`` (two
        groups, ``"<60"`` and ``">=60"``; the number is `age_threshold`). To fit, pass
        those that make groups: crossed with ages in years, groups are tiny.
    age_threshold : int, default=60
        Years at which the older group starts.
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
            Columns as asked for, in that order. An unknown sex or age group is None,
            an unknown age NaN.
        subject : ndarray of shape (n_samples,)
            Lesion that the image shows.
        target_names : ndarray of shape (n_classes,)
            Names of the classes.
        filenames : ndarray of shape (n_samples,)
            Paths relative to `root`.
        DESCR : str
            Licence and citation.

    Raises
    ------
    FileNotFoundError
        If the folder, the table or an image is absent.
    ValueError
        If a column is missing, a diagnosis is unknown, an image is damaged or a
        parameter is out of range.
    ImportError
        If pillow is not installed.

    References
    ----------
    P. Tschandl, C. Rosendahl, H. Kittler, "The HAM10000 dataset, a large collection of
    multi-source dermatoscopic images of common pigmented skin lesions", Scientific
    Data 5, 180161, 2018.

    Examples
    --------
    .. code-block:: python

        skin = load_ham10000("data/ham10000", sensitive=["sex", "age_60"])
        older = skin.sensitive_features["age_60"] == ">=60"
    """
    reading = {"cache": cache, "n_jobs": n_jobs, "verbose": verbose}
    check_reading(OWNER, image_size=image_size, **reading)
    check_choice(target, ("malignant", "dx"), "target", OWNER)
    check_int(age_threshold, "age_threshold", OWNER)
    by_age = f"age_{age_threshold}"
    sensitive = as_names(sensitive, "sensitive", OWNER)
    for name in sensitive:
        check_choice(name, ("sex", "age", by_age), "sensitive", OWNER)
    folder = check_folder(root, OWNER, LAYOUT)
    path = find_file(folder, TABLES, OWNER, LAYOUT)
    table = read_table(path, OWNER, sep="\t" if path.suffix == ".tab" else ",")
    needed = ["image_id", "lesion_id", "dx", "sex", "age"]
    require_columns(table, needed, OWNER, str(path))
    diagnosis = _diagnosis_codes(table["dx"], path)
    sex = table["sex"].astype(object)
    columns = {
        "sex": sex.where(sex.isin(["male", "female"]), None),
        "age": table["age"].astype(float),
        by_age: age_groups(table["age"], age_threshold),
    }
    filenames = _find_images(folder, table["image_id"])
    malignant = np.isin(DIAGNOSES[diagnosis], MALIGNANT).astype(np.int64)
    return Bunch(
        data=read_images(
            filenames, folder, owner=OWNER, image_size=image_size, **reading
        ),
        target=malignant if target == "malignant" else diagnosis,
        sensitive_features=pd.DataFrame({name: columns[name] for name in sensitive}),
        subject=table["lesion_id"].to_numpy(dtype=object),
        target_names=(
            np.array(["benign", "malignant"]) if target == "malignant" else DIAGNOSES
        ),
        filenames=np.array(filenames),
        DESCR=DESCR,
    )


def _diagnosis_codes(values, path):
    codes = pd.Index(DIAGNOSES).get_indexer(values)
    if (codes < 0).any():
        row = int(np.flatnonzero(codes < 0)[0])
        raise ValueError(
            f"{OWNER}: the column 'dx' of {str(path)!r} must hold {list(DIAGNOSES)}. "
            f"Got {values.iloc[row]!r} in row {row}."
        )
    return codes.astype(np.int64)


def _find_images(folder, image_ids):
    """Return the path of each image relative to `folder`."""
    here = [name for name in FOLDERS if (folder / name).is_dir()]
    if not here:
        raise FileNotFoundError(
            f"{OWNER}: no folder of images in {str(folder)!r}. {LAYOUT}"
        )
    where = {path.name: name for name in here for path in (folder / name).iterdir()}
    files = [f"{image_id}.jpg" for image_id in image_ids]
    # One that is in no folder is named as if in the first: the reader reports it.
    return [f"{where.get(file, here[0])}/{file}" for file in files]
