# SPDX-License-Identifier: Apache-2.0
import subprocess
import sys

import numpy as np
import picture_folders
import pytest
from sklearn.datasets import load_digits

from deepncm_tf.data import datasets


@pytest.fixture(scope="module")
def digits():
    return datasets.load("digits")


def test_digits(digits):
    assert {name: len(labels) for name, (_, labels) in digits.items()} == {
        "train": 1437,
        "test": 360,
    }
    for images, labels in digits.values():
        assert images.shape == (len(labels), 32, 32, 3)
        assert images.dtype == np.uint8
        assert labels.dtype == np.int32
        assert images.max() == 255
        np.testing.assert_array_equal(images[..., 0], images[..., 2])
        assert (np.bincount(labels) >= 0.095 * len(labels)).all()


def test_digits_are_the_bundled_ones(digits):
    """Every 4x4 block averages to about the original's pixel; no image is there twice."""
    originals = np.round(load_digits().images).reshape(-1, 64)
    found = []
    for images, _ in digits.values():
        blocks = images[..., 0].reshape(-1, 8, 4, 8, 4).mean(axis=(2, 4)) * 16 / 255
        distances = ((blocks.reshape(-1, 1, 64) - originals[:50]) ** 2).mean(axis=-1)
        found.append((distances.min(axis=0) < 4.0).sum())
    assert sum(found) >= 50
    every = np.concatenate([images for images, _ in digits.values()])
    assert len(np.unique(every.reshape(1797, -1), axis=0)) >= 1790


def test_digits_leave_tensorflow_to_be_set_up():
    """Logical devices, of which a strategy may need several, come first."""
    code = "import sys; from deepncm_tf import datasets; datasets.load('digits'); "
    code += "sys.exit(bool({'keras', 'tensorflow'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_digits_are_the_same_each_time(digits):
    again = datasets.load("digits")
    for name, (images, labels) in digits.items():
        np.testing.assert_array_equal(again[name][0], images)
        np.testing.assert_array_equal(again[name][1], labels)


def test_coarse_digits(digits):
    coarse = datasets.load("digits", label="coarse")
    np.testing.assert_array_equal(coarse["test"][1], digits["test"][1] // 2)


def test_validation_split(digits):
    split = datasets.load("digits", validation_fraction=0.25)
    assert {name: len(labels) for name, (_, labels) in split.items()} == {
        "train": 1078,
        "val": 359,
        "test": 360,
    }
    np.testing.assert_array_equal(split["test"][0], digits["test"][0])
    together = np.concatenate([split["train"][0], split["val"][0]])
    assert sorted(x.tobytes() for x in together) == sorted(
        x.tobytes() for x in digits["train"][0]
    )
    shares = np.bincount(split["val"][1]) / np.bincount(digits["train"][1])
    np.testing.assert_allclose(shares, 0.25, atol=0.01)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("arguments", "received"),
    [
        ({"name": "mnist"}, "name='mnist'"),
        ({"name": "cifar10", "label": "coarse"}, "label='coarse'"),
        ({"name": "digits", "validation_fraction": 0.001}, "validation_fraction=0.001"),
        ({"name": "digits", "validation_fraction": 0.999}, "validation_fraction=0.999"),
        ({"name": "digits", "validation_fraction": -0.1}, "validation_fraction=-0.1"),
    ],
)
def test_bad_arguments(arguments, received):
    with pytest.raises(ValueError, match=f"Received: {received}"):
        datasets.load(**arguments)


@pytest.mark.bad_input
@pytest.mark.parametrize("classes", [None, [0, 2]])
def test_a_class_that_cannot_be_held_out(tmp_path, classes):
    root = picture_folders.write(tmp_path, {"a": 20, "b": 20, "c": 2})
    message = "Received: validation_fraction=0.2, and one image of class 'c'"
    with pytest.raises(ValueError, match=message):
        datasets.load(f"folder:{root}", "fine", 0.2, classes=classes)
    splits = datasets.load(f"folder:{root}", "fine", 0.2, classes=[0, 1])
    assert np.bincount(splits["val"][1]).tolist() == [3, 3]


@pytest.mark.bad_input
def test_missing_data_without_a_network(tmp_path, monkeypatch):
    def unreachable(*args):
        raise OSError("Name or service not known")

    monkeypatch.setattr(datasets.socket, "getaddrinfo", unreachable)
    with pytest.raises(datasets.DatasetNotFoundError) as error:
        datasets.load("cifar10", data_dir=str(tmp_path))
    message = str(error.value)
    for part in (str(tmp_path), "--data_dir", "--dataset=digits", "Name or service"):
        assert part in message
    assert not list(tmp_path.iterdir())


def prepared(name):
    try:
        import tensorflow_datasets as tfds

        return tfds.builder(name).is_prepared()
    except Exception:
        return False


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "label", "num_classes"),
    [
        ("cifar10", "fine", 10),
        pytest.param("cifar100", "coarse", 20, marks=pytest.mark.thorough),
    ],
)
def test_cifar(name, label, num_classes):
    if not prepared(name):
        pytest.skip(f"TFDS has no {name} here")
    splits = datasets.load(name, label)
    for split, size in (("train", 50_000), ("test", 10_000)):
        images, labels = splits[split]
        assert images.shape == (size, 32, 32, 3)
        np.testing.assert_array_equal(
            np.bincount(labels), np.full(num_classes, size // num_classes)
        )


def test_reading_from_tfds(tmp_path, monkeypatch):
    """The same on generated images in TFDS's own files, where there is no CIFAR."""
    import tensorflow_datasets as tfds

    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(30, 32, 32, 3)).astype("uint8")

    def examples(n):
        for i in range(n):
            labels = {"label": 99 - i, "coarse_label": i % 20}
            yield f"{i:05d}", {"id": f"{i:05d}", "image": images[i], **labels}

    builder = tfds.builder("cifar100", data_dir=tmp_path)
    monkeypatch.setattr(
        type(builder),
        "_split_generators",
        lambda *args: {"train": examples(30), "test": examples(10)},
    )
    builder.download_and_prepare()

    for label, expected in (("fine", 99 - np.arange(30)), ("coarse", np.arange(30) % 20)):
        splits = datasets.load("cifar100", label, data_dir=str(tmp_path))
        for name, size in (("train", 30), ("test", 10)):
            found, labels = splits[name]
            assert labels.dtype == np.int32
            by_image = {
                image.tobytes(): y for image, y in zip(images, expected, strict=True)
            }
            np.testing.assert_array_equal([by_image[x.tobytes()] for x in found], labels)
            assert len(found) == size
