# SPDX-License-Identifier: Apache-2.0
"""What users ask of a classifier every day: probabilities, names, neighbours, pages."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import random_images, small_backbone, small_model

import deepncm_tf
from deepncm_tf import DeepNCM
from deepncm_tf.classifiers import DecayMean, OnlineMean, SubCentroids

C, N = 3, 24
NAMES = ["cat", "dog", "owl"]


@pytest.fixture(scope="module")
def named():
    """A model with class names that was trained on them, its images and names."""
    images, labels = random_images(N)
    model = DeepNCM(small_backbone(), OnlineMean(C), class_names=NAMES)
    model.compile(keras.optimizers.SGD(0.01), metrics=["accuracy"])
    names = np.array(NAMES)[labels]
    validation = (images[:4], names[:4])
    model.fit(images, names, epochs=3, validation_data=validation, verbose=0)
    return model, images, names


def test_names_are_labels_everywhere(named):
    model, images, names = named
    numbers = np.array([NAMES.index(name) for name in names])
    by_name = model.evaluate(images, names, verbose=0, return_dict=True)
    assert by_name == model.evaluate(images, numbers, verbose=0, return_dict=True)
    batches = [model.test_on_batch(images, y) for y in (list(names), numbers)]
    assert batches[0] == pytest.approx(batches[1])
    predicted = model.predict_classes(images, verbose=0)
    assert (predicted == names).mean() == pytest.approx(by_name["accuracy"])
    model.adapt(images, names, verbose=0)
    counts = np.bincount(numbers, minlength=C)
    assert model.classifier.counts.numpy().tolist() == counts.tolist()


class Table:
    """What a `pandas.DataFrame` of one column shows of itself, or a `Series` of it."""

    def __init__(self, values, is_frame):
        self.values = np.array(values, object)
        if is_frame:
            self.values, self.columns = self.values[:, None], ["class"]
        else:
            self.dtype = self.values.dtype
        self.shape = self.values.shape

    def __array__(self, dtype=None, copy=None):
        return self.values

    def __len__(self):
        return len(self.values)

    def __iter__(self):
        return iter(self.columns if hasattr(self, "columns") else self.values)

    def __bool__(self):
        raise ValueError("The truth value is ambiguous.")


FORMS = {
    "array": np.array,
    "column": lambda names: np.array(names)[:, None],
    "series": lambda names: Table(names, is_frame=False),
    "frame": lambda names: Table(names, is_frame=True),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_names_in_any_form(form):
    images, labels = random_images(N)
    model = small_model(class_names=form(NAMES))
    assert model.class_names == NAMES
    assert {type(name) for name in model.class_names} == {str}
    model.adapt(images, form(np.array(NAMES)[labels].tolist()), verbose=0)
    assert model.classifier.counts.numpy().tolist() == np.bincount(labels).tolist()
    assert model.add_classes(2, form(["emu", "fox"])).class_names == [*NAMES, "emu", "fox"]
    assert model.remove_classes(form(["cat"])).class_names == NAMES[1:]
    assert model.merge_classes({"pet": form(["cat", "dog"])}).class_names == ["pet", "owl"]


@pytest.mark.parametrize(
    "form", [tf.constant, lambda names: [[name] for name in names]], ids=["tf", "nested"]
)
def test_labels_by_name_in_tensors_and_nested_lists(form):
    images, labels = random_images(N)
    model = small_model(class_names=NAMES)
    model.fit(images, form([NAMES[label] for label in labels]), verbose=0)
    assert model.classifier.counts.numpy().tolist() == np.bincount(labels).tolist()


@pytest.mark.bad_input
@pytest.mark.parametrize("names", [3, set(NAMES), dict.fromkeys(NAMES)])
def test_class_names_that_are_none(names):
    message = r"`class_names` must be 3 different strings in order.*Received: class_names="
    with pytest.raises(ValueError, match=message):
        small_model(class_names=names)


@pytest.mark.bad_input
def test_changes_of_classes_name_their_arguments():
    model = small_model(class_names=NAMES)
    for names in (5, "ab", [], ["emu", "cat"], [1, 2]):
        with pytest.raises(
            ValueError, match=r"`names` must be 2 strings.*Received: names="
        ):
            model.add_classes(2, names)
    with pytest.raises(ValueError, match=r"`labels` must be of classes.*Received: 'emu'"):
        model.remove_classes(["emu"])
    with pytest.raises(ValueError, match=r"`groups` must be of classes.*Received: 'emu'"):
        model.merge_classes({"bird": ["emu"]})
    with pytest.raises(ValueError, match="`groups` must be a dictionary from a name"):
        model.merge_classes({1: ["cat", "dog"]})


def test_probabilities_and_classes(named):
    model, images, _ = named
    logits = model.predict(images, verbose=0)
    found = model.predict_proba(images, verbose=0)
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected = exponentials / exponentials.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    numbers = model.predict_classes(images, names=False, verbose=0)
    assert numbers.tolist() == logits.argmax(axis=1).tolist()
    nameless = small_model()
    assert nameless.predict_classes(images, verbose=0).dtype.kind == "i"


@pytest.mark.bad_input
def test_names_of_no_class(named):
    model, images, _ = named
    with pytest.raises(ValueError, match=r"cat, dog, owl\. Received: 'emu'"):
        model.fit(images, ["emu"] * N, verbose=0)
    with pytest.raises(ValueError, match=r"DeepNCM\(class_names=\.\.\.\)"):
        small_model().fit(images, np.array(["cat"] * N), verbose=0)


def test_a_bank_gives_the_nearest(named):
    model, images, names = named
    with pytest.raises(ValueError, match="Call `index`"):
        small_model().lookup(images)
    model.index(images, names, verbose=0)
    found = model.lookup(images[:5], k=2, verbose=0)
    assert found.rows[:, 0].tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(found.similarities[:, 0], 1, atol=1e-5)
    assert [NAMES[c] for c in found.labels[:, 0]] == list(names[:5])


def test_pages_of_my_own_model(named, tmp_path):
    model, images, names = named
    explained = model.explain(
        images[:3], tmp_path / "report", y=names[:3], known=(images, names), verbose=0
    )
    assert [one["label"] for one in explained] == list(names[:3])
    written = json.loads((tmp_path / "report" / "explanations.json").read_text())
    assert [one["rule"] for one in written["queries"]] == [o["rule"] for o in explained]
    page = (tmp_path / "report" / "index.html").read_text()
    assert all(name in page for name in NAMES)
    assert (tmp_path / "report" / "exemplars.png").read_bytes()[1:4] == b"PNG"
    found = model.gallery(
        images[:3], tmp_path / "gallery.html", known=(images, names), k=4, verbose=0
    )
    assert found.rows.shape == (3, 4)
    assert "sample 2" in (tmp_path / "gallery.html").read_text()


def test_a_gallery_leaves_the_index_as_it_was(named, tmp_path):
    model, images, names = named
    bank = model.index(images[:6], names[:6], verbose=0)
    model.gallery(images[:1], tmp_path / "page.html", known=(images, names), k=2, verbose=0)
    assert model.feature_bank is bank


@pytest.mark.bad_input
@pytest.mark.parametrize("kind", ["explain", "gallery"])
def test_pages_of_unequal_lengths(named, tmp_path, kind):
    model, images, names = named
    write = getattr(model, kind)
    for known, received in (
        ((images, names[:5]), "24 samples, 5 labels and 24 pictures"),
        ((images, names, images[:4]), "24 samples, 24 labels and 4 pictures"),
        ((images, None), "24 samples, 0 labels and 24 pictures"),
    ):
        with pytest.raises(ValueError, match=f"`known` must .* Received: {received}"):
            write(images[:3], tmp_path / "page", known=known, verbose=0)
    known = (images, names)
    with pytest.raises(ValueError, match=r"`images` must .*Received: 2 pictures of 3"):
        write(images[:3], tmp_path / "page", known=known, images=images[:2], verbose=0)
    assert not list(tmp_path.iterdir())


def test_pages_of_rows_of_numbers(tmp_path):
    x = np.random.default_rng(0).normal(size=(N, 5)).astype("float32")
    y = np.arange(N) % C
    model = DeepNCM(
        keras.Sequential([keras.Input((5,)), keras.layers.Dense(4)]), SubCentroids(C, 2)
    )
    model.compile("sgd")
    model.adapt(x, y, verbose=0)
    with pytest.raises(ValueError, match="`known` must be training samples"):
        model.explain(x[:2], tmp_path / "report")
    model.anchor(x, y, verbose=0)
    assert len(model.explain(x[:2], tmp_path / "report", verbose=0)) == 2


def test_reprs_are_what_one_would_write(named):
    assert repr(OnlineMean(10)) == "OnlineMean(num_classes=10)"
    text = "DecayMean(num_classes=4, temperature=2.0, decay=0.5)"
    assert repr(DecayMean(4, decay=0.5, temperature=2)) == text
    backbone = keras.Sequential([keras.Input((2,)), keras.layers.Dense(4)], name="table")
    model = DeepNCM(backbone, OnlineMean(C), embedding_dim=2)
    assert repr(model) == "DeepNCM(table, OnlineMean(num_classes=3), embedding_dim=2)"


def test_classifiers_come_from_the_package():
    assert deepncm_tf.OnlineMean is OnlineMean
    assert "SubCentroids" in dir(deepncm_tf)


def test_bias_correction_is_a_weighted_mean_of_batch_means():
    decay, rng = 0.9, np.random.default_rng(0)
    classifier = DecayMean(2, decay=decay, bias_correction=True)
    batches = []
    for step in range(4):
        x = rng.normal(size=(3, 2)).astype("float32")
        classifier.update(x, [0, 0, 0])
        batches.append(x.mean(axis=0))
        weights = decay ** np.arange(step, -1, -1)
        expected = (weights[:, None] * batches).sum(axis=0) / weights.sum()
        np.testing.assert_allclose(classifier.means[0], expected, rtol=1e-5, atol=1e-6)
    assert (classifier.means[1].numpy() == 0).all()
    published = DecayMean(2, decay=decay)
    published.update(np.ones((1, 2), "float32"), [0])
    np.testing.assert_allclose(published.means[0], 0.1, rtol=1e-5)


def test_bias_correction_after_adapt_moves_on_from_there():
    classifier = DecayMean(1, decay=0.9, bias_correction=True)
    classifier.adapt(np.ones((4, 2), "float32"), np.zeros(4, int))
    classifier.update(np.zeros((1, 2), "float32"), [0])
    np.testing.assert_allclose(classifier.means[0], 0.9, rtol=1e-6)
