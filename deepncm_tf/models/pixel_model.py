# SPDX-License-Identifier: Apache-2.0
"""Models with a class for each pixel: their losses, and what the classifier learns from."""

from keras import ops

from deepncm_tf.distribution import replicas
from deepncm_tf.models import prototype_losses
from deepncm_tf.models.classifier_model import ClassifierModel
from deepncm_tf.models.losses import LogitCrossEntropy
from deepncm_tf.numerics import labels, resizing
from deepncm_tf.numerics.precision import sum_dtype
from deepncm_tf.numerics.samples import class_numbers

RANK = 4  # axes of features and logits


class PixelModel(ClassifierModel):
    """A `ClassifierModel` of pixels, whose features are of a smaller size than images.

    Its `outputs` are logits of the image's size, features, their logits and, where there
    is `auxiliary_weight`, those of another head. A subclass has the attributes
    `image_shape`, `features_shape`, `ignore_class`, `auxiliary_weight`, `contrast_weight`
    and `distance_weight`, besides what a `ClassifierModel` wants.
    """

    @property
    def output_rank(self):
        return RANK

    def enlarged(self, scores):
        """Logits of features in the images' size."""
        return resizing.resize(scores, self.image_shape[1:3])

    def targets(self, y, sample_weight, rank):
        if y is None:  # which `ClassifierModel` refuses
            return super().targets(y, sample_weight, rank)
        shape = labels.known_shape(y, "y")
        wanted = tuple(self.image_shape[1:3])
        if len(shape) < RANK - 1 or tuple(shape[1:3]) != wanted:
            raise ValueError(
                "`y` must be masks of the images' height and width, "
                f"(batch, {wanted[0]}, {wanted[1]}). Received: y of shape {shape}"
            )
        return super().targets(y, sample_weight, rank)

    def further_labels(self, y, sample_weight):
        """Number of the global batch's labels of a class, where it comes in parts."""
        if self.accumulate_steps == 1 or not self._has_prototype_losses:
            return None
        return self._number_of_labels(self._small_labels(y, sample_weight))

    def further_loss(self, y, outputs, weights, sample_weight, samples, further):
        _, features, _, *auxiliary = outputs
        losses = []
        if auxiliary:
            logits = self.enlarged(auxiliary[0])
            while weights is not None and len(weights.shape) < RANK - 1:
                weights = ops.expand_dims(weights, axis=-1)
            loss = LogitCrossEntropy(ignore_class=self.ignore_class)(y, logits, weights)
            losses.append(self.auxiliary_weight * self.share_of_mean(loss, logits, samples))
        if self._has_prototype_losses:
            small, share = self._small_labels(y, sample_weight), 1.0
            if samples is not None:
                # What stands in for no sample has no class.
                small = ops.where(samples[0] > 0, small, -1)
                share = self._number_of_labels(small) / ops.maximum(further, 1.0)
            contrast, distance = prototype_losses.prototype_losses(
                self.classifier, features, small
            )
            share = ops.cast(share, contrast.dtype)
            losses += [
                self.contrast_weight * share * contrast,
                self.distance_weight * share * distance,
            ]
        return losses

    @property
    def _has_prototype_losses(self):
        return bool(self.contrast_weight or self.distance_weight)

    def _small_labels(self, y, sample_weight):
        """Labels at the centres of the features, -1 where they do not count."""
        y, sample_weight = self._of_features(self.known_labels(y), sample_weight)
        if sample_weight is None:
            return y
        counts = sample_weight > 0
        while len(counts.shape) < len(y.shape):
            counts = ops.expand_dims(counts, axis=-1)
        return ops.where(counts, y, -1)

    def _number_of_labels(self, y):
        """Number of labels of a class, over all replicas."""
        _, is_known = class_numbers(y, self.num_classes, RANK)
        (number,) = replicas.all_reduce_sum([ops.sum(ops.cast(is_known, sum_dtype()))])
        return number

    def update_state(self, x, y, outputs, sample_weight, apply):
        _, features, scores, *_ = outputs
        y, sample_weight = self._of_features(y, sample_weight)
        super().update_state(x, y, (scores, features), sample_weight, apply)

    def update_evaluation(self, y, outputs, sample_weight):
        y, sample_weight = self._of_features(y, sample_weight)
        super().update_evaluation(y, outputs, sample_weight)

    def _of_features(self, y, sample_weight):
        """Labels and weights at the centres of the features."""
        size = self.features_shape[1:3]
        if sample_weight is not None:
            sample_weight = resizing.at_size(sample_weight, size)
        return resizing.at_size(y, size), sample_weight
