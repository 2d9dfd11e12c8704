# SPDX-License-Identifier: Apache-2.0
"""What holds for every classifier. A new method joins with one line in the table."""

import keras
import numpy as np
import pytest
from helpers import random_images, small_backbone, to_numpy
from methods import IDS, KINDS, TABLE, rows_of

from deepncm_tf import DeepNCM
from deepncm_tf.classifiers import NAMES, Classifier, DecayMean, Softmax, SubCentroids, get
from deepncm_tf.classifiers.classifier import UNSEEN_LOGIT
from deepncm_tf.numerics.precision import sum_dtype

C, D, BATCH = 4, 5, 8

ADAPTABLE = [(cls, arguments) for cls, arguments in TABLE if cls.adapts_from is not None]
ADAPTABLE.append((DecayMean, {"bias_correction": True}))
every_method = pytest.mark.parametrize(("cls", "arguments"), TABLE, ids=IDS)
tensorflow_only = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="trains and exports on TensorFlow"
)


def data(seed=0, classes=C):
    rng = np.random.default_rng(seed)
    y = rng.integers(classes, size=BATCH)
    return (rng.normal(size=(BATCH, D)) + y[:, None]).astype("float32"), y


def update(classifier, x, y, first_row=0):
    classifier.update(x, y, index=np.arange(first_row, first_row + len(x), dtype="int32"))


def trained(cls, arguments, steps=5, classes=C, **kwargs):
    classifier = cls(C, **arguments, **kwargs)
    classifier.build((None, D))
    for seed in range(steps):
        update(classifier, *data(seed, classes), first_row=seed * BATCH)
    return classifier


@every_method
def test_is_in_the_inventory(cls, arguments):
    (name,) = [name for name, known in NAMES.items() if known is cls]
    classifier = get(name, num_classes=C, **arguments)
    assert isinstance(classifier, cls)
    assert get(classifier) is classifier
    with pytest.raises(ValueError, match="Received: identifier='nearest'"):
        get("nearest", num_classes=C)


@every_method
@pytest.mark.bad_input
def test_features_of_other_dimensions_are_refused(cls, arguments):
    classifier = cls(C, **arguments)
    classifier.build((None, D))
    index = {"index": np.arange(2)} if classifier.needs_index else {}
    with pytest.raises(ValueError, match=rf"to have value {D}.*\(2, {D + 1}\)"):
        classifier(np.zeros((2, D + 1), "float32"), **index)


@every_method
@pytest.mark.parametrize("build", [False, True])
def test_config_round_trip(cls, arguments, build):
    classifier = cls(C, name="head", **arguments)
    if build:
        classifier.build((None, D))
    config = classifier.get_config()
    assert {"num_classes", *arguments} <= set(config)
    assert cls.from_config(config).get_config() == config
    again = get(keras.saving.serialize_keras_object(classifier))
    assert type(again) is cls
    assert again.get_config() == config


@every_method
def test_contract(cls, arguments):
    classifier = trained(cls, arguments)
    assert isinstance(classifier, Classifier)
    x, _ = data()
    logits = classifier(x)
    assert tuple(logits.shape) == classifier.compute_output_shape(x.shape) == (BATCH, C)
    assert keras.backend.standardize_dtype(logits.dtype) == "float32"
    assert np.isfinite(to_numpy(logits)).all()
    assert all(not v.trainable for v in classifier.variables) or cls in (
        Softmax,
        SubCentroids,
    )
    assert tuple(classifier(keras.Input((3, D))).shape) == (None, 3, C)


@every_method
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16", "float64"])
def test_dtype_policies(cls, arguments, policy):
    if keras.backend.backend() == "jax" and policy == "float64":
        pytest.skip("JAX has no float64 by default")
    classifier = trained(cls, arguments, dtype=policy)
    wide = "float64" if policy == "float64" else "float32"
    x, y = data()
    x = keras.ops.cast(x, "float64" if policy == "float64" else policy[6:])
    logits = classifier(x, training=True)
    assert keras.backend.standardize_dtype(logits.dtype) == wide
    kinds = {v.name: keras.backend.standardize_dtype(v.dtype) for v in classifier.variables}
    # A copy of features, not a state that is added up: as narrow as they are.
    narrow = {kinds.pop("memory_features", classifier.compute_dtype)}
    assert narrow == {classifier.compute_dtype}
    assert set(kinds.values()) <= {wide, "int32", sum_dtype()}
    update(classifier, x, y)
    assert np.isfinite(to_numpy(classifier(x))).all()


@every_method
def test_large_values_stay_finite_under_float16(cls, arguments):
    classifier = trained(cls, arguments, dtype="mixed_float16")
    x = keras.ops.full((2, D), 60000.0, dtype="float16")
    update(classifier, x, [0, 1])
    assert np.isfinite(to_numpy(classifier(x, training=True))).all()


