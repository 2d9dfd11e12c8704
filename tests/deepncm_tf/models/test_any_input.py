# SPDX-License-Identifier: Apache-2.0
"""Backbones of any inputs: several with names, integer tokens, rows of numbers."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from deepncm_tf import DeepNCM
from deepncm_tf.classifiers import NeighborhoodComponents, OnlineMean, SubCentroids
from deepncm_tf.models import embedding

C, N = 3, 12
RNG = np.random.default_rng(0)
LABELS = (np.arange(N) % C).astype("int32")


def named_backbone():
    """Numbers and tokens to features."""
    age = keras.Input((2,), name="age")
    words = keras.Input((5,), dtype="int32", name="words")
    embedded = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(20, 4)(words))
    features = keras.layers.Dense(6)(keras.layers.Concatenate()([age, embedded]))
    return keras.Model({"age": age, "words": words}, features)


def named_inputs(n=N):
    age = (RNG.normal(size=(n, 2)) + LABELS[:n, None]).astype("float32")
    words = RNG.integers(20, size=(n, 5)).astype("int32")
    return {"age": age, "words": words}


def token_backbone():
    layers = [keras.Input((5,), dtype="int32"), keras.layers.Embedding(20, 4)]
    return keras.Sequential([*layers, keras.layers.Flatten(), keras.layers.Dense(6)])


def compiled(model):
    model.compile("sgd", metrics=["accuracy"])
    return model


def test_adapt_takes_ragged_tokens():
    words = tf.ragged.constant([[1], [2, 3, 4], [5, 6]] * (N // 3))
    layers = [
        keras.Input((None,), dtype="int32", ragged=True),
        keras.layers.Embedding(9, 4),
    ]
    backbone = keras.Sequential([*layers, keras.layers.GlobalAveragePooling1D()])
    model = DeepNCM(backbone, OnlineMean(C))
    model.adapt(words, LABELS, verbose=0)
    assert model.classifier.counts.numpy().sum() == N


@pytest.fixture(scope="module")
def named():
    """A model of two named inputs, trained, and its inputs."""
    model = compiled(DeepNCM(named_backbone(), OnlineMean(C)))
    x = named_inputs()
    model.fit(x, LABELS, epochs=2, verbose=0)
    return model, x


def test_named_inputs_go_through_everything(named, tmp_path):
    model, x = named
    expected = model.predict(x, verbose=0)
    assert model.classifier.counts.numpy().sum() == 2 * N
    assert model.embed(x, verbose=0).shape == (N, 6)
    assert np.isfinite(model.evaluate(x, LABELS, verbose=0)).all()
    model.calibrate(x, LABELS, alpha=0.5, verbose=0)
    assert model.classify(x, verbose=0).p_values.min() == pytest.approx(2 / (N + 1))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.predict(x, verbose=0), expected, rtol=1e-5)


def test_the_exported_signature_is_that_of_the_backbone(named, tmp_path):
    model, x = named
    model.export(tmp_path / "named", verbose=False)
    served = tf.saved_model.load(tmp_path / "named")
    specs = served.signatures["serve"].structured_input_signature[1]
    dtypes = {name: spec.dtype for name, spec in specs.items()}
    assert dtypes == {"age": tf.float32, "words": tf.int32}
    inputs = {name: tf.constant(part) for name, part in x.items()}
    expected = model.predict(x, verbose=0)
    np.testing.assert_allclose(served.serve(inputs), expected, rtol=1e-4, atol=1e-5)
    assert served.embed(inputs).shape == (N, 6)


def test_tokens_are_exported_as_integers(tmp_path):
    model = compiled(DeepNCM(token_backbone(), OnlineMean(C)))
    words = named_inputs()["words"]
    model.fit(words, LABELS, verbose=0)
    (spec,) = model.input_signature
    assert (tuple(spec.shape), spec.dtype) == ((None, 5), "int32")


def test_a_backbone_without_inputs_of_its_own_takes_those_of_the_first_batch():
    class Backbone(keras.Model):
        def __init__(self):
            super().__init__()
            self.table, self.dense = keras.layers.Embedding(20, 4), keras.layers.Dense(6)

        def call(self, words, training=False):
            return self.dense(keras.ops.mean(self.table(words), axis=1))

    model = compiled(DeepNCM(Backbone(), OnlineMean(C)))
    words = named_inputs()["words"]
    dataset = tf.data.Dataset.from_tensor_slices((words, LABELS)).batch(4)
    model.adapt(dataset, verbose=0)  # which builds it
    assert model.input_signature[0].dtype == "int32"
    assert model.classifier.counts.numpy().tolist() == [4, 4, 4]


def test_a_bank_of_named_inputs():
    model = compiled(
        DeepNCM(named_backbone(), NeighborhoodComponents(C, N), normalize=True)
    )
    x = named_inputs()
    model.fit(x, LABELS, verbose=0)
    assert model.classifier.bank_labels.numpy().tolist() == LABELS.tolist()
    index = np.arange(N, dtype="int32")
    model.fit({**x, "index": index}, LABELS, verbose=0)


@pytest.mark.bad_input
def test_what_is_wrong_with_inputs_is_named(named):
    model, x = named
    with pytest.raises(ValueError, match=r"\['age', 'words'\].*Received: .*\['age'\]"):
        model.fit({"age": x["age"]}, LABELS, verbose=0)
    wrong = {**x, "words": x["words"][:, :3]}
    with pytest.raises(ValueError, match=r"x\['words'\]` must be of shape \(batch, 5\)"):
        model.predict(wrong, verbose=0)
    with pytest.raises(ValueError, match="Received: ndarray"):
        model.embed(x["age"], verbose=0)
    tabular = DeepNCM(
        keras.Sequential([keras.Input((2,)), keras.layers.Dense(4)]), OnlineMean(C)
    )
    with pytest.raises(ValueError, match=r"of shape \(batch, 2\)") as error:
        tabular.predict(np.zeros((4, 3)), verbose=0)
    assert "image" not in str(error.value)
    inputs = {name: keras.Input((2,), name=name) for name in ("index", "b")}
    backbone = keras.Model(inputs, keras.layers.Concatenate()(list(inputs.values())))
    with pytest.raises(ValueError, match='no input with the name "index"'):
        DeepNCM(backbone, OnlineMean(C))


def test_a_backbone_gets_a_plain_dictionary_of_symbols(monkeypatch):
    """Of which JAX takes no subclass, such as Keras makes of an attribute of a model."""
    seen = []
    model, call = embedding.FeatureModel, embedding.FeatureModel.__call__
    monkeypatch.setattr(
        model, "__call__", lambda self, x: seen.append(type(x)) or call(self, x)
    )
    DeepNCM(named_backbone(), OnlineMean(C)).add_classes(1)
    assert seen == [dict, dict]


@pytest.mark.parametrize("names", [("inputs", "labels"), ("labels", "weights")])
def test_inputs_may_have_any_name(names):
    inputs = {name: keras.Input((2,), name=name) for name in names}
    features = keras.layers.Concatenate()(list(inputs.values()))
    model = DeepNCM(keras.Model(inputs, features), SubCentroids(C, 2))
    x = {name: RNG.normal(size=(N, 2)).astype("float32") for name in names}
    dataset = tf.data.Dataset.from_tensor_slices((x, LABELS)).batch(4)
    for data in ((x, LABELS), (dataset,)):
        model.adapt(*data, reset=False, verbose=0)
    assert model.classifier.count.numpy().tolist() == [8, 8, 8]


class Batches(keras.utils.PyDataset):
    def __init__(self, x, y, **kwargs):
        super().__init__(**kwargs)
        self.x, self.y = x, y

    def __len__(self):
        return 3

    def __getitem__(self, number):
        part = slice(4 * number, 4 * number + 4)
        return self.x[part], self.y[part]


def generator(x, y):
    for batch in range(3):
        yield x[4 * batch : 4 * batch + 4], y[4 * batch : 4 * batch + 4]


@pytest.mark.parametrize("kind", ["dataset", "py_dataset", "generator"])
def test_what_fit_takes_is_taken_elsewhere(kind):
    x = named_inputs()["age"]
    make = {
        "dataset": lambda: tf.data.Dataset.from_tensor_slices((x, LABELS)).batch(4),
        "py_dataset": lambda: Batches(x, LABELS),
        "generator": lambda: generator(x, LABELS),
    }[kind]
    backbone = keras.Sequential([keras.layers.Dense(4)])  # with no inputs yet
    model = compiled(DeepNCM(backbone, SubCentroids(C, 2)))
    steps = {"verbose": 0, "steps": 3 if kind == "generator" else None}
    model.adapt(make(), **steps)
    assert model.classifier.count.numpy().tolist() == [4, 4, 4]
    expected = model.embed(x, verbose=0)
    np.testing.assert_allclose(model.embed(make(), **steps), expected, rtol=1e-5)
    exemplars = model.anchor(make(), verbose=0)
    assert sorted(exemplars.labels[exemplars.index >= 0]) == [0, 0, 1, 1, 2, 2]
    np.testing.assert_array_equal(x[exemplars.index], exemplars.images)
    calibrated = [model.calibrate(x, LABELS, alpha=0.5, verbose=0)]
    calibrated += [model.calibrate(make(), alpha=0.5, **s) for s in ({}, {"steps": 2})]
    np.testing.assert_allclose(calibrated[1].scores, calibrated[0].scores, rtol=1e-5)
    assert len(calibrated[2].scores) == 8


@pytest.mark.bad_input
@pytest.mark.parametrize("method", ["anchor", "calibrate"])
def test_labels_beside_a_dataset_and_datasets_without_end(method):
    x = named_inputs()["age"]
    layers = [keras.Input((2,)), keras.layers.Dense(4)]
    model = DeepNCM(keras.Sequential(layers), SubCentroids(C, 2))
    take = getattr(model, method)
    dataset = tf.data.Dataset.from_tensor_slices((x, LABELS)).batch(4)
    with pytest.raises(ValueError, match=r"`y`, the labels, must be given.*y=None"):
        take(x)
    with pytest.raises(ValueError, match="`y` must be None where `x` is a dataset"):
        take(dataset, LABELS)
    with pytest.raises(ValueError, match="`steps` must be given for a dataset without end"):
        take(dataset.repeat())


def test_embed_and_adapt_of_a_torch_loader():
    torch = pytest.importorskip("torch")
    x = named_inputs()["age"]
    data = torch.utils.data.TensorDataset(torch.tensor(x), torch.tensor(LABELS))
    model = compiled(DeepNCM(keras.Sequential([keras.layers.Dense(4)]), OnlineMean(C)))
    loader = torch.utils.data.DataLoader(data, batch_size=4)
    model.adapt(loader, verbose=0)
    assert model.classifier.counts.numpy().tolist() == [4, 4, 4]
    np.testing.assert_allclose(model.embed(loader), model.embed(x), rtol=1e-5)
