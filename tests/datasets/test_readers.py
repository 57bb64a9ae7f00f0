"""Readers of the official layouts."""

import shutil

import numpy as np
import pandas as pd
import pytest

from fairskorch.datasets import (
    load_celeba,
    load_chexpert,
    load_ham10000,
    load_images,
    load_utkface,
    split_by_subject,
)


@pytest.fixture(params=["celeba", "chexpert", "ham10000", "utkface"])
def reader(request):
    """Each reader with a folder in its layout."""
    loaders = {
        "celeba": load_celeba,
        "chexpert": load_chexpert,
        "ham10000": load_ham10000,
        "utkface": load_utkface,
    }
    root = request.getfixturevalue(request.param)
    if request.param == "utkface":
        for name in (
            "39_1_20170116174525125.jpg.chip.jpg",
            "53__0_20170116184028385.jpg",
        ):
            (root / name).unlink()
    return loaders[request.param], root


def test_every_reader_returns_the_same_fields(reader, tmp_path):
    load, root = reader
    plain = load(root, image_size=8)
    n = len(plain.data)
    channels = 1 if load is load_chexpert else 3
    assert plain.data.shape == (n, channels, 8, 8) and plain.data.dtype == np.uint8
    assert plain.target.shape == (n,) and plain.target.dtype == np.int64
    assert plain.target.max() < len(plain.target_names)
    columns = {load_celeba: ["Male"], load_utkface: ["race"]}
    assert list(plain.sensitive_features) == columns.get(load, ["sex", "age"])
    assert list(plain.sensitive_features.index) == list(range(n))
    assert plain.filenames.shape == (n,)
    assert all((root / name).is_file() for name in plain.filenames)
    assert plain.subject is None or plain.subject.shape == (n,)
    assert "Licence:" in plain.DESCR and "Citation:" in plain.DESCR
    cached = load(root, image_size=8, cache=tmp_path / "cache", n_jobs=2)
    assert isinstance(cached.data, np.memmap)
    np.testing.assert_array_equal(cached.data, plain.data)
    assert not any(root.rglob("*.npy"))


def test_every_reader_says_what_belongs_where(reader, tmp_path):
    load, _ = reader
    name = load.__name__
    with pytest.raises(FileNotFoundError, match=f"'root' parameter of {name}.*Get "):
        load(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=f"{name}: no.*Get .*https://"):
        load(tmp_path / "empty")


@pytest.mark.parametrize(
    ("name", "value"), [("target", "nothing"), ("sensitive", "nothing")]
)
def test_every_reader_lists_what_can_be_chosen(reader, name, value):
    load, root = reader
    message = f"'{name}' parameter of {load.__name__} must be one of"
    with pytest.raises(ValueError, match=message):
        load(root, **{name: value})


@pytest.mark.parametrize("root", [None, 3])
def test_every_reader_wants_a_path(reader, root):
    load, _ = reader
    with pytest.raises(TypeError, match=f"'root' parameter of {load.__name__} must be"):
        load(root)


@pytest.mark.parametrize("sensitive", [[], ["a", "a"], None])
def test_every_reader_wants_distinct_names(reader, sensitive):
    load, root = reader
    with pytest.raises(ValueError, match="'sensitive' parameter .* distinct names"):
        load(root, sensitive=sensitive)


@pytest.mark.parametrize("name", ["image_size", "n_jobs", "verbose"])
def test_every_reader_checks_numbers_before_the_folder(reader, name, tmp_path):
    load, _ = reader
    with pytest.raises(ValueError, match=f"'{name}' parameter of {load.__name__} must"):
        load(tmp_path / "absent", **{name: "many"})


