# SPDX-License-Identifier: Apache-2.0
"""Models whose classifier learns from samples without training."""

from deepncm_tf.models import adapting, class_changes
from deepncm_tf.models.classifier_model import ClassifierModel
from deepncm_tf.models.no_samples import refuse_empty


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
            x: Samples, as for `fit`: arrays, or what gives batches of (inputs, labels) or
                (inputs, labels, sample weights).
            y: Labels of samples in arrays, as for `fit`.
            sample_weight: As for `fit`; those above 0 count as one sample where samples are
                clustered or kept.
            reset: Bool, whether the state is that of these samples alone, but for the
                number of updates, by which schedules go; False adds them to those before.
                Sub-centroids then keep the weight of their samples so far and their memory,
                and a bank its rows.
            batch_size, verbose, steps: As in `keras.Model.evaluate`. The last batch of
                arrays is filled to 8 samples, unless the others have fewer, since
                backbones round otherwise in a batch of one.

        Raises:
            ValueError: If the classifier has no state that follows from features, there is
                no sample, labels or sample weights are none, or a bank has no row left. The
                state is as it was before.
        """
        y = self.as_labels(y)
        x = self._checked_samples(x)
        adapting.adapt(
            self,
            x,
            y,
            sample_weight,
            reset,
            batch_size=batch_size,
            verbose=verbose,
            steps=steps,
        )
        self.forget_judgement()

    def _checked_samples(self, x):
        """The samples, once the model is built for them."""
        refuse_empty(x)
        self.check_inputs(x)
        return self.built_for(x)

    def add_classes(self, number, names=None):
        """A model with more classes, which have no sample yet.

        As for all changes of classes: the new model shares the backbone, is not compiled,
        and has a classifier of its own, with the state of the classes that stay to the bit;
        this model stays as it is. An embedding is copied, frozen where it is. The new model
        has the dtype policy of this one and its class, a subclass of `DeepNCM` maybe, whose
        `get_config` must then have the subclass's own arguments.

        Args:
            number: Int >= 1, number of new classes. They come last.
            names: Sequence of strings, their names, or None.

        Returns:
            `DeepNCM`.

        Raises:
            ValueError: If the classifier has no state for each class of its own, or is not
                built.
        """
        return class_changes.add_classes(self, number, names)

    def remove_classes(self, labels):
        """A model without some classes.

        `LinearDiscriminant` keeps how they varied, and `RandomFeatures` their samples as
        those of no class: `forget` the samples first where nothing is to stay.

        Args:
            labels: Sequence of ints or of names, the classes that go.

        Returns:
            `DeepNCM`, as `add_classes`; later classes have smaller numbers.

        Raises:
            ValueError: As `add_classes`, or if there is no such class, or none would stay.
        """
        return class_changes.remove_classes(self, labels)

    def merge_classes(self, groups):
        """A model where several classes are one.

        With class statistics it is as if samples had been labelled so from the start.
        Sub-centroids of the classes become those of the one.

        Args:
            groups: Dictionary from a new name to a sequence of the numbers or names of the
                classes, of which the first number is that of the new class.

        Returns:
            `DeepNCM`, as `add_classes`, with `class_names`; later classes have smaller
            numbers.

        Raises:
            ValueError: As `add_classes`, or if there is no such class.
        """
        return class_changes.merge_classes(self, groups)

    def forget(self, x, y=None, sample_weight=None, **options):
        """A model that has never seen some of its samples, to the bit.

        The bit is that of the statistics: the backbone must give the same features again,
        for which `batch_size` should be that of `adapt`.

        Args:
            x, y, sample_weight: Samples, as they were for `adapt`.
            **options: `batch_size`, `verbose` and `steps` of `adapt`.

        Returns:
            `DeepNCM`, as `add_classes`.

        Raises:
            ValueError: If the state cannot be taken apart (that of `OnlineMean` after
                `adapt`, `LinearDiscriminant` and `RandomFeatures` can), or cannot have had
                these samples: sums tell of more samples of a class than it has, and with
                second moments of most others, but not of all.
        """
        y = self.as_labels(y)
        x = self._checked_samples(x)
        return class_changes.forget(self, x, y, sample_weight, **options)

    def merge_statistics(self, other):
        """A model of the samples of two, to the bit as one that has seen all of them.

        Args:
            other: `DeepNCM` with the same backbone, classes, kind of classifier and
                settings that features depend on: names of layers, and what only training
                knows, may differ.

        Returns:
            `DeepNCM`, as `add_classes`.

        Raises:
            ValueError: If something else than the samples differs, which is named, or a
                state cannot be added to.
        """
        if not isinstance(other, AdaptableModel):
            raise ValueError(f"`other` must be a DeepNCM. Received: other={other!r}")
        return class_changes.merge_statistics(self, other)

    def with_classifier(self, classifier, class_names=None):
        """A model with the same backbone and embedding and another classifier.

        Args:
            classifier: `Classifier`.
            class_names: As in `DeepNCM`.
        """
        raise NotImplementedError

    @property
    def features_shape(self):
        """Shape of the features that the classifier gets, with its batch axis."""
        raise NotImplementedError
