# SPDX-License-Identifier: Apache-2.0
"""Sets of images and masks: folders, TFDS in its own files, generated shapes; bad ones."""

import threading
import warnings

import mask_folders
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from deepncm_tf.data import segmentation, segmentation_sets, shapes
from deepncm_tf.data.folders import FolderError
from deepncm_tf.utils.errors import DatasetNotFoundError

SHAPE = mask_folders.SHAPE


@pytest.fixture(autouse=True)
def forget_names():
    yield
    for function in vars(segmentation).values():
        getattr(function, "cache_clear", lambda: None)()


def test_a_folder_with_train_and_test(tmp_path):
    written = {}
    for split, seed in (("train", 1), ("val", 2), ("test", 3)):
        written[split] = mask_folders.write(tmp_path / split, count=2, seed=seed)
    splits = segmentation.load(f"folder:{tmp_path}", SHAPE)
    assert segmentation.class_names(f"folder:{tmp_path}") == ["0", "1", "2"]
    for split, pairs in written.items():
        images, masks = splits[split]
        expected_images, expected_masks = zip(*pairs.values(), strict=True)
        np.testing.assert_array_equal(images, expected_images)
        np.testing.assert_array_equal(masks, expected_masks)


def test_a_folder_without_gives_a_fifth_for_testing(tmp_path):
    written = mask_folders.write(tmp_path, count=10)
    splits = segmentation.load(f"folder:{tmp_path}", SHAPE)
    again = segmentation.load(f"folder:{tmp_path}", SHAPE)
    assert [len(splits[name][0]) for name in ("train", "test")] == [8, 2]
    pairs = {image.tobytes(): mask for image, mask in written.values()}
    for name, (images, masks) in splits.items():
        for image, mask in zip(images, masks, strict=True):
            np.testing.assert_array_equal(mask, pairs[image.tobytes()])
        np.testing.assert_array_equal(images, again[name][0])


def test_names_of_classes_and_another_size(tmp_path):
    mask_folders.write(tmp_path)
    (tmp_path / "classes.txt").write_text("sky\nroad\ntree\ncar\n")
    name = f"folder:{tmp_path}"
    assert segmentation.class_names(name) == ["sky", "road", "tree", "car"]
    images, masks = segmentation.load(name, (24, 8))["train"]
    assert images.shape[1:] == (24, 8, 3)
    assert masks.shape[1:] == (24, 8)
    assert set(np.unique(masks)) <= {0, 1, 2, 255}  # by the nearest: no new labels


@pytest.mark.bad_input
def test_a_name_of_two_classes(tmp_path):
    mask_folders.write(tmp_path)
    (tmp_path / "classes.txt").write_text("road\nother\nother\nsky\n")
    with pytest.raises(ValueError, match=r"different name for each.*'other' 2 times in"):
        segmentation.class_names(f"folder:{tmp_path}")


def test_what_does_not_fit_into_memory_is_read_when_asked_for(tmp_path, monkeypatch):
    mask_folders.write(tmp_path, count=10)
    whole = segmentation.load(f"folder:{tmp_path}", SHAPE)["train"]
    monkeypatch.setattr(segmentation, "IN_MEMORY", 0)
    source = segmentation.load(f"folder:{tmp_path}", SHAPE)["train"]
    for array, one in zip(whole, source, strict=True):
        assert not isinstance(one, np.ndarray)
        assert one.shape == array.shape
        np.testing.assert_array_equal(one[[3, 1]], array[[3, 1]])


def test_threads_leave_the_filters_of_warnings_alone(tmp_path, monkeypatch):
    mask_folders.write(tmp_path)
    threads = []

    class Spy(warnings.catch_warnings):
        def __enter__(self):
            threads.append(threading.current_thread())
            return super().__enter__()

    monkeypatch.setattr(warnings, "catch_warnings", Spy)
    segmentation.load(f"folder:{tmp_path}", SHAPE)
    assert set(threads) <= {threading.main_thread()}


def bad_folder(root, kind):
    """A folder with one thing wrong."""
    mask_folders.write(root)
    path = root / "masks" / "01.png"
    mask = np.asarray(Image.open(path))
    if kind == "size":
        Image.fromarray(mask[:6]).save(path)
    elif kind == "colours":
        Image.fromarray(np.repeat(mask[..., None], 3, axis=2)).save(path)
    elif kind == "palette":
        picture = Image.fromarray(mask)
        picture = picture.convert("P")
        picture.putpalette([i for i in range(256) for _ in range(3)])
        picture.save(path)
    elif kind == "no mask":
        path.unlink()
    elif kind == "no image":
        (root / "images" / "01.png").unlink()
    elif kind == "label":
        (root / "classes.txt").write_text("sky\nroad\n")
    elif kind == "void":
        for path in (root / "masks").iterdir():
            Image.fromarray(np.full(SHAPE, 255, "uint8")).save(path)
        (root / "classes.txt").write_text("sky\nroad\n")
    elif kind == "damaged":
        path.write_bytes(path.read_bytes()[:40])
    elif kind == "no masks":
        for path in (root / "masks").iterdir():
            path.unlink()
        (root / "masks").rmdir()
    elif kind == "other splits":
        (root / "images").rename(root / "Train")
        (root / "masks").rename(root / "Test")
    elif kind == "one class":
        for path in (root / "masks").iterdir():
            Image.fromarray(np.zeros(SHAPE, "uint8")).save(path)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("size", r"must have the size of its image, 16 x 12.*01.png of 16 x 6"),
        ("colours", r"must be gray of 8 bits.*01.png of Pillow's mode RGB"),
        ("palette", r"must be gray.*without a palette.*01.png"),
        (
            "no mask",
            r"must have a mask.*1 without a partner, such as .*01.png without mask",
        ),
        ("no image", r"1 without a partner, such as .*01.png without image"),
        ("label", r"Labels must be 0 to 1, or 255 for void. Received: 2 in .*png"),
        ("void", r"must have a pixel that is not void.*void all over"),
        ("damaged", r"Masks must be whole PNG files .*Received: .*01.png"),
        ("no masks", r"must have images/ and masks/.* Received: .*without masks/$"),
        ("other splits", r"Received: .*, without images/, with Test/ and Train/$"),
        ("one class", r"must have 2 to 253 classes.*Received: 1 in"),
    ],
)
def test_bad_folders(tmp_path, kind, message):
    bad_folder(tmp_path, kind)
    name = f"folder:{tmp_path}"
    with pytest.raises(ValueError, match=message):
        segmentation.load(name, SHAPE)