def test_celeba(celeba):
    faces = load_celeba(celeba, sensitive=["Male", "Young"], image_size=8)
    assert faces.target.tolist() == [1, 0, 1, 0, 1, 0]
    assert faces.target_names.tolist() == ["not Blond_Hair", "Blond_Hair"]
    assert list(faces.sensitive_features) == ["Male", "Young"]
    assert faces.sensitive_features["Male"].tolist() == [1, 1, 0, 0, 0, 0]
    assert faces.subject.tolist() == [7, 7, 8, 8, 9, 9]
    assert faces.partition.tolist() == ["train"] * 2 + ["valid"] * 2 + ["test"] * 2
    a, b = split_by_subject(faces.subject, (0.5, 0.5), random_state=0)
    assert not set(faces.subject[a]) & set(faces.subject[b])


def test_celeba_as_downloaded(celeba):
    whole = load_celeba(celeba, image_size=8)
    (celeba / "Anno").mkdir()
    (celeba / "Eval").mkdir()
    (celeba / "Img").mkdir()
    for name in ("list_attr_celeba.txt", "identity_CelebA.txt"):
        shutil.move(celeba / name, celeba / "Anno" / name)
    shutil.move(celeba / "list_eval_partition.txt", celeba / "Eval")
    shutil.move(celeba / "img_align_celeba", celeba / "Img")
    moved = load_celeba(celeba, image_size=8)
    np.testing.assert_array_equal(moved.data, whole.data)
    assert moved.subject.tolist() == whole.subject.tolist()
    assert moved.partition.tolist() == whole.partition.tolist()


def test_celeba_without_the_optional_files(celeba):
    (celeba / "identity_CelebA.txt").unlink()
    (celeba / "list_eval_partition.txt").unlink()
    faces = load_celeba(celeba, image_size=8)
    assert faces.subject is None and faces.partition is None


def test_celeba_misspelt_attribute(celeba):
    with pytest.raises(ValueError, match="Did you mean 'Blond_Hair'"):
        load_celeba(celeba, target="blond_hair")
    with pytest.raises(ValueError, match="Did you mean 'Male'"):
        load_celeba(celeba, sensitive=["Young", "Mael"])


@pytest.mark.parametrize("name", ["list_attr_celeba.txt", "img_align_celeba"])
def test_celeba_part_absent(celeba, name):
    (celeba / name).rename(celeba / "elsewhere")
    with pytest.raises(FileNotFoundError, match=f"load_celeba: no {name}"):
        load_celeba(celeba)


@pytest.mark.parametrize("damage", ["cut", "no count", "other values", "ragged"])
def test_celeba_attributes_damaged(celeba, damage):
    path = celeba / "list_attr_celeba.txt"
    lines = path.read_text().splitlines()
    if damage == "cut":
        lines = lines[:-1]
    elif damage == "no count":
        lines = lines[1:]
    elif damage == "other values":
        lines[3] = lines[3].replace("-1", " 0")
    else:
        lines[4] += " 1 1 1 1"
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(ValueError, match=r"list_attr_celeba\.txt"):
        load_celeba(celeba)


@pytest.mark.parametrize("name", ["identity_CelebA.txt", "list_eval_partition.txt"])
@pytest.mark.parametrize("damage", ["cut", "word", "negative"])
def test_celeba_numbers_damaged(celeba, name, damage):
    lines = (celeba / name).read_text().splitlines()
    last = {"cut": [], "word": ["000006.jpg x"], "negative": ["000006.jpg -1"]}[damage]
    (celeba / name).write_text("\n".join(lines[:-1] + last) + "\n")
    with pytest.raises(
        ValueError, match=f"{name}.* must give one number to each image"
    ):
        load_celeba(celeba)


def test_celeba_unknown_partition(celeba):
    path = celeba / "list_eval_partition.txt"
    path.write_text(path.read_text().replace("jpg 2", "jpg 3"))
    with pytest.raises(ValueError, match="list_eval_partition"):
        load_celeba(celeba)


