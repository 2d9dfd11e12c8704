# SPDX-License-Identifier: Apache-2.0
"""A classifier inside a Keras model that is no `DeepNCM`."""

import contextlib
import warnings

import keras
from keras import ops
from keras.src.backend.common.global_state import get_global_attribute

from deepncm_tf.distribution import replicas


def warn_where_nothing_updates(classifier, training):
    """Warns once where another model trains or judges with a classifier without labels.

    In training nothing moves its state. At inference that is the trouble only where it
    never moved.

    Args:
        classifier: `Classifier` that is called without labels.
        training: Bool, or None where the model says it.
    """
    context = get_global_attribute("current_call_ctx")
    if classifier.has_warned or context is None:  # None: it is called by itself
        return
    model = context.entry_layer
    training = getattr(context, "training", None) if training is None else training
    is_stock = (
        isinstance(model, keras.Model) and type(model).train_step is keras.Model.train_step
    )
    if not is_stock or not classifier.has_state:
        return
    if training:
        trouble = "learns nothing here: the class state moves in `update`, which `fit` of "
        trouble += "this model does not call"
    elif _judges() and _is_new(classifier):
        trouble = "has learned nothing: no sample has ever moved its class state"
    else:
        return
    classifier.has_warned = True
    warnings.warn(
        f"{type(classifier).__name__} {trouble}. Train it as DeepNCM(backbone, "
        "classifier), or give it the labels, too: layer(features, labels). Received: a "
        f"classifier inside {type(model).__name__}, without labels",
        stacklevel=3,
    )


@contextlib.contextmanager
def before_update(classifier, updates):
    """Context in which a state is read that changes before gradients are computed.

    PyTorch's variables change in place, which their gradients do not allow: there, copies
    are read.
    """
    if not updates or keras.backend.backend() != "torch":
        yield
        return
    copies = [(v, ops.copy(v)) for v in classifier.non_trainable_variables]
    with keras.StatelessScope(copies):
        yield


def is_carried(variable):
    """Whether the step that runs keeps a new value of a variable.

    Keras's own steps on JAX keep no metrics of what happens inside of layers.
    """
    scope = get_global_attribute("stateless_scope")
    return scope is None or scope.get_current_value(variable) is not None


def _judges():
    """Whether this is `evaluate` or `predict`, not only a call of the model."""
    name = keras.backend.backend()
    is_symbolic = get_global_attribute("stateless_scope") is not None
    if name == "tensorflow":
        import tensorflow as tf

        return not is_symbolic and not tf.executing_eagerly()
    if name == "torch":
        import torch

        return not is_symbolic and not torch.is_grad_enabled()
    # JAX takes the variables' values away in the steps themselves: only before them, when
    # Keras looks at shapes, they can be read.
    return is_symbolic


def _is_new(classifier):
    """Whether the state is known to be as it was at first."""
    variables = classifier.non_trainable_variables
    if not classifier.built or any(v._value is None for v in variables):
        return False
    if replicas.num_replicas() > 1 or any(not is_readable(v) for v in variables):
        return False
    with replicas.outside_of_graph():
        return not bool(ops.any(classifier.seen()))


def is_readable(variable):
    """Whether a variable has the value that it has outside of steps."""
    scope = get_global_attribute("stateless_scope")
    return scope is None or scope.get_current_value(variable) is None