@pytest.mark.bad_input
def test_no_folder(tmp_path):
    with pytest.raises(FolderError, match="must be in a folder"):
        segmentation.load(f"folder:{tmp_path / 'none'}", SHAPE)


def test_shapes_are_the_same_each_time():
    splits = shapes.load()
    again = segmentation.load("shapes", (64, 64))
    for name, (images, masks) in splits.items():
        assert images.shape == (shapes.NUMBERS[name], 64, 64, 3)
        np.testing.assert_array_equal(images, again[name][0])
        np.testing.assert_array_equal(masks, again[name][1])
        assert set(np.unique(masks)) == {*range(5), 255}
    assert not np.array_equal(splits["train"][0][:80], splits["test"][0])


def camvid_data(shape=(18, 24), num_labels=12):
    """CamVid in its form, not in its contents: labels 0..11, of which 11 is void."""
    rng = np.random.default_rng(0)
    return {
        split: [
            {
                "image": rng.integers(256, size=(*shape, 3)).astype("uint8"),
                "segmentation_mask": rng.integers(num_labels, size=(*shape, 1)).astype(
                    "uint8"
                ),
            }
            for _ in range(count)
        ]
        for split, count in {"train": 3, "val": 2, "test": 2}.items()
    }


def write_tfds(folder, name, data):
    shape = data["train"][0]["image"].shape[:2]
    image = tfds.features.Image(shape=(*shape, 3), encoding_format="png")
    mask = tfds.features.Image(shape=(*shape, 1), encoding_format="png")
    features = tfds.features.FeaturesDict({"image": image, "segmentation_mask": mask})
    tfds.dataset_builders.store_as_tfds_dataset(
        name=name,
        version="1.0.0",
        data_dir=folder,
        split_datasets={split: _as_dataset(rows, features) for split, rows in data.items()},
        features=features,
    )


def _as_dataset(rows, features):
    import tensorflow as tf

    return tf.data.Dataset.from_generator(
        lambda: iter(rows),
        output_signature={
            name: tf.TensorSpec(feature.shape, tf.uint8)
            for name, feature in features.items()
        },
    )


def test_tfds(tmp_path):
    data = camvid_data()
    write_tfds(tmp_path, "camvid", data)
    splits = segmentation.load("camvid", (18, 24), str(tmp_path))
    assert set(splits) == {"train", "val", "test"}
    for split, rows in data.items():
        images, masks = splits[split]
        expected = {
            row["image"].tobytes(): row["segmentation_mask"][..., 0] for row in rows
        }
        for image, mask in zip(images, masks, strict=True):
            truth = expected[image.tobytes()]
            np.testing.assert_array_equal(mask, np.where(truth == 11, 255, truth))
    names = segmentation.class_names("tfds:camvid", str(tmp_path))
    assert names == [str(label) for label in range(12)]


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_tfds_has_the_classes_of_all_pixels_of_all_splits(tmp_path, split):
    data = camvid_data((300, 300), 2)
    data[split][1]["segmentation_mask"][37, 44] = 9  # not in 256 x 256
    write_tfds(tmp_path, "thin", data)
    names = segmentation.class_names("tfds:thin", str(tmp_path))
    assert names == [str(label) for label in range(10)]
    masks = segmentation.load("tfds:thin", (300, 300), str(tmp_path))[split][1]
    assert (masks == 9).sum() == 1


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("value", "message"),
    [(255, "Received: 1 in --dataset=tfds:two.* 255 means void, save"), (254, "255 in")],
)
def test_tfds_has_too_few_classes_or_too_many(tmp_path, value, message):
    data = camvid_data(num_labels=2)
    for rows in data.values():
        for row in rows:
            row["segmentation_mask"] *= np.uint8(value)
    write_tfds(tmp_path, "two", data)
    with pytest.raises(ValueError, match=f"must have 2 to 253 classes.*{message}"):
        segmentation.class_names("tfds:two", str(tmp_path))


@pytest.mark.bad_input
def test_sets_that_are_not_there(tmp_path):
    with pytest.raises(DatasetNotFoundError, match="--dataset=shapes needs no download"):
        segmentation.load("tfds:no_such_set", SHAPE, str(tmp_path))
    with pytest.raises(DatasetNotFoundError, match="must be a set of TFDS with image and"):
        segmentation.load("tfds:mnist", SHAPE, str(tmp_path))


def test_the_table_of_sets():
    for name, known in segmentation_sets.SETS.items():
        height, width = segmentation_sets.as_shape(known.image_shape)
        assert min(height, width) >= 64
        labels = known.labels or range(len(known.class_names))
        assert len(labels) == len(set(labels)) == len(known.class_names), name
        assert not set(labels) & set(known.void), name
