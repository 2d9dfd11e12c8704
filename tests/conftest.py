# SPDX-License-Identifier: Apache-2.0
"""Four logical CPU devices for replicas; signals heard; Keras as it was after each test."""

import gc
import os
import signal

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["DEEPNCM_TF_CACHE"] = ""  # none in the home of who runs the tests

import pytest

import deepncm_tf  # noqa: F401  before TensorFlow, so that it chooses the kernels

pytest.register_assert_rewrite("same_run")  # says what differs, as in a test


def pytest_sessionstart(session):
    _hear_signals()
    if session.config.option.dist != "no" and not hasattr(session.config, "workerinput"):
        return  # xdist's controller runs no tests and needs no TensorFlow
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0],
            [tf.config.LogicalDeviceConfiguration()] * 4,
        )
        if "not slow" in session.config.option.markexpr:
            # A tenth of the time goes into the rewriting of graphs that take a few steps.
            # The slow tests have it.
            tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    _freeze()


def _hear_signals():
    """What nohup or a script's background job ignores, the tests' programs would, too."""
    usual = {signal.SIGINT: signal.default_int_handler}
    for signum in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        if signal.getsignal(signum) == signal.SIG_IGN:
            signal.signal(signum, usual.get(signum, signal.SIG_DFL))


@pytest.fixture(autouse=True)
def keras_defaults():
    import keras

    policy, floatx = keras.config.dtype_policy(), keras.config.floatx()
    data_format = keras.config.image_data_format()
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_floatx(floatx)
    keras.config.set_image_data_format(data_format)
    keras.config.set_dtype_policy(policy)
    keras.backend.clear_session(free_memory=False)


@pytest.fixture(autouse=True, scope="module")
def garbage():
    """What a file's tests leave is collected once, at its end."""
    yield
    _freeze()


def _freeze():
    """Collects garbage; what is left is never looked through again.

    TensorFlow keeps what was imported and most of what was traced. To look through all of
    it after each test took longer than the tests.
    """
    gc.collect()
    gc.freeze()