def test_utkface(utkface):
    with pytest.warns(UserWarning, match="2 files are left out.*39_1_2017") as caught:
        faces = load_utkface(utkface, sensitive=["race", "age"], image_size=8)
    assert len(caught) == 1
    assert faces.target.tolist() == [0, 1, 1, 0]
    assert faces.target_names.tolist() == ["male", "female"]
    frame = faces.sensitive_features
    assert frame["race"].tolist() == ["White", "Others", "Asian", "Indian"]
    assert frame["age"].tolist() == ["<20", "20-39", "40-59", ">=60"]
    assert faces.age.tolist() == [19, 20, 45, 60]
    assert faces.subject is None


@pytest.mark.filterwarnings("ignore:load_utkface. 2 files are left out:UserWarning")
def test_utkface_ages_and_parent_folder(utkface):
    faces = load_utkface(utkface.parent, target="age", age_bins=[45], image_size=8)
    assert faces.target.tolist() == [0, 0, 1, 1]
    assert faces.target_names.tolist() == ["<45", ">=45"]
    assert faces.filenames[0].startswith("UTKFace/19_")


def test_utkface_many_bad_names_are_cut_short(utkface, write_image):
    for i in range(5):
        write_image(utkface / f"bad{i}.jpg")
    with pytest.warns(UserWarning, match="7 files are left out.*, …"):
        load_utkface(utkface, image_size=8)


@pytest.mark.parametrize("bins", [(), (40, 20), (0, 20), 20, (20.5,), (20, 20)])
def test_utkface_bins_must_ascend(utkface, bins):
    with pytest.raises(ValueError, match="'age_bins' parameter of load_utkface must"):
        load_utkface(utkface, age_bins=bins)


def test_ham10000(ham10000):
    skin = load_ham10000(ham10000, sensitive=["sex", "age", "age_60"], image_size=8)
    assert skin.target.tolist() == [1, 1, 0, 1, 1, 0]
    assert skin.target_names.tolist() == ["benign", "malignant"]
    frame = skin.sensitive_features
    assert list(frame) == ["sex", "age", "age_60"]
    sexes = ["male", "male", "female", "female", None, "male"]
    assert [None if pd.isna(v) else v for v in frame["sex"]] == sexes
    assert frame["age_60"].tolist() == [">=60", ">=60", "<60", ">=60", None, "<60"]
    np.testing.assert_array_equal(frame["age"], [60, 60, 59, 85, np.nan, 0])
    assert skin.subject.tolist() == [
        "HAM_1",
        "HAM_1",
        "HAM_2",
        "HAM_3",
        "HAM_4",
        "HAM_5",
    ]


def test_ham10000_diagnoses_and_threshold(ham10000):
    skin = load_ham10000(
        ham10000, target="dx", sensitive="age_85", age_threshold=85, image_size=8
    )
    assert skin.target_names[skin.target].tolist() == [
        "mel", "mel", "nv", "bcc", "akiec", "bkl"
    ]  # fmt: skip
    assert skin.sensitive_features["age_85"].tolist()[3:] == [">=85", None, "<85"]
    with pytest.raises(ValueError, match="Did you mean 'age_50'"):
        load_ham10000(ham10000, sensitive="age_60", age_threshold=50)
    with pytest.raises(ValueError, match="'age_threshold' parameter of load_ham10000"):
        load_ham10000(ham10000, age_threshold="old")


@pytest.mark.parametrize("name", ["HAM10000_metadata", "HAM10000_metadata.tab"])
def test_ham10000_one_folder_and_other_table_names(ham10000, name):
    whole = load_ham10000(ham10000, image_size=8)
    parts = sorted(ham10000.glob("HAM10000_images_part_*"))
    (ham10000 / "images").mkdir()
    for path in [file for part in parts for file in part.iterdir()]:
        path.rename(ham10000 / "images" / path.name)
    table = pd.read_csv(ham10000 / "HAM10000_metadata.csv")
    (ham10000 / "HAM10000_metadata.csv").unlink()
    sep = "\t" if name.endswith(".tab") else ","
    table.to_csv(ham10000 / name, index=False, sep=sep)
    moved = load_ham10000(ham10000, image_size=8)
    np.testing.assert_array_equal(moved.data, whole.data)
    assert moved.filenames[0] == "images/ISIC_1.jpg"


