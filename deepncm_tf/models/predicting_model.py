# SPDX-License-Identifier: Apache-2.0
"""Models that say what they predict in classes, neighbours and pages."""

import dataclasses

import keras
import numpy as np
from keras import ops

from deepncm_tf.evaluation.wording import UNKNOWN
from deepncm_tf.models.class_names import names_of, to_numbers
from deepncm_tf.models.inputs import is_arrays, unpack_inputs
from deepncm_tf.models.judging_model import JudgingModel


class PredictingModel(JudgingModel):
    """A `JudgingModel` with what users ask of a classifier every day.

    Attributes:
        feature_bank: `FeatureBank` of the last `index`, or None. It is forgotten when
            weights or the classifier's state change.
    """

    judgements = (*JudgingModel.judgements, "feature_bank")
    feature_bank = None

    def as_labels(self, y):
        """Labels, where they may be names in `class_names`, as numbers."""
        return super().as_labels(to_numbers(y, self.class_names))

    def predict_proba(self, x, **kwargs):
        """Probabilities of the classes, `(samples, ..., num_classes)`: softmax of logits.

        Args:
            x: As for `predict`.
            **kwargs: Those of `predict`, such as `batch_size`.
        """
        return ops.convert_to_numpy(ops.softmax(self.predict(x, **kwargs), axis=-1))

    def predict_classes(self, x, names=None, **kwargs):
        """The predicted classes, `(samples, ...)`.

        Args:
            x: As for `predict`.
            names: Bool, whether they are strings instead of integers; None for strings
                where the model has `class_names`.
            **kwargs: Those of `predict`, such as `batch_size`.
        """
        classes = self.predict(x, **kwargs).argmax(axis=-1)
        names = self.class_names is not None if names is None else names
        return np.array(names_of(self))[classes] if names else classes

    def index(self, x, y=None, **kwargs):
        """Keeps features of known samples, for `lookup`.

        Args:
            x: As for `embed`.
            y: Labels of the samples, integers, one-hot or names; or None.
            **kwargs: Those of `embed`, such as `batch_size`.

        Returns:
            `evaluation.feature_bank.FeatureBank`, the attribute `feature_bank` from now on.
        """
        self.feature_bank = self._bank(x, y, **kwargs)
        return self.feature_bank

    def lookup(self, x, k=5, **kwargs):
        """The known samples that are nearest to others, by the cosine of their features.

        Args:
            x: As for `embed`.
            k: Int, how many of them.
            **kwargs: Those of `embed`, such as `batch_size`.

        Returns:
            `evaluation.feature_bank.Neighbors`.

        Raises:
            ValueError: If there is no bank, or no so many samples in it.
        """
        if self.feature_bank is None:
            raise ValueError(
                "Call `index` with known samples before `lookup`, and again after training."
            )
        return self.feature_bank.lookup(self._unit_features(x, **kwargs), k)

    def explain(self, x, output, y=None, known=None, images=None, **kwargs):
        """Writes a page on why samples are classified as they are.

        Args:
            x: Array of samples, as for `predict`.
            output: Path of the folder to write to: index.html, exemplars.png and
                explanations.json.
            y: Their labels, or None.
            known: `(x, y)` or `(x, y, images)`: training samples among which exemplars are
                looked for, and their pictures. None for those of `anchor`.
            images: Pictures of the samples; by default made from `x`.
            **kwargs: Those of `embed`, such as `batch_size`.

        Returns:
            List of dictionaries, as from `explanation.explain`.

        Raises:
            ValueError: If there are no exemplars, or numbers of samples, labels and
                pictures differ.
        """
        from deepncm_tf.evaluation import explanation
        from deepncm_tf.pages import report

        exemplars = self._exemplars(known, **kwargs)
        features = self.embed(x, **kwargs)
        images = _pictures(images, x, len(features))
        labels = None if y is None else self._class_numbers(y, len(features))
        names = names_of(self)
        explained = explanation.explain(self.classifier, exemplars, features, names, labels)
        report.write_explanations(
            output,
            "What the model predicts, and why",
            self._facts(),
            report.as_pictures(images),
            [f"sample {i}" for i in range(len(features))],
            explained,
            exemplars,
            names,
            self.classifier.compares_by,
        )
        return explained

    def gallery(self, x, output, known, y=None, k=20, images=None, **kwargs):
        """Writes a page with the known samples that are nearest to others.

        Args:
            x, y, images, **kwargs: As in `explain`.
            output: Path of the page to write.
            known: `(x, y)` or `(x, y, images)`: the known samples, and their pictures. The
                bank of `index` stays as it is.
            k: Int, how many of them are shown.

        Returns:
            `evaluation.feature_bank.Neighbors`.

        Raises:
            ValueError: If numbers of samples, labels and pictures differ.
        """
        from deepncm_tf.pages import report

        known_x, known_y, pictures = _known(known)
        bank = self._bank(known_x, known_y, **kwargs)
        features = self.embed(x, **kwargs)
        images = _pictures(images, x, len(features))
        units = ops.convert_to_numpy(self.classifier.unit_features(features))
        found = bank.lookup(units, k)
        names = np.array([*names_of(self), UNKNOWN])  # the last is that of label -1
        labels = None
        if y is not None:
            labels = names[self._class_numbers(y, len(features))].tolist()
        logits = ops.convert_to_numpy(self.classifier(ops.convert_to_tensor(features)))
        predicted = names[logits.argmax(axis=-1)].tolist()
        report.write_gallery(
            output,
            "Nearest training samples",
            self._facts(),
            report.as_pictures(images),
            [f"sample {i}" for i in range(len(features))],
            labels,
            {type(self.classifier).__name__: (predicted, found.similarities, found.rows)},
            (report.as_pictures(pictures), names[bank.labels].tolist()),
        )
        return found

    def _bank(self, x, y=None, **kwargs):
        from deepncm_tf.evaluation.feature_bank import FeatureBank

        features = self._unit_features(x, **kwargs)
        labels = None if y is None else self._class_numbers(y, len(features))
        return FeatureBank(features, labels)

    def _exemplars(self, known, **kwargs):
        """Exemplars with pictures."""
        from deepncm_tf.evaluation import explanation
        from deepncm_tf.pages import report

        if known is None and self.exemplars is None:
            raise ValueError(
                "`known` must be training samples (x, y) where the model was not anchored: "
                "exemplars are looked for among them. Received: known=None"
            )
        if known is None:
            flat = self.exemplars.images.reshape(-1, *self.exemplars.images.shape[2:])
            pictures = report.as_pictures(flat)
            shape = (*self.exemplars.index.shape, *pictures.shape[1:])
            return dataclasses.replace(self.exemplars, images=pictures.reshape(shape))
        x, y, images = _known(known)
        features = self.embed(x, **kwargs)
        labels = self._class_numbers(y, len(features))
        return explanation.find_exemplars(
            self.classifier, features, labels, report.as_pictures(images)
        )

    def _facts(self):
        return {"Model": self.name, "Classifier": repr(self.classifier)}

    def _class_numbers(self, y, count):
        from deepncm_tf.numerics.labels import to_class_numbers

        y = self.as_labels(y)
        return to_class_numbers(
            y, "y", count, self.num_classes, ignore_class=self.ignore_class
        )

    def _unit_features(self, x, **kwargs):
        features = ops.convert_to_tensor(self.embed(x, **kwargs))
        return ops.convert_to_numpy(self.classifier.unit_features(features))


def _known(known):
    if not isinstance(known, list | tuple) or len(known) not in (2, 3):
        raise ValueError(
            "`known` must be (x, y) or (x, y, images). Received: "
            f"known of type {type(known).__name__}"
        )
    x, y, *images = known
    images = images[0] if images else _first(x)
    labels, pictures = _count(y), _count(images)
    samples = _count(_first(x)) if is_arrays(x) else pictures
    if not samples == labels == pictures:
        raise ValueError(
            "`known` must be as many labels and pictures as samples, (x, y) or (x, y, "
            f"images). Received: {samples} samples, {labels} labels and {pictures} pictures"
        )
    return x, y, images


def _pictures(images, x, count):
    """Pictures of some samples, by default made from these."""
    images = _first(x) if images is None else images
    if _count(images) != count:
        raise ValueError(
            "`images` must be a picture for each sample. Received: "
            f"{_count(images)} pictures of {count} samples"
        )
    return images


def _count(values):
    """Length of an array or a list; 0 of what has none."""
    return len(values) if np.ndim(values) else 0


def _first(x):
    """The array of samples, the first one of several inputs."""
    return np.asarray(keras.tree.flatten(unpack_inputs(x)[0])[0])
