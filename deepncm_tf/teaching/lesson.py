# SPDX-License-Identifier: Apache-2.0
"""A folder of pictures becomes a model: one pass through a frozen backbone."""

import dataclasses
import os

import numpy as np

from deepncm_tf import classifiers, flags
from deepncm_tf.data import datasets, folders
from deepncm_tf.data.image_sources import ImageFiles
from deepncm_tf.evaluation import cross_validation
from deepncm_tf.models import rejection
from deepncm_tf.models.deep_ncm import DeepNCM
from deepncm_tf.models.training_pictures import TrainingPictures
from deepncm_tf.runs import backbone
from deepncm_tf.runs.finished_run import embed
from deepncm_tf.runs.plan import TrainingPlan


@dataclasses.dataclass(frozen=True, eq=False)
class Judged:
    """What was said of pictures by models that had not learnt them.

    Attributes:
        rows: `(m,)` integers, the pictures: all but those that are alone in their class.
        predicted: `(m,)` integers, the classes that they were taken for.
        p_values: `(m,)`, those of their own class.
        margins: `(m,)`, by how much the logit of another class exceeds that of their own.
        calibration: `Calibration` of all of them.
    """

    rows: np.ndarray
    predicted: np.ndarray
    p_values: np.ndarray
    margins: np.ndarray
    calibration: rejection.Calibration


class Lesson:
    """The pictures of a folder, and the model that is to learn them.

    Args:
        config: Dictionary of flags as from `flags.resolve`; `dataset` is a folder.

    Attributes:
        class_names: List of strings.
        images, labels: The pictures, an `ImageFiles`, and `(n,)` integers.
        test: The same of the folder's `test`, a pair, or None.
        model: The `DeepNCM`, whose classifier has learnt nothing yet; after `build`.

    Raises:
        FolderError: If the folder cannot be used as it is.
    """

    def __init__(self, config):
        self.config = config
        self.root = config["dataset"].removeprefix(datasets.FOLDER)
        self.class_names = folders.class_names(self.root)
        size = flags.image_size(config)
        listings = folders.read_listings(
            self.root, size, config["on_bad_image"], folders.SKIP
        )
        sources = {
            name: (ImageFiles(listing.paths, size), listing.labels)
            for name, listing in listings.items()
        }
        self.images, self.labels = sources["train"]
        self.test = sources.get("test")
        self.model = None

    def build(self):
        """Builds the model.

        Raises:
            RunError: If the backbone cannot be built, or its weights cannot be read.
        """
        network = backbone.build(self.config)
        network.trainable = False
        self.model = DeepNCM(
            network,
            self.new_classifier(np.arange(len(self.labels))),
            normalize=classifiers.NAMES[self.config["ncm"]].wants_unit_features,
            class_names=self.class_names,
        )

    def new_classifier(self, rows):
        """A classifier that has learnt nothing yet, for some of the pictures.

        Args:
            rows: `(m,)` integers, the pictures.
        """
        method = classifiers.NAMES[self.config["ncm"]]
        plan = TrainingPlan.make(self.config, self.labels[rows])
        arguments = method.prepare(flags.classifier_arguments(self.config), plan)
        return method(**arguments)

    def embed(self, images, verbose=0):
        """Features of pictures, `(n, d)` float32; `verbose` is 1 for a progress bar."""
        return embed(self.model, images, flags.scaling(self.config), verbose)

    def folds(self, alpha):
        """Parts of the pictures, each of which is judged by those who learnt the others.

        Args:
            alpha: Float in (0, 1), share of known pictures that may be taken for unknown.

        Raises:
            FolderError: If there are too few pictures for it.
        """
        folds = cross_validation.stratified_folds(self.labels, seed=self.config["seed"])
        number = int((folds != cross_validation.NEVER).sum())
        fewest = rejection.fewest_images(alpha)
        if number < max(fewest, 1):
            raise folders.FolderError(
                f"A folder must have {fewest} pictures or more in classes of two or more, "
                f"or nothing would ever be unknown at --alpha={alpha}. Received: {number} "
                f"such pictures of {len(self.labels)} in {self.root}"
            )
        return folds

    def cross_validate(self, features, folds, alpha, score):
        """Lets pictures be judged by classifiers that have not learnt them.

        Args:
            features: `(n, d)`, of the pictures.
            folds: `(n,)` integers, as from `folds`.
            alpha: Float in (0, 1).
            score: String, one of `rejection.SCORES`.

        Returns:
            `Judged`.

        Reference:
            - Vovk, "Cross-conformal predictors", Annals of Mathematics and Artificial
              Intelligence 74, 2015. The scores of all parts calibrate the one model that
              has learnt all: it knows more, so that it rejects rather too little.
        """

        def judge(classifier, features):
            logits = classifier(features)
            by_class = rejection.scores_by_class(score, classifier, features, logits)
            total = rejection.scores_of_all(score, by_class, logits)
            return logits, by_class, total

        rows, (logits, by_class, total) = cross_validation.judge_held_out(
            self.new_classifier, features, self.labels, folds, judge
        )
        labels = self.labels[rows]
        own, logit = (
            np.take_along_axis(values, labels[:, None], axis=1)[:, 0]
            for values in (by_class, logits)
        )
        return Judged(
            rows,
            logits.argmax(axis=-1),
            cross_validation.own_p_values(own, labels),
            logits.max(axis=-1) - logit,
            rejection.Calibration.of_scores(score, alpha, total, by_class, labels),
        )

    def learn(self, features, calibration):
        """Lets the model learn all pictures.

        Args:
            features: `(n, d)`, their features.
            calibration: `Calibration`, by which it says which pictures are of no class.
        """
        self.model.classifier.adapt(features, self.labels)
        self.model.calibration = calibration
        self.model.pictures = TrainingPictures(
            os.path.abspath(self.root),
            np.array(self.names),
            self.labels,
            features,
            flags.scaling(self.config),
        )

    @property
    def names(self):
        """Paths of the pictures within the folder, a list of strings."""
        return [os.path.relpath(path, self.root) for path in self.images.paths]


def method_of(classifier):
    """The method, as in --ncm, of a classifier."""
    kinds = {cls: name for name, cls in classifiers.NAMES.items()}
    return kinds[type(classifier)]
