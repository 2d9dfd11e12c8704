# SPDX-License-Identifier: Apache-2.0
"""What accelerators need of a training step: no Python inside, and that XLA compiles it."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import random_images, small_backbone
from methods import each_method

from deepncm_tf import DeepNCM

C, BATCH = 3, 8
# Operations that hand data to Python, or to the host's own program.
HOST_OPS = {
    *("PyFunc", "EagerPyFunc", "PyFuncStateless", "NumpyFunction"),
    *("HostComputeMlir", "_XlaHostComputeMlir", "XlaHostCompute", "PrintV2"),
}


def make_model(classifier, **kwargs):
    keras.utils.set_random_seed(2)
    cls, arguments = classifier
    backbone = small_backbone(normalize=True)
    model = DeepNCM(
        backbone, cls(C, **arguments), embedding_dim=5, gradient_clip=0.5, l2=1e-3
    )
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), metrics=["accuracy"], **kwargs)
    return model


def batch(step=0):
    images, labels = random_images(BATCH, C, seed=step)
    return {"image": images, "index": np.arange(BATCH) + BATCH * step}, labels


def operations(function, *arguments):
    """Names of all operations of a traced function, those of inner functions too."""
    graph = function.get_concrete_function(*arguments).graph.as_graph_def()
    inner = (node for f in graph.library.function for node in f.node_def)
    return {node.op for node in (*graph.node, *inner)}


def test_an_operation_of_the_host_is_found():
    identity = tf.function(lambda x: tf.numpy_function(lambda y: y, [x], tf.float32))
    assert operations(identity, tf.constant(1.0)) & HOST_OPS


@pytest.mark.parametrize("classifier", each_method((), ["dnc"]))
def test_a_step_has_no_round_trip_to_python(classifier):
    model = make_model(classifier)
    data = tf.nest.map_structure(tf.constant, batch())
    symbols = tf.nest.map_structure(
        lambda x: keras.KerasTensor(x.shape, x.dtype.name), data
    )
    model.build_training(*symbols)
    for step in (model.train_step, model.test_step):
        names = operations(tf.function(step), data)
        assert names & {"MatMul", "Conv2D"}
        assert not names & HOST_OPS


@pytest.mark.parametrize("classifier", each_method(pytest.mark.slow, ["dnc"]))
def test_xla_compiles_the_whole_step(classifier):
    plain = make_model(classifier, run_eagerly=True)
    compiled = make_model(classifier, jit_compile=True)
    for step in range(3):
        expected = plain.train_on_batch(*batch(step), return_dict=True)
        found = compiled.train_on_batch(*batch(step), return_dict=True)
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-5)
    for a, b in zip(plain.variables, compiled.variables, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-3, atol=1e-5, err_msg=a.path)
    assert compiled.evaluate(*batch(), verbose=0, return_dict=True) == pytest.approx(
        plain.evaluate(*batch(), verbose=0, return_dict=True), rel=1e-3, abs=1e-4
    )
