# SPDX-License-Identifier: Apache-2.0
"""A training step that is the same on one device, on many, and in parts of a batch."""

import functools

import keras
from keras import ops

from deepncm_tf.distribution import replicas
from deepncm_tf.models import accumulation
from deepncm_tf.models.exact_loss import ExactLoss
from deepncm_tf.models.finite import EVALUATION
from deepncm_tf.models.inputs import unpack_inputs
from deepncm_tf.numerics import labels


class ExactStep(ExactLoss):
    """What `ExactModel` does with a batch.

    A subclass has the attributes `num_classes`, `gradient_clip`, `l2`, `accumulate_steps`,
    `guard`, `ignore_class` and `output_rank`, the number of axes of its logits; and the
    hooks `build_for`, `outputs`, `guarded_variables`, `loss_weights`, `update_state` and
    `update_evaluation`;
    where its loss is more than that of the logits, or no mean over all labels,
    `further_loss`, `further_labels` and `mean_weights`, too.
    """

    ignore_class = None
    make_images = None
    """What makes the images of a training batch on the device, a function of its `x`."""

    def build_for(self, x):
        """Creates the model's variables, from the shapes of a batch.

        Args:
            x: A batch's inputs, maybe with indices.
        """
        raise NotImplementedError

    def outputs(self, x, training):
        """Computes a batch.

        Returns:
            Tuple of tensors with a row for each sample: logits, features, and what else
            `further_loss`, `update_state` and `update_evaluation` look at.
        """
        raise NotImplementedError

    def guarded_variables(self):
        """Variables that a step may change and that a faulty step must not, a list."""
        raise NotImplementedError

    def loss_weights(self, x, y, rank):
        """Weights of the samples' losses, `(batch,)`, or None.

        Args:
            x: As in `build_for`.
            y: Normalized labels.
            rank: Int, number of axes of the features.
        """
        raise NotImplementedError

    def mean_weights(self, y):
        """Weights that make of the mean over all labels one over those that count.

        Args:
            y: Normalized labels of this replica's share of the batch.

        Returns:
            `(batch,)`, or None where all count.
        """
        return

    def further_labels(self, y, sample_weight):
        """What `further_loss` wants to know of the labels of which it may get a part.

        Args:
            y: Normalized labels of this replica's share of the batch.
            sample_weight: The user's weights of these, or None.
        """
        return

    def further_loss(self, y, outputs, weights, sample_weight, samples, further):
        """Losses beside that of the logits, a list of scalars: this replica's shares.

        Args:
            y: Normalized labels.
            outputs: As from `outputs`.
            weights: Weights of the losses, or None.
            sample_weight: The user's weights, which are among them, or None.
            samples: As in `compute_loss`.
            further: As from `further_labels`.
        """
        return []

    def update_state(self, x, y, outputs, sample_weight, apply):
        """Moves what no gradient moves, by a batch.

        Args:
            x, y, sample_weight: The batch.
            outputs: As from `outputs`.
            apply: Scalar bool tensor, whether the step is taken.
        """
        raise NotImplementedError

    def update_evaluation(self, y, outputs, sample_weight):
        """Updates metrics of an evaluation beyond the compiled ones, by a batch."""
        raise NotImplementedError

    def exact_train_step(self, data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        if self.make_images is not None:
            x = self.make_images(x)
        with replicas.outside_of_graph():  # variables must exist before they are guarded
            self.build_for(x)
            if not self.optimizer.built:
                self.optimizer.build(self.trainable_variables)
        guarded = [*self.guarded_variables(), *self.optimizer.variables]
        before = [ops.copy(variable) for variable in guarded]

        y, sample_weight, wrong = self.targets(y, sample_weight, self.output_rank)
        outputs, sums = accumulation.in_parts(
            functools.partial(
                self._part_of_step, further=self.further_labels(y, sample_weight)
            ),
            (x, y, sample_weight, self.mean_weights(y)),
            self.accumulate_steps,
        )
        loss, *gradients = replicas.all_reduce_sum(sums)
        inputs = [t for t in keras.tree.flatten(unpack_inputs(x)[0]) if _is_float(t)]
        parts = {"inputs": inputs, "features": [outputs[1]], "loss": [loss]}
        if not self.scales_loss:  # whose overflows are skipped
            parts["gradients"] = gradients
        passed = self.guard.passes(self.optimizer.iterations + 1, parts, wrong)
        taken = self.apply_gradients(gradients)
        self.update_state(x, y, outputs, sample_weight, passed & taken)
        self.guard.put_back(passed, guarded, before)
        return self._step_logs(x, y, outputs[0], loss, sample_weight)

    def _part_of_step(self, data, samples, further):
        """Outputs of some samples; their loss and its gradients."""
        x, y, sample_weight, mean_weights = data

        def compute():
            outputs = self.outputs(x, training=True)
            weights = self.loss_weights(x, y, len(outputs[1].shape))
            for others in (mean_weights, sample_weight):
                weights = labels.multiply_weights(weights, others)
            parts = {} if samples is None else {"samples": samples}
            loss = self.compute_loss(x, y, outputs[0], weights, training=True, **parts)
            others = self.further_loss(y, outputs, weights, sample_weight, samples, further)
            for other in others:
                loss = loss + other
            return self.optimizer.scale_loss(loss), (list(outputs), loss)

        gradients, (outputs, loss) = self.gradients(compute)
        return outputs, [loss, *gradients]

    def exact_test_step(self, data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        outputs = self.outputs(x, training=False)
        y, sample_weight, wrong = self.targets(y, sample_weight, len(outputs[0].shape))
        self.guard.passes(EVALUATION, {}, wrong)
        weights = labels.multiply_weights(self.mean_weights(y), sample_weight)
        loss = self.compute_loss(x, y, outputs[0], weights, training=False)
        (loss,) = replicas.all_reduce_sum([loss])
        self.update_evaluation(y, outputs, sample_weight)
        return self._step_logs(x, y, outputs[0], loss, sample_weight)

    def apply_gradients(self, gradients):
        """Clips the gradients of the global batch and applies them once.

        Returns:
            Scalar bool tensor: whether the optimizer takes the step, which under loss
            scaling it does not where there is an overflow.
        """
        optimizer, num_replicas = self.optimizer, replicas.num_replicas()
        inner = optimizer.inner_optimizer if self.scales_loss else optimizer
        if num_replicas > 1 and (
            inner.clipvalue or inner.clipnorm or inner.global_clipnorm
        ):
            raise ValueError(
                "The optimizer would clip each replica's gradients before their sum. "
                "Use DeepNCM(gradient_clip=...) instead of the optimizer's `clipvalue`, "
                "`clipnorm` or `global_clipnorm`."
            )
        finite = ops.all(ops.stack([ops.all(ops.isfinite(g)) for g in gradients or [0.0]]))
        if self.gradient_clip is not None:
            limit = self.gradient_clip * (
                optimizer.dynamic_scale if self.scales_loss else 1
            )
            # Clipping would hide an overflow from the loss scale: let it through.
            gradients = [
                ops.where(finite, ops.clip(g, -limit, limit), g) for g in gradients
            ]
        if not gradients:  # of a frozen backbone; `apply` would not count the step
            optimizer.iterations.assign_add(1)
            return ops.convert_to_tensor(True)
        # `apply` sums over the replicas once more.
        gradients = [gradient / num_replicas for gradient in gradients]
        self.apply_once(gradients)
        return finite if self.scales_loss else ops.convert_to_tensor(True)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        rank = len(y_pred.shape)
        y = labels.normalize(y, y_pred.shape[-1], rank, name="y")
        void = self.ignore_class is not None and not labels.is_class_weights(y, rank)
        self.build_metrics(y, y_pred.shape)
        if not void or self._compile_metrics is None:
            return super().compute_metrics(x, y, y_pred, sample_weight=sample_weight)
        # Keras weighs no metrics but the weighted ones: what is void would count.
        counted, compiled = y != self.ignore_class, self._compile_metrics
        y = ops.where(counted, y, 0)
        for group, weights in (
            (compiled._flat_metrics, None),
            (compiled._flat_weighted_metrics, sample_weight),
        ):
            for metric in (m for some in filter(None, group) for m in some.metrics):
                # Those that count in integers, such as `MeanIoU`, warn of floats.
                is_whole = weights is None and keras.backend.is_int_dtype(metric.dtype)
                ones = ops.cast(counted, "int32" if is_whole else y_pred.dtype)
                weight = labels.multiply_weights(ones, weights)
                metric.update_state(y, y_pred, sample_weight=weight)
        return self.get_metrics_result()

    def build_metrics(self, y, logits_shape):
        """Builds the metrics of `compile`.

        Args:
            y: Labels, a tensor or a `keras.KerasTensor`.
            logits_shape: Shape of the logits, with None where not known.
        """
        compiled = self._compile_metrics
        if compiled is not None and not compiled.built:
            # One logit would make "accuracy" that of two classes, by a threshold.
            shape = (*logits_shape[:-1], max(logits_shape[-1], 2))
            compiled.build(y, keras.KerasTensor(shape))

    def targets(self, y, sample_weight, rank):
        """Labels and sample weights in one form, and what is wrong with them.

        Args:
            y, sample_weight: As the user has given them.
            rank: Int, number of axes of the logits.

        Returns:
            `(y, sample_weight, wrong)`: labels and weights that can be computed with, also
            where they are wrong, and what `FiniteGuard.passes` wants to know of them.
        """
        if y is None:
            raise ValueError("`y`, the labels, must be given. Received: y=None")
        normalized = labels.normalize(y, self.num_classes, rank, name="y")
        weights = labels.normalize_weights(sample_weight, normalized.shape[: rank - 1])
        ignore_class = self.ignore_class
        if ignore_class is None:
            ignore_class = getattr(self.loss, "ignore_class", None)
        is_wrong, _ = wrong_labels = labels.find_wrong(
            y, self.num_classes, rank, ignore_class
        )
        normalized = ops.where(is_wrong, ops.zeros_like(normalized), normalized)
        wrong_weights = labels.find_wrong_weights(ops.ones(1))
        if weights is not None:
            is_wrong, _ = wrong_weights = labels.find_wrong_weights(weights)
            weights = ops.where(is_wrong, ops.zeros_like(weights), weights)
        wrong = {"labels": wrong_labels, "sample weights": wrong_weights}
        return normalized, weights, wrong

    def known_labels(self, y):
        """Normalized labels, of which those that are `ignore_class` become -1, no class."""
        if self.ignore_class is None or labels.is_class_weights(y, self.output_rank):
            return y
        return ops.where(y == self.ignore_class, -1, y)

    @property
    def scales_loss(self):
        return isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer)

    def _step_logs(self, x, y, logits, loss, sample_weight):
        # Every replica reports the global loss with its own number of samples.
        self._loss_tracker.update_state(loss, sample_weight=ops.shape(logits)[0])
        logs = self.compute_metrics(x, y, logits, sample_weight=sample_weight)
        return replicas.reducible(logs)


def _is_float(tensor):
    return keras.backend.is_float_dtype(keras.backend.standardize_dtype(tensor.dtype))
