# SPDX-License-Identifier: Apache-2.0
"""The dtype policy of layers that are made without one."""

import contextlib

import keras


@contextlib.contextmanager
def default_policy(policy):
    """Makes a dtype policy, or one by name, Keras's own for what is done within."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
