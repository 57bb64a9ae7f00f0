"""CheXpert: chest radiographs with fourteen findings."""

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

OWNER = "load_chexpert"
LAYOUT = (
    "Get CheXpert-v1.0-small (or CheXpert-v1.0) under its agreement from "
    "https://stanfordmlgroup.github.io/competitions/chexpert/ and put train.csv, "
    "valid.csv, train/ and valid/, or their folder CheXpert-v1.0-small/, into 'root'."
)
FOLDERS = ("", "CheXpert-v1.0-small", "CheXpert-v1.0")
FINDINGS = (
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
)
DESCR = """\
CheXpert: 224,316 chest radiographs of 65,240 patients with fourteen findings.

Licence: Stanford University Dataset Research Use Agreement (non-commercial research, no
passing on).
Citation: J. Irvin, P. Rajpurkar, M. Ko, et al., "CheXpert: A Large Chest Radiograph
Dataset with Uncertainty Labels and Expert Comparison", AAAI 2019.
https://stanfordmlgroup.github.io/competitions/chexpert/

The findings of the training part were extracted from reports by rules: 1 mentioned as
present, 0 as absent, -1 uncertain, blank not mentioned. Blank is read as absent here;
the `uncertain` parameter decides about -1.
"""


def load_chexpert(
    root,
    *,
    target="Pleural Effusion",
    sensitive=("sex", "age"),
    part="train",
    uncertain="zeros",
    frontal_only=True,
    age_threshold=60,
    image_size=64,
    cache=None,
    n_jobs=None,
    verbose=0,
):
    """Load CheXpert from its official files.

    Parameters
    ----------
    root : path-like
        Folder with ``train.csv``, ``valid.csv`` and the images, or with the folder
        ``CheXpert-v1.0-small`` (or ``CheXpert-v1.0``) of these. Nothing is written
        here.
    target : str, default="Pleural Effusion"
        Finding to predict, one of the fourteen columns of the table.
    sensitive : str or sequence of str, default=("sex", "age")
        Columns to return, out of ``"sex"``, ``"age"`` (years) and ``"age_60"`` (two
        groups, ``"<60"`` and ``">=60"``; the number is `age_threshold`). To fit, pass
        those that make groups: crossed with ages in years, groups are tiny.
    part : {"train", "valid"}, default="train"
        Official table to read.
    uncertain : {"zeros", "ones", "drop"}, default="zeros"
        Whether a finding labelled -1 counts as absent, as present, or its row is left
        out. A blank label counts as absent.
    frontal_only : bool, default=True
        Whether lateral views are left out.
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
        data : ndarray or memmap of shape (n_samples, 1, image_size, image_size), uint8
            Grey images; a read-only memory map where `cache` is given.
        target : ndarray of shape (n_samples,), int64
            1 where the finding is present, else 0.
        sensitive_features : DataFrame of shape (n_samples, n_sensitive)
            Columns as asked for, in that order. An unknown sex or age group is None,
            an unknown age NaN.
        subject : ndarray of shape (n_samples,)
            Patient, such as ``"patient00001"``.
        target_names : ndarray of shape (2,)
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
        If the finding is unknown, a column or label of the table is not as published,
        an image is damaged or a parameter is out of range.
    ImportError
        If pillow is not installed.

    References
    ----------
    J. Irvin, P. Rajpurkar, M. Ko, et al., "CheXpert: A Large Chest Radiograph Dataset
    with Uncertainty Labels and Expert Comparison", AAAI 2019.

    Examples
    --------
    .. code-block:: python

        chests = load_chexpert("data/CheXpert-v1.0-small", uncertain="drop")
    """
    reading = {"cache": cache, "n_jobs": n_jobs, "verbose": verbose}
    check_reading(OWNER, image_size=image_size, **reading)
    check_choice(target, FINDINGS, "target", OWNER)
    check_choice(part, ("train", "valid"), "part", OWNER)
    check_choice(uncertain, ("zeros", "ones", "drop"), "uncertain", OWNER)
    check_choice(frontal_only, (True, False), "frontal_only", OWNER)
    check_int(age_threshold, "age_threshold", OWNER)
    by_age = f"age_{age_threshold}"
    sensitive = as_names(sensitive, "sensitive", OWNER)
    for name in sensitive:
        check_choice(name, ("sex", "age", by_age), "sensitive", OWNER)
    folder = check_folder(root, OWNER, LAYOUT)
    places = [f"{place}/{part}.csv".lstrip("/") for place in FOLDERS]
    path = find_file(folder, places, OWNER, LAYOUT)
    table = read_table(path, OWNER)
    needed = ["Path", "Sex", "Age", "Frontal/Lateral", target]
    require_columns(table, needed, OWNER, str(path))
    labels = _labels(table[target], target, path)
    patients = _patients(table["Path"], path)

    keep = np.ones(len(table), dtype=bool)
    if frontal_only:
        keep &= (table["Frontal/Lateral"] == "Frontal").to_numpy()
    if uncertain == "drop":
        keep &= labels != -1
    rows = np.flatnonzero(keep)
    if not len(rows):
        raise ValueError(
            f"{OWNER}: no row of {str(path)!r} is left with frontal_only="
            f"{frontal_only} and uncertain={uncertain!r}."
        )
    present = np.where(labels == -1, int(uncertain == "ones"), labels)[rows]
    sex = table["Sex"].astype(object).iloc[rows].reset_index(drop=True)
    age = table["Age"].astype(float).iloc[rows].reset_index(drop=True)
    columns = {
        "sex": sex.where(sex.isin(["Female", "Male"]), None),
        "age": age,
        by_age: age_groups(age, age_threshold),
    }
    prefix = path.parent.relative_to(folder)
    filenames = [
        (prefix / _below_release(name)).as_posix() for name in table["Path"].iloc[rows]
    ]
    return Bunch(
        data=read_images(
            filenames,
            folder,
            owner=OWNER,
            image_size=image_size,
            mode="L",
            rows=rows,
            **reading,
        ),
        target=present.astype(np.int64),
        sensitive_features=pd.DataFrame({name: columns[name] for name in sensitive}),
        subject=patients[rows],
        target_names=np.array([f"no {target}", target]),
        filenames=np.array(filenames),
        DESCR=DESCR,
    )


def _labels(values, target, path):
    """Return 1, 0 or -1 a row; a blank is 0."""
    labels = pd.to_numeric(values, errors="coerce").where(values.notna(), 0.0)
    odd = np.flatnonzero(~labels.isin([1, 0, -1]))
    if len(odd):
        raise ValueError(
            f"{OWNER}: the column {target!r} of {str(path)!r} must hold 1, 0, -1 or "
            f"blanks. Got {values.iloc[odd[0]]!r} in row {odd[0]}."
        )
    return labels.to_numpy(dtype=np.int64)


def _patients(paths, path):
    patients = paths.astype(object).str.extract(r"(patient\d+)/", expand=False)
    if patients.isna().any():
        row = int(np.flatnonzero(patients.isna())[0])
        raise ValueError(
            f"{OWNER}: the column 'Path' of {str(path)!r} must name patients, as in "
            "train/patient00001/study1/view1_frontal.jpg. "
            f"Got {paths.iloc[row]!r} in row {row}."
        )
    return patients.to_numpy(dtype=object)


def _below_release(name):
    """Leave out the first folder of a path where it names the release."""
    first, _, rest = name.partition("/")
    return rest if first.startswith("CheXpert") else name
