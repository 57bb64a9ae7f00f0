"""CelebA: faces with forty attributes."""

import numpy as np
import pandas as pd
from sklearn.utils import Bunch

from fairskorch.datasets._checks import as_names, check_choice, check_folder, find_file
from fairskorch.datasets._images import check_reading, read_images
from fairskorch.datasets._tables import read_table

OWNER = "load_celeba"
LAYOUT = (
    "Get the aligned and cropped images and the annotations from "
    "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html and put img_align_celeba/ (the "
    "folder of 000001.jpg and so on) and list_attr_celeba.txt into 'root', with "
    "identity_CelebA.txt and list_eval_partition.txt if there are any."
)
#: The download has its text files and images in these folders; flat is as usual.
FOLDERS = ("", "Anno", "Eval", "Img")
PARTITIONS = np.array(["train", "valid", "test"])
DESCR = """\
CelebFaces Attributes (CelebA): aligned faces of celebrities, forty binary attributes.

Licence: non-commercial research only; the agreement allows copies inside one
organisation and no passing on.
Citation: Z. Liu, P. Luo, X. Wang, X. Tang, "Deep Learning Face Attributes in the
Wild", ICCV 2015. https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html

The attributes, `Male` among them, were assigned by annotators from the picture; they
say how a face was seen and nothing about how a person identifies.
"""


def load_celeba(
    root,
    *,
    target="Blond_Hair",
    sensitive="Male",
    image_size=64,
    cache=None,
    n_jobs=None,
    verbose=0,
):
    """Load CelebA from its official files.

    Parameters
    ----------
    root : path-like
        Folder with ``img_align_celeba/`` and ``list_attr_celeba.txt``, and, if there
        are any, ``identity_CelebA.txt`` and ``list_eval_partition.txt``; the text
        files may also lie in ``Anno/`` and ``Eval/``, the images in ``Img/``, as in
        the download. Nothing is written here.
    target : str, default="Blond_Hair"
        Attribute to predict.
    sensitive : str or list of str, default="Male"
        Attribute or attributes that make the groups.
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
            1 where the attribute is present, else 0.
        sensitive_features : DataFrame of shape (n_samples, n_sensitive)
            One column an attribute, 0 or 1.
        subject : ndarray of shape (n_samples,), int64, or None
            Number of the person; None without ``identity_CelebA.txt``.
        partition : ndarray of shape (n_samples,) or None
            The official ``"train"``, ``"valid"`` or ``"test"``; None without
            ``list_eval_partition.txt``. Its parts share no person.
        target_names : ndarray of shape (2,)
            Names of the classes.
        filenames : ndarray of shape (n_samples,)
            Paths relative to `root`.
        DESCR : str
            Licence and citation.

    Raises
    ------
    FileNotFoundError
        If the folder, a needed file or an image is absent.
    ValueError
        If an attribute is unknown, a file is damaged or a parameter out of range.
    ImportError
        If pillow is not installed.

    References
    ----------
    Z. Liu, P. Luo, X. Wang, X. Tang, "Deep Learning Face Attributes in the Wild",
    ICCV 2015.

    Examples
    --------
    .. code-block:: python

        faces = load_celeba("data/celeba", image_size=48, cache="data/cache")
        train, test = split_by_subject(faces.subject, sizes=(0.8, 0.2), random_state=0)
    """
    reading = {"cache": cache, "n_jobs": n_jobs, "verbose": verbose}
    check_reading(OWNER, image_size=image_size, **reading)
    sensitive = as_names(sensitive, "sensitive", OWNER)
    folder = check_folder(root, OWNER, LAYOUT)
    attributes = _read_attributes(folder)
    check_choice(target, attributes.columns, "target", OWNER)
    for name in sensitive:
        check_choice(name, attributes.columns, "sensitive", OWNER)
    images = _find_images(folder)
    subject = _read_optional(folder, "identity_CelebA.txt", attributes.index)
    partition = _read_optional(folder, "list_eval_partition.txt", attributes.index)
    if partition is not None:
        partition = PARTITIONS[partition]
    filenames = [f"{images}/{name}" for name in attributes.index]
    present = (attributes == 1).astype(np.int64)
    return Bunch(
        data=read_images(
            filenames, folder, owner=OWNER, image_size=image_size, **reading
        ),
        target=present[target].to_numpy(copy=True),
        sensitive_features=present[sensitive].reset_index(drop=True),
        subject=subject,
        partition=partition,
        target_names=np.array([f"not {target}", target]),
        filenames=np.array(filenames),
        DESCR=DESCR,
    )


def _read_attributes(folder):
    """Return 1 and -1 in a DataFrame, images x attributes."""
    name = "list_attr_celeba.txt"
    path = find_file(
        folder, [f"{part}/{name}".lstrip("/") for part in FOLDERS], OWNER, LAYOUT
    )
    with path.open(encoding="utf-8") as file:
        first = file.readline().strip()
    table = read_table(path, OWNER, sep=r"\s+", skiprows=1)
    sound = all(kind.kind == "i" for kind in table.dtypes) and table.isin([-1, 1])
    if not (first.isdigit() and int(first) == len(table) and np.all(sound)):
        raise ValueError(
            f"{OWNER}: {str(path)!r} must hold the number of images, the attributes' "
            f"names and one row of 1 and -1 an image. Got {first!r} in its first line "
            f"and {len(table)} rows; it is cut short or was changed."
        )
    return table


def _find_images(folder):
    for part in FOLDERS:
        images = f"{part}/img_align_celeba".lstrip("/")
        if (folder / images).is_dir():
            return images
    raise FileNotFoundError(
        f"{OWNER}: no img_align_celeba/ in {str(folder)!r}. {LAYOUT}"
    )


def _read_optional(folder, name, images):
    """Return the number that a file of pairs gives to each image; None without it."""
    candidates = [folder / part / name for part in FOLDERS]
    path = next((path for path in candidates if path.is_file()), None)
    if path is None:
        return None
    table = read_table(
        path, OWNER, sep=r"\s+", header=None, names=["image", "value"], index_col=0
    )
    values = pd.to_numeric(table["value"], errors="coerce").reindex(images)
    limit = len(PARTITIONS) if "partition" in name else np.inf
    if values.isna().any() or (values < 0).any() or (values >= limit).any():
        raise ValueError(
            f"{OWNER}: {str(path)!r} must give one number to each image of "
            "list_attr_celeba.txt; it is cut short or was changed. Mend it, or move it "
            "away to load without it."
        )
    return values.to_numpy(dtype=np.int64)
