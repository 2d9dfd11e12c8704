# SPDX-License-Identifier: Apache-2.0
"""Models that train exactly: `fit` and `evaluate`, and what they refuse."""

import keras
import numpy as np

from deepncm_tf.distribution import replicas
from deepncm_tf.models.class_names import to_class_weight
from deepncm_tf.models.exact_step import ExactStep
from deepncm_tf.models.finite import FiniteGuard, LookForFinite
from deepncm_tf.models.keras_methods import as_in_keras, with_callbacks
from deepncm_tf.models.losses import has_known_mean
from deepncm_tf.models.no_samples import RefuseEmpty, refuse_empty
from deepncm_tf.numerics import labels
from deepncm_tf.utils.arguments import as_label, as_positive_integer, is_number


class ExactModel(ExactStep):
    """A Keras model that trains on replicas as it would on one device.

    Loss and gradients are those of the global batch, also where replicas get unequal
    shares of it; gradients are clipped after their sum over the replicas. A step that is
    not finite changes nothing and ends `fit` with a `NotFiniteError`.

    Args:
        gradient_clip: Float > 0, limit of each gradient component, without loss scale;
            or None.
        l2: Float >= 0, adds 1/2 * l2 * (sum of squares of all trainable variables) to
            the loss.
        accumulate_steps: Int >= 1, parts into which a replica's share of a batch is split,
            to be computed one after the other.
        ignore_class: Int, label of what takes no part in anything, or None. The loss is
            then the average over what does.
        **kwargs: Those of `keras.Model`.
    """

    class_names = None  # strings, where the classes have names

    def __init__(
        self, gradient_clip=None, l2=0.0, accumulate_steps=1, ignore_class=None, **kwargs
    ):
        super().__init__(**kwargs)
        if gradient_clip is not None and not _is_number(gradient_clip, above=0):
            raise ValueError(
                "`gradient_clip` must be a positive number or None. "
                f"Received: gradient_clip={gradient_clip!r}"
            )
        if not (_is_number(l2, above=0) or l2 == 0):
            raise ValueError(f"`l2` must be a number >= 0. Received: l2={l2!r}")
        self.gradient_clip = None if gradient_clip is None else float(gradient_clip)
        self.l2 = float(l2)
        self.accumulate_steps = as_positive_integer("accumulate_steps", accumulate_steps)
        self.ignore_class = as_label("ignore_class", ignore_class)
        self.guard = None

    def compile(self, optimizer="rmsprop", loss=None, **kwargs):
        reduction = getattr(loss, "reduction", "sum_over_batch_size")
        in_parts = replicas.num_replicas() > 1 or self.accumulate_steps > 1
        if in_parts and reduction != "sum_over_batch_size":
            raise ValueError(
                "`loss` must have reduction='sum_over_batch_size' where there is more "
                "than one replica, or `accumulate_steps` is above 1. "
                f"Received: reduction={reduction!r}"
            )
        if in_parts and not has_known_mean(loss):
            raise ValueError(
                "`loss` must be None or a keras.losses.SparseCategoricalCrossentropy where "
                "it has an `ignore_class` and there is more than one replica, or "
                "`accumulate_steps` is above 1: over which labels another one averages is "
                f"not known. Received: loss={loss!r}"
            )
        super().compile(optimizer=optimizer, loss=loss, **kwargs)
        self.guard = FiniteGuard(self.num_classes)

    def compile_from_config(self, config):
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.optimizer is not None and self.built:
            self.optimizer.build(self.trainable_variables)

    @as_in_keras
    def fit(
        self,
        x=None,
        y=None,
        callbacks=None,
        validation_data=None,
        class_weight=None,
        **others,
    ):
        """As `keras.Model.fit`; the classes in `class_weight` may be names.

        Raises:
            NotFiniteError: If images, features, loss or gradients of a step are NaN or
                infinite. The model is as it was before that step.
            ValueError: If there is no sample, a label or one in `class_weight` is of no
                class, or a weight is negative or not finite.
        """
        refuse_empty(x)
        y = self.as_labels(y)
        if validation_data is not None:
            validation_data = self._checked_validation(validation_data)
        class_weight = to_class_weight(self, class_weight)
        if (
            class_weight
            and min(class_weight) < 0
            and callable(getattr(x, "cardinality", 0))
        ):
            raise ValueError(
                "`class_weight` must be None with a tf.data.Dataset and an `ignore_class` "
                "below 0, where Keras finds no weight: put weights into the dataset, or "
                "change such labels to a number >= 0. Received: "
                f"ignore_class={self.ignore_class}"
            )
        callbacks = with_callbacks(self.own_callbacks(), callbacks, self)
        return super().fit(
            x,
            y,
            callbacks=callbacks,
            validation_data=validation_data,
            class_weight=class_weight,
            **others,
        )

    def _checked_validation(self, data):
        """Validation data as Keras takes them, with labels in arrays as numbers."""
        inputs, *others = data if isinstance(data, list | tuple) and data else [data]
        refuse_empty(inputs, "validation_data")
        if not others:
            return data
        labels, *weights = others
        return (inputs, self.as_labels(labels), *weights)

    def own_callbacks(self):
        """Callbacks that `fit` calls before those of the user, a list."""
        return [RefuseEmpty(tested="validation_data"), LookForFinite()]

    @as_in_keras
    def train_on_batch(self, x, y=None, class_weight=None, **others):
        """As `keras.Model.train_on_batch`; raises what `fit` raises."""
        refuse_empty(x)
        y = self.as_labels(y)
        class_weight = to_class_weight(self, class_weight)
        logs = super().train_on_batch(x, y, class_weight=class_weight, **others)
        self.guard.look()
        return logs

    @as_in_keras
    def evaluate(self, x=None, y=None, callbacks=None, **others):
        """As `keras.Model.evaluate`.

        Raises:
            ValueError: If there is no sample, or labels or sample weights are none.
        """
        refuse_empty(x)
        y = self.as_labels(y)
        if "_use_cached_eval_dataset" not in others:  # not of `fit`, which has callbacks
            callbacks = with_callbacks([RefuseEmpty()], callbacks, self)
        figures = super().evaluate(x, y, callbacks=callbacks, **others)
        self.guard.look()
        return figures

    def test_on_batch(self, x, y=None, *args, **kwargs):
        """As `keras.Model.test_on_batch`; raises what `evaluate` raises."""
        refuse_empty(x)
        y = self.as_labels(y)
        figures = super().test_on_batch(x, y, *args, **kwargs)
        self.guard.look()
        return figures

    @as_in_keras
    def predict(self, x, callbacks=None, **others):
        refuse_empty(x)
        callbacks = with_callbacks([RefuseEmpty()], callbacks, self)
        return super().predict(x, callbacks=callbacks, **others)

    def as_labels(self, y):
        """Labels in arrays as steps take them; for subclasses whose classes have names.

        Those of shape (n, 1) become (n,): a step is compiled for one number of axes, and
        the next ones may come in the other shape.
        """
        labels.refuse_names(y, "y")
        if not (self.built and (isinstance(y, np.ndarray) or keras.ops.is_tensor(y))):
            return y
        is_column = len(y.shape) == self.output_rank and y.shape[-1] == 1
        return y[..., 0] if is_column and self.num_classes > 1 else y

    @property
    def carried_variables(self):
        """Variables that steps change, besides those of model, optimizer and metrics."""
        return [] if self.guard is None else self.guard.variables

    def look(self):
        """Raises an error where a step was faulty; see `FiniteGuard.look`."""
        self.take_state()
        self.guard.look()

    def build_training(self, x, y):
        """Creates the variables of optimizer and metrics before the first step.

        Args:
            x, y: `keras.KerasTensor`s of a batch's images and labels.
        """
        self._symbolic_build(data_batch=(x, y))

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        """Creates the variables before the first step, from the shapes of a batch.

        TensorFlow traces a step twice in which variables are made. On replicas, Keras takes
        the mean of their shares of a batch, which fails where they are unequal, and takes
        it in every `evaluate`, which fails where the iterator has come to its end.
        """
        parts = (self, self._compile_metrics, self._compile_loss, self.optimizer)
        if all(part is None or part.built for part in parts):
            return
        if replicas.strategy_of(self) is None:
            if iterator is not None:
                data_batch = iterator._distributed_dataset.element_spec
            self._build_for_batch(data_batch)
            return
        if iterator is not None:
            for _, _, batches in iterator:
                first = next(batches, None)
                if first is None:
                    refuse_empty([])
                data_batch = keras.tree.map_structure(
                    lambda x: self.distribute_strategy.experimental_local_results(x)[0],
                    first,
                )
                break
        super()._maybe_symbolic_build(data_batch=data_batch)

    def _symbolic_build(self, iterator=None, data_batch=None):
        """As in Keras, which on JAX and PyTorch takes the first batch of a dataset."""
        try:
            super()._symbolic_build(iterator=iterator, data_batch=data_batch)
        except StopIteration:
            refuse_empty([])

    def _build_for_batch(self, batch):
        """Creates variables.

        Args:
            batch: What a step gets, tensors or anything else with their shapes and dtypes.
        """
        x, y, _ = keras.utils.unpack_x_y_sample_weight(batch)
        if self.make_images is None:
            self.build_for(x)
        if not self.built:
            return
        if self.optimizer is not None and not self.optimizer.built:
            self.optimizer.build(self.trainable_variables)
        if hasattr(y, "shape"):
            dtype = keras.backend.standardize_dtype(y.dtype)
            y = keras.KerasTensor(labels.known_shape(y, "y"), dtype=dtype)
            self.build_metrics(y, (*[None] * (self.output_rank - 1), self.num_classes))


def _is_number(value, above):
    return is_number(value) and above < value < float("inf")