@every_method
def test_unseen_class_is_never_predicted(cls, arguments):
    classifier = trained(cls, arguments, classes=C - 1)
    if classifier.seen() is None:
        pytest.skip("every class can be predicted")
    logits = to_numpy(classifier(data()[0]))
    assert (logits[:, -1] == UNSEEN_LOGIT).all()
    assert (logits[:, -1] < logits[:, :-1].min(axis=-1)).all()
    empty = cls(C, **arguments)
    assert np.isfinite(to_numpy(empty(data()[0]))).all()


@every_method
def test_a_batch_of_one_and_of_none(cls, arguments):
    classifier = trained(cls, arguments)
    x, y = data()
    assert tuple(classifier(x[:1]).shape) == (1, C)
    assert tuple(classifier(x[:0]).shape) == (0, C)
    update(classifier, x[:1], y[:1])
    update(classifier, x[:0], y[:0])
    assert np.isfinite(to_numpy(classifier(x))).all()


@every_method
def test_samples_do_not_see_each_other(cls, arguments):
    classifier = trained(cls, arguments)
    x, _ = data()
    one_by_one = np.concatenate([to_numpy(classifier(x[i : i + 1])) for i in range(BATCH)])
    np.testing.assert_allclose(to_numpy(classifier(x)), one_by_one, rtol=1e-5, atol=1e-5)


@every_method
def test_permuted_labels_permute_outputs(cls, arguments):
    if cls is Softmax:
        pytest.skip("its rows are set by gradients, not by labels")
    order = np.array([2, 0, 3, 1])
    one, other = trained(cls, arguments, steps=0), trained(cls, arguments, steps=0)
    for variable, permuted in zip(one.variables, other.variables, strict=True):
        value = to_numpy(variable)
        by_class = variable.shape[:1] == (C,)  # random starts are permuted as well
        permuted.assign(value[np.argsort(order)] if by_class else value)
    for seed in range(5):
        x, y = data(seed)
        update(one, x, y, seed * BATCH)
        update(other, x, order[y], seed * BATCH)
    np.testing.assert_allclose(
        to_numpy(one(x)), to_numpy(other(x))[:, order], rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(("cls", "arguments"), ADAPTABLE)
def test_what_was_learnt_before_a_reset_leaves_no_trace(cls, arguments):
    one, other = trained(cls, arguments, steps=0), trained(cls, arguments, steps=0)
    one.set_weights(other.get_weights())
    for seed in range(5):
        update(one, *data(seed), first_row=seed * BATCH)
    for name in ("sub_centroids", "updates", "steps"):  # which a reset leaves
        if hasattr(one, name):
            getattr(one, name).assign(to_numpy(getattr(other, name)))
    for classifier in (one, other):
        classifier.adapt(*data(5))
        update(classifier, *data(6), first_row=2 * BATCH)
    for variable, expected in zip(one.weights, other.weights, strict=True):
        np.testing.assert_array_equal(to_numpy(variable), to_numpy(expected))


@pytest.mark.parametrize(("cls", "arguments"), rows_of(KINDS))
@tensorflow_only
def test_save_and_export(cls, arguments, tmp_path):
    import tensorflow as tf

    images, labels = random_images(20, num_classes=C)
    model = DeepNCM(small_backbone(), cls(C, **arguments))
    model.compile("sgd", metrics=["accuracy"])
    model.fit(images, labels, epochs=2, verbose=0)
    expected = model.predict(images, verbose=0)

    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(images, verbose=0), expected)
    assert type(loaded.classifier) is cls

    model.export(str(tmp_path / "export"), verbose=False)
    served = tf.saved_model.load(str(tmp_path / "export"))
    np.testing.assert_allclose(served.serve(images), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        served.embed(images), model.embed(images, verbose=0), rtol=1e-5, atol=1e-5
    )


@tensorflow_only
@every_method
def test_a_frozen_classifier_stays_as_it_is(cls, arguments):
    images, labels = random_images(16, C)
    normalize = cls.wants_unit_features
    model = DeepNCM(small_backbone(), cls(C, **arguments), normalize=normalize)
    features = model.embed(images, verbose=0)
    for rows in np.arange(16, dtype="int32").reshape(2, 8):
        model.classifier.update(features[rows], labels[rows], rows)
    model.classifier.trainable = False
    model.compile("sgd", run_eagerly=True)
    state = [to_numpy(v) for v in model.classifier.variables]
    backbone = to_numpy(model.backbone.variables[0])
    model.fit(images, labels, batch_size=8, verbose=0)
    for variable, before in zip(model.classifier.variables, state, strict=True):
        np.testing.assert_array_equal(to_numpy(variable), before)
    assert (to_numpy(model.backbone.variables[0]) != backbone).any()
