# SPDX-License-Identifier: Apache-2.0
"""Models whose classifier learns from samples without training."""

from deepncm_tf.models import exact_model
from deepncm_tf.models.classifier_model import ClassifierModel
from deepncm_tf.numerics import labels


class AdaptableModel(ClassifierModel):
    """A `ClassifierModel` that sets its classifier's state in one pass over data.

    A subclass has `features_shape`, besides what a `ClassifierModel` wants.
    """

    def adapt(
        self,
        x,
        y=None,
        sample_weight=None,
        reset=True,
        batch_size=None,
        verbose="auto",
        steps=None,
    ):
        """Sets the classifier's state from samples, in one pass without training.

        The backbone is as in inference, and does not change. Means, `LinearDiscriminant`
        and `RandomFeatures` get exact statistics of all samples, that do not depend on
        their order, batches or replicas, up to what the backbone's own rounding does;
        `SubCentroids` clusters all features of each class until no sample changes its
        sub-centroid; `NeighborhoodComponents` fills its bank. A sample with a NaN or an
        infinity in its features takes no part.

        Args:
            x: Images, as for `fit`; or a dataset of (images, labels) or (images, labels,
                sample weights).
            y: Labels of images in an array, as for `fit`.
            sample_weight: As for `fit`; those above 0 count as one sample where samples are
                clustered or kept.
            reset: Bool, whether the state is that of these samples alone; False adds them
                to those before. Sub-centroids then keep the weight of their samples so far,
                and a bank its rows.
            batch_size, verbose, steps: As in `keras.Model.evaluate`.

        Raises:
            ValueError: If the classifier has no state that follows from features, there is
                no sample, labels or sample weights are none, or a bank has no row left. The
                state is as it was before.
        """
        from deepncm_tf.models import adapting

        exact_model.refuse_other_backends()
        exact_model.refuse_empty(x)
        labels.refuse_names(y, "y")
        self.check_images(x)
        if not self.built and hasattr(x, "shape"):
            self.build_for(x)
        if not self.built:
            raise ValueError(
                "Call the model on a batch of images, or `fit` it, before `adapt`."
            )
        adapting.adapt(self, x, y, sample_weight, reset, batch_size, verbose, steps)
        self.begin_fit()

    @property
    def features_shape(self):
        """Shape of the features that the classifier gets, with its batch axis."""
        raise NotImplementedError
