# SPDX-License-Identifier: Apache-2.0
"""A step on the JAX backend; see `backend_step`.

JAX compiles functions of values. A step gets the values of all variables and gives new
ones; in between, Keras's `StatelessScope` lets code read and assign them as elsewhere.
"""

import warnings

import jax
import keras

KINDS = (
    "trainable_variables",
    "non_trainable_variables",
    "optimizer_variables",
    "metrics_variables",
)


def _whole_after_errors(name):
    """A method of Keras's, after whose errors variables have their values again."""

    def method(self, *args, **kwargs):
        try:
            return getattr(super(JaxStep, self), name)(*args, **kwargs)
        except BaseException:
            self.take_state()
            raise

    method.__name__ = name
    return method


class JaxStep(keras.Model):
    """Steps as functions from state and batch to logs and state."""

    fit = _whole_after_errors("fit")
    evaluate = _whole_after_errors("evaluate")
    predict = _whole_after_errors("predict")
    train_on_batch = _whole_after_errors("train_on_batch")
    test_on_batch = _whole_after_errors("test_on_batch")
    predict_on_batch = _whole_after_errors("predict_on_batch")

    def train_step(self, state, data):
        optimizer = [] if self.optimizer is None else self.optimizer.variables
        variables = (
            self.trainable_variables,
            self.non_trainable_variables,
            optimizer,
            self.metrics_variables,
        )
        return _with_values(self.exact_train_step, variables, state, data)

    def test_step(self, state, data):
        variables = (
            self.trainable_variables,
            self.non_trainable_variables,
            self.metrics_variables,
        )
        return _with_values(self.exact_test_step, variables, state, data)

    def predict_step(self, state, data):
        variables = self.trainable_variables, self.non_trainable_variables
        outputs, state = _with_values(self.exact_predict_step, variables, state, data)
        return outputs, state[1]

    def exact_predict_step(self, data):
        x, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        return self(x, training=False)

    def gradients(self, compute):
        trainable = self.trainable_variables
        others = [*self.non_trainable_variables, *self.metrics_variables]
        optimizer = [(v, v.value) for v in self.optimizer.variables]

        def stateless(values):
            before = [(v, v.value) for v in others]
            mapping = [*zip(trainable, values, strict=True), *before, *optimizer]
            with keras.StatelessScope(mapping, collect_losses=True) as scope:
                loss, outputs = compute()
            return loss, (outputs, [scope.get_current_value(v) for v in others])

        values = [variable.value for variable in trainable]
        gradients, (outputs, moved) = jax.grad(stateless, has_aux=True)(values)
        for variable, value in zip(others, moved, strict=True):
            variable.assign(value)
        return gradients, outputs

    def apply_once(self, gradients):
        # `apply` itself cannot assign where an optimizer branches, as under a loss scale;
        # this takes all variables that it was built with, some of which may be frozen.
        self.optimizer._check_variables_are_known(self.trainable_variables)
        by_variable = dict(zip(map(id, self.trainable_variables), gradients, strict=True))
        variables = (self.optimizer._trainable_variables, self.optimizer.variables)
        trainable, optimizer = ([v.value for v in kind] for kind in variables)
        gradients = [by_variable.get(id(variable)) for variable in variables[0]]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Gradients do not exist")  # of what is frozen
            moved = self.optimizer.stateless_apply(optimizer, gradients, trainable)
        for kind, values in zip(variables, moved, strict=True):
            for variable, value in zip(kind, values, strict=True):
                variable.assign(value)

    def take_state(self):
        self.jax_state_sync()

    @property
    def metrics_variables(self):
        """Those of the metrics, and others that steps change but `save` does not keep."""
        return [*super().metrics_variables, *self.carried_variables]

    carried_variables = ()

    def _get_jax_state(self, **kinds):
        """As in Keras, which takes the variables' values away while it loops over steps.

        They are kept here, or an error in the first step would leave a model without.
        """
        state = super()._get_jax_state(**kinds)
        names = [name for name in KINDS if kinds.get(name)]
        self._jax_state = dict(zip(names, state, strict=True))
        return state


def _with_values(step, variables, state, data):
    """Computes a step with the variables' values given, and gives those after it."""
    mapping = [
        pair
        for kind, values in zip(variables, state, strict=True)
        for pair in zip(kind, values, strict=True)
    ]
    with keras.StatelessScope(mapping, collect_losses=True) as scope:
        logs = step(data)
    return logs, tuple([scope.get_current_value(v) for v in kind] for kind in variables)
