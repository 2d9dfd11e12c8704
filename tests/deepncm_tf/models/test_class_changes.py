# SPDX-License-Identifier: Apache-2.0
"""Models whose classes come and go: they predict, save, export and train on."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import random_images, small_backbone, to_numpy
from methods import ARGUMENTS, NAMES, others_are_thorough

from deepncm_tf import DeepNCM
from deepncm_tf.classifiers import LinearDiscriminant, OnlineMean, Softmax
from deepncm_tf.distribution import strategies

C = 4
WITH_STATE = [name for name, cls in NAMES.items() if cls is not Softmax]


def make(cls=LinearDiscriminant, arguments=None, n=24, **kwargs):
    images, labels = random_images(n, C)
    classifier = cls(C, **(arguments or {}))
    model = DeepNCM(small_backbone(), classifier, embedding_dim=5, **kwargs)
    model.adapt(images, labels, verbose=0)
    return model, images, labels


@pytest.mark.parametrize("name", others_are_thorough(WITH_STATE, ["dnc"]))
def test_a_changed_model_saves_exports_and_trains_on(name, tmp_path):
    names = ["a", "b", "c", "d"]
    model, images, labels = make(NAMES[name], ARGUMENTS.get(name), class_names=names)
    before = model.predict(images, verbose=0)
    weights = model.get_weights()
    new = model.remove_classes(["b"]).add_classes(1, names=["e"])
    assert new.class_names == ["a", "c", "d", "e"]
    assert new.backbone is model.backbone
    numbers = np.array([0, 3, 1, 2])[labels]  # what was b is the new class
    new.compile(keras.optimizers.SGD(0.01), metrics=["accuracy"])
    new.fit(images, numbers, epochs=1, verbose=0)
    expected = new.predict(images, verbose=0)
    assert expected.shape == (24, 4)
    assert np.isfinite(expected).all()
    new.save(tmp_path / "new.keras")
    loaded = keras.models.load_model(tmp_path / "new.keras")
    np.testing.assert_array_equal(loaded.predict(images, verbose=0), expected)
    assert loaded.class_names == new.class_names
    new.export(str(tmp_path / "export"), verbose=False)
    served = tf.saved_model.load(str(tmp_path / "export"))
    np.testing.assert_allclose(served.serve(images), expected, rtol=1e-4, atol=1e-4)
    # All but the shared backbone is as it was.
    own = [v.path for v in model.variables].index(model.classifier.variables[0].path)
    for variable, value in zip(model.variables[own:], weights[own:], strict=True):
        np.testing.assert_array_equal(to_numpy(variable), value)
    assert before.shape == (24, 4)


def test_names_and_numbers():
    model, images, _labels = make(OnlineMean)
    assert model.class_names is None
    assert model.remove_classes([1]).class_names is None
    grown = model.add_classes(2)
    assert (grown.num_classes, grown.class_names) == (6, None)
    named = model.add_classes(1, names=["new"])
    assert named.class_names == ["0", "1", "2", "3", "new"]
    merged = named.merge_classes({"low": [2, "0"], "high": ["new"]})
    assert merged.class_names == ["low", "1", "3", "high"]
    logits = model.predict(images, verbose=0)
    np.testing.assert_allclose(
        merged.predict(images, verbose=0)[:, [1, 2]], logits[:, [1, 3]], rtol=1e-6
    )
    own = DeepNCM(model.backbone, OnlineMean(C), class_names=["a", "b", "c", "d"])
    assert DeepNCM.from_config(own.get_config()).class_names == ["a", "b", "c", "d"]
    only = model.remove_classes(2)
    np.testing.assert_allclose(
        only.predict(images, verbose=0), logits[:, [0, 1, 3]], rtol=1e-6
    )


def state(model):
    return [
        to_numpy(value)
        for sums in model.classifier.read_statistics()
        for value in (sums.counts, sums.totals, sums.moment)
        if value is not None
    ]


@pytest.mark.parametrize(
    "cls", [pytest.param(OnlineMean, marks=pytest.mark.thorough), LinearDiscriminant]
)
def test_forgotten_samples_and_merged_models_to_the_bit(cls):
    model, images, labels = make(cls)
    part, rest = slice(0, 8), slice(8, 24)
    gone = model.forget(images[part], labels[part], batch_size=8, verbose=0)
    models = []
    for rows in (part, rest):
        other = model.with_classifier(cls(C))
        other.adapt(images[rows], labels[rows], batch_size=8, verbose=0)
        models.append(other)
    whole = model.with_classifier(cls(C))
    whole.adapt(images, labels, batch_size=8, verbose=0)
    for one, other in (
        (gone, models[1]),
        (models[0].merge_statistics(models[1]), whole),
    ):
        for a, b in zip(state(one), state(other), strict=True):
            np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(
            one.predict(images, verbose=0), other.predict(images, verbose=0)
        )


class OfBatchSize(keras.layers.Layer):
    """Features that differ in a batch of one, as some kernels round them."""

    def call(self, x):
        return x + keras.ops.cast(keras.ops.shape(x)[0] == 1, x.dtype)


@pytest.mark.parametrize("num_replicas", [1, 2])
def test_one_sample_is_forgotten_to_the_bit(num_replicas):
    features = np.random.default_rng(0).normal(size=(42, 3)).astype("float32")
    labels = np.arange(42) % C
    with strategies.get_strategy("mirrored", num_replicas).scope():
        model = DeepNCM(keras.Sequential([OfBatchSize()]), OnlineMean(C))
    model.adapt(features, labels, verbose=0)
    gone = model.forget(features[40:41], labels[40:41], verbose=0)
    never_seen = np.delete(np.arange(42), 40)
    model.adapt(features[never_seen], labels[never_seen], verbose=0)
    for a, b in zip(state(gone), state(model), strict=True):
        np.testing.assert_array_equal(a, b)


def test_on_replicas():
    images, labels = random_images(24, C)
    with strategies.get_strategy("mirrored", 2).scope():
        model = DeepNCM(small_backbone(), LinearDiscriminant(C))
    model.adapt(images, labels, verbose=0)
    grown = model.forget(images[:4], labels[:4], verbose=0).add_classes(1)
    values = grown.classifier.kernel.value.values
    assert len(values) == 2
    np.testing.assert_array_equal(values[0].numpy(), values[1].numpy())
    counts = to_numpy(grown.classifier.counts)
    assert counts.tolist() == [*np.bincount(labels[4:], minlength=C), 0]


class Own(DeepNCM):
    """A subclass with an argument of its own."""

    def __init__(self, *args, note="", **kwargs):
        super().__init__(*args, **kwargs)
        self.note = note

    def get_config(self):
        return {**super().get_config(), "note": self.note}


class Tokens(keras.layers.Layer):
    """A backbone that says neither what it takes nor how it was made."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.rows = keras.layers.Embedding(9, 4)

    def call(self, x):
        return self.function(self.rows(x), axis=1)