def test_ham10000_damaged(ham10000):
    path = ham10000 / "HAM10000_metadata.csv"
    text = path.read_text()
    path.write_text(text.replace("bkl", "odd"))
    with pytest.raises(ValueError, match="'dx' .* Got 'odd' in row 5"):
        load_ham10000(ham10000)
    path.write_text(text.replace("lesion_id", "lesion"))
    with pytest.raises(ValueError, match="no column 'lesion_id'.*mean 'lesion'"):
        load_ham10000(ham10000)
    path.write_text(text.splitlines()[0])
    with pytest.raises(ValueError, match="has no rows"):
        load_ham10000(ham10000)
    path.write_text(text)
    (ham10000 / "HAM10000_images_part_2" / "ISIC_5.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"ISIC_5\.jpg' \(row 4\)"):
        load_ham10000(ham10000)
    for part in ham10000.glob("HAM10000_images_part_*"):
        shutil.rmtree(part)
    with pytest.raises(FileNotFoundError, match="no folder of images.*Get HAM10000"):
        load_ham10000(ham10000)


@pytest.mark.parametrize(
    ("uncertain", "expected"),
    [("zeros", [1, 0, 0, 0]), ("ones", [1, 1, 0, 0]), ("drop", [1, 0, 0])],
)
def test_chexpert_uncertain_and_blank(chexpert, uncertain, expected):
    chests = load_chexpert(chexpert, uncertain=uncertain, image_size=8)
    assert chests.target.tolist() == expected
    assert len(chests.data) == len(chests.subject) == len(expected)


def test_chexpert(chexpert):
    chests = load_chexpert(chexpert, sensitive=["sex", "age", "age_60"], image_size=8)
    frame = chests.sensitive_features
    sexes = [None if pd.isna(v) else v for v in frame["sex"]]
    assert sexes == ["Female", "Male", "Male", None]
    assert frame["age"].tolist() == [68, 59, 60, 0]
    assert frame["age_60"].tolist() == [">=60", "<60", ">=60", "<60"]
    patients = ["patient00001", "patient00002", "patient00002", "patient00003"]
    assert chests.subject.tolist() == patients
    assert chests.target_names.tolist() == ["no Pleural Effusion", "Pleural Effusion"]
    both = load_chexpert(chexpert, frontal_only=False, image_size=8)
    assert both.target.tolist() == [1, 1, 0, 0, 0]


def test_chexpert_from_the_folder_above(chexpert):
    inside = load_chexpert(chexpert, image_size=8)
    above = load_chexpert(chexpert.parent, image_size=8)
    np.testing.assert_array_equal(above.data, inside.data)
    assert above.filenames[0].startswith("CheXpert-v1.0-small/train/patient00001/")


def test_chexpert_paths_without_the_release(chexpert):
    whole = load_chexpert(chexpert, image_size=8)
    path = chexpert / "train.csv"
    path.write_text(path.read_text().replace("CheXpert-v1.0-small/", ""))
    np.testing.assert_array_equal(
        load_chexpert(chexpert, image_size=8).data, whole.data
    )


def test_chexpert_valid_part(chexpert):
    with pytest.raises(FileNotFoundError, match=r"no valid\.csv"):
        load_chexpert(chexpert, part="valid")
    text = (chexpert / "train.csv").read_text()
    (chexpert / "valid.csv").write_text("\n".join(text.splitlines()[:2]) + "\n")
    assert load_chexpert(chexpert, part="valid", image_size=8).target.tolist() == [1]


def test_chexpert_damaged(chexpert):
    path = chexpert / "train.csv"
    text = path.read_text()
    with pytest.raises(ValueError, match="Did you mean 'Pleural Effusion'"):
        load_chexpert(chexpert, target="pleural effusion")
    with pytest.raises(ValueError, match="no column 'Fracture'"):
        load_chexpert(chexpert, target="Fracture")
    path.write_text(text.replace(",-1.0", ",maybe"))
    with pytest.raises(ValueError, match="Got 'maybe' in row 2"):
        load_chexpert(chexpert)
    path.write_text(text.replace("patient00002", "person2"))
    with pytest.raises(ValueError, match="must name patients.*in row 2"):
        load_chexpert(chexpert)
    path.write_text(text.replace("Frontal,", "Lateral,"))
    with pytest.raises(ValueError, match="no row of .* is left with frontal_only=True"):
        load_chexpert(chexpert)
    path.write_text(text)
    (chexpert / "train/patient00003/study1/view1_frontal.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match=r"patient00003.*\(row 4\) cannot be decoded"):
        load_chexpert(chexpert)


@pytest.fixture
def listed(tmp_path, write_image):
    """A CSV file beside two images."""
    for i in range(2):
        write_image(tmp_path / "img" / f"{i}.png", seed=i)
    frame = pd.DataFrame(
        {
            "file": ["img/0.png", "img/1.png"],
            "label": ["cat", "dog"],
            "site": ["a", None],
            "sex": [1, 0],
            "person": ["x", None],
        }
    )
    frame.to_csv(tmp_path / "table.csv", index=False)
    return tmp_path / "table.csv", frame


COLUMNS = {"path": "file", "target": "label", "sensitive": ["site", "sex"]}


def test_images_from_csv_or_frame(listed, tmp_path):
    for table in listed:
        images = load_images(
            table, tmp_path, subject="person", mode="L", image_size=8, **COLUMNS
        )
        assert images.data.shape == (2, 1, 8, 8)
        assert images.target.tolist() == ["cat", "dog"] and images.target.dtype == "<U3"
        assert list(images.sensitive_features) == ["site", "sex"]
        assert images.sensitive_features["site"].isna().tolist() == [False, True]
        assert images.subject[0] == "x" and pd.isna(images.subject[1])
        assert images.filenames.tolist() == ["img/0.png", "img/1.png"]
        assert "2 images" in images.DESCR


def test_images_with_absolute_paths_and_numbers(listed, tmp_path):
    _, frame = listed
    frame = frame.assign(file=[str(tmp_path / name) for name in frame["file"]])
    frame["label"] = [3, 1]
    images = load_images(frame, tmp_path / "img", image_size=8, **COLUMNS)
    assert images.target.tolist() == [3, 1] and images.subject is None


@pytest.mark.parametrize("column", ["file", "label", "site", "person"])
def test_images_missing_column(listed, tmp_path, column):
    _, frame = listed
    with pytest.raises(ValueError, match=f"no column '{column}' in the DataFrame"):
        load_images(frame.drop(columns=column), tmp_path, subject="person", **COLUMNS)


@pytest.mark.parametrize("column", ["file", "label"])
def test_images_missing_value(listed, tmp_path, column):
    _, frame = listed
    frame.loc[1, column] = None
    with pytest.raises(ValueError, match=f"column '{column}' are missing.*in row 1"):
        load_images(frame, tmp_path, **COLUMNS)


def test_images_table_unusable(listed, tmp_path):
    with pytest.raises(FileNotFoundError, match="'csv' parameter of load_images must"):
        load_images(tmp_path / "absent.csv", tmp_path, **COLUMNS)
    with pytest.raises(
        ValueError, match="'csv' parameter of load_images must.*Got int"
    ):
        load_images(3, tmp_path, **COLUMNS)
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(ValueError, match=r"empty\.csv' cannot be read as a table"):
        load_images(tmp_path / "empty.csv", tmp_path, **COLUMNS)
    with pytest.raises(ValueError, match="'mode' parameter of load_images must be"):
        load_images(listed[0], tmp_path, mode="RGBA", **COLUMNS)
