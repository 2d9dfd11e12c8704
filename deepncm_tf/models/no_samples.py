# SPDX-License-Identifier: Apache-2.0
"""What is without a sample is refused, before a pass over it or when that is known."""

import operator

import keras


def refuse_empty(x, name="x"):
    """Raises a `ValueError` for arrays or datasets that are known to be empty."""
    if callable(getattr(x, "cardinality", None)):
        empty = int(x.cardinality()) == 0
    else:
        # Of `None` and of structures without a part there is no first one.
        first = next(iter(keras.tree.flatten(x)), None)
        shape = getattr(first, "shape", None)
        empty = first is None or 0 in (operator.length_hint(x, 1), *tuple(shape or ())[:1])
    if empty:
        raise ValueError(f"`{name}` must hold at least one sample. Received: none")


class RefuseEmpty(keras.callbacks.Callback):
    """Raises a `ValueError` at the end of a dataset that turns out to give no batch.

    Args:
        tested: String, name of the argument with the samples that are evaluated.
    """

    async_safe = True  # lets Keras go on without waiting for it

    def __init__(self, tested="x"):
        super().__init__()
        self.tested = tested
        self._found = set()

    def on_train_batch_end(self, batch, logs=None):
        self._found.add("x")

    def on_test_batch_end(self, batch, logs=None):
        self._found.add(self.tested)

    def on_predict_batch_end(self, batch, logs=None):
        self._found.add("x")

    def on_epoch_end(self, epoch, logs=None):
        self._refuse("x")

    def on_test_end(self, logs=None):
        self._refuse(self.tested)

    def on_predict_end(self, logs=None):
        self._refuse("x")

    def _refuse(self, name):
        if name not in self._found:
            refuse_empty([], name)