CHANGES = {
    "add": lambda model, x, y: model.add_classes(1),
    "remove": lambda model, x, y: model.remove_classes([0]),
    "merge": lambda model, x, y: model.merge_classes({"low": [0, 1]}),
    "forget": lambda model, x, y: model.forget(x, y, verbose=0),
    "join": lambda model, x, y: model.merge_statistics(model),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_model_is_of_the_same_kind(change):
    images, labels = random_images(8, C)
    arguments = {"note": "mine", "dtype": "mixed_bfloat16", "embedding_dim": 5}
    model = Own(small_backbone(), OnlineMean(C), **arguments)
    model.embedding.trainable = False
    model.adapt(images, labels, verbose=0)
    new = CHANGES[change](model, images, labels)
    assert (type(new), new.note) == (Own, "mine")
    assert new.dtype_policy.name == "mixed_bfloat16"
    assert new.embedding.dtype_policy.name == "mixed_bfloat16"
    assert not new.embedding.trainable
    assert new.name != model.name
    np.testing.assert_array_equal(
        new.embed(images, verbose=0), model.embed(images, verbose=0)
    )


def test_a_changed_model_takes_the_same_inputs():
    tokens, labels = np.array([[1, 2, 3], [4, 5, 6]], "int32"), [0, 1]
    model = DeepNCM(Tokens(keras.ops.mean), OnlineMean(2))
    model.adapt(tokens, np.array(labels), verbose=0)
    new = model.add_classes(1)
    assert new.input_signature[0].dtype == model.input_signature[0].dtype == "int32"
    assert new.predict_classes(tokens, verbose=0).tolist() == labels


@pytest.mark.bad_input
@pytest.mark.parametrize("change", ["add", "remove", "merge", "join"])
def test_classes_of_a_model_that_is_not_built(change):
    model = DeepNCM(keras.Sequential([keras.layers.Dense(2)]), OnlineMean(C))
    with pytest.raises(ValueError, match="`classifier` must be built"):
        CHANGES[change](model, None, None)


@pytest.mark.bad_input
def test_bad_changes():
    model, images, labels = make()
    for change, message in (
        (lambda: model.add_classes(0), "Received: number=0"),
        (lambda: model.add_classes(2, names=["a"]), r"Received: names=\['a'\]"),
        (lambda: model.add_classes(1, names=["3"]), r"Received: names=\['3'\]"),
        (lambda: model.remove_classes([4]), "names in `class_names`. Received: 4"),
        (lambda: model.remove_classes(["a"]), "Received: 'a'"),
        (lambda: model.remove_classes(range(4)), "Received: all 4 of them"),
        (lambda: model.merge_classes({"a": [1, 2], "b": [2]}), "each of them once"),
        (lambda: model.merge_classes({"a": []}), "at least one"),
        (lambda: model.merge_classes([[1, 2]]), r"Received: groups=\[\[1, 2\]\]"),
        (lambda: model.merge_classes({"x": 1}), "`groups` must .* groups={'x': 1}"),
        (lambda: model.merge_classes({"x": "01"}), "a sequence .* groups={'x': '01'}"),
        (lambda: model.merge_classes({1: [1, 2]}), r"`groups` must .* groups={1: \[1, 2"),
        (lambda: model.merge_classes({"x": [[1]]}), r"`groups` must .*Received: \[1\]"),
        (lambda: model.add_classes(1, names=5), r"`names` must .* names=5"),
        (
            lambda: model.forget(images[:0], labels[:0]),
            "`x` must hold at least one sample",
        ),
        (
            lambda: model.forget(images + 1, labels, verbose=0),
            "Received: samples that were not",
        ),
        (
            lambda: model.merge_statistics(make()[0]),
            "the same backbone.*Received: one with other weights",
        ),
        (
            lambda: model.merge_statistics(model.add_classes(1)),
            "Received: num_classes=5, and here num_classes=4",
        ),
        (lambda: model.merge_statistics(5), "`other` must be a DeepNCM. Received: other=5"),
        (
            lambda: DeepNCM(small_backbone(), OnlineMean(2), class_names=["a", "a"]),
            r"Received: class_names=\['a', 'a'\]",
        ),
        (
            lambda: DeepNCM(small_backbone(), Softmax(2)).add_classes(1),
            "gradients have found for all classes",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            change()
