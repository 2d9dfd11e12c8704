# SPDX-License-Identifier: Apache-2.0
"""Models that give reasons and doubts with their classes: exemplars, calibration, and the
pictures that they were taught."""

import os

from deepncm_tf.models.adaptable_model import AdaptableModel
from deepncm_tf.models.exporting import export_endpoints

EXEMPLARS = "exemplars.npz"
CALIBRATION = "calibration.npz"
PICTURES = "pictures.npz"


class JudgingModel(AdaptableModel):
    """An `AdaptableModel` that can be anchored, calibrated, and exported with both.

    A subclass has `input_signature`, besides what an `AdaptableModel` wants.

    Attributes:
        exemplars: `Exemplars` of the last `anchor`, or None.
        calibration: `Calibration` of the last `calibrate`, or None.
        pictures: `TrainingPictures` of `python -m deepncm_tf.teach`, or None. All of them
            are forgotten when the classifier's state or weights change.
    """

    judgements = ("exemplars", "calibration", "pictures")
    exemplars = None
    calibration = None
    pictures = None

    def anchor(self, x, y=None, images=None, **kwargs):
        """Puts each sub-centroid on the nearest training image of its class.

        The exemplars are then the attribute `exemplars`, which `save` keeps; see
        `anchoring.anchor` for arguments and what is returned.
        """
        from deepncm_tf.models import anchoring

        exemplars = anchoring.anchor(self, x, self.as_labels(y), images, **kwargs)
        self.forget_judgement()  # what was learnt of the sub-centroids before is forgotten
        self.exemplars = exemplars
        return exemplars

    def calibrate(self, x, y=None, score="distance", alpha=0.05, **kwargs):
        """Learns from held-out images when an image is of none of the known classes.

        See `rejection.calibrate` for arguments and what is returned.
        """
        from deepncm_tf.models import rejection

        return rejection.calibrate(self, x, self.as_labels(y), score, alpha, **kwargs)

    def classify(self, x, **kwargs):
        """Class, p-value and prediction set of images, -1 for those of no known class.

        See `rejection.classify` for arguments and what is returned; after `calibrate`.
        """
        from deepncm_tf.models import rejection

        return rejection.classify(self, x, **kwargs)

    def save_assets(self, folder):
        """Called by `save`: keeps exemplars, calibration and pictures."""
        for name in (EXEMPLARS, CALIBRATION, PICTURES):
            kept = getattr(self, name.removesuffix(".npz"))
            if kept is not None:
                kept.save(os.path.join(folder, name))

    def load_assets(self, folder):
        """Called by `load_model`."""
        from deepncm_tf.evaluation import explanation
        from deepncm_tf.models import rejection, training_pictures

        for name, kind in (
            (EXEMPLARS, explanation.Exemplars),
            (CALIBRATION, rejection.Calibration),
            (PICTURES, training_pictures.TrainingPictures),
        ):
            path = os.path.join(folder, name)
            if os.path.exists(path):
                setattr(self, name.removesuffix(".npz"), kind.load(path))

    def export(self, filepath, format="tf_saved_model", verbose=None, **kwargs):
        """Exports the model for serving.

        A SavedModel has endpoints on what the backbone takes, with its names, shapes and
        dtypes: `serve` gives logits, `embed` features and, after `calibrate`, `classify` a
        dictionary as from `Calibration.judge`. Other formats are those of
        `keras.Model.export`.
        """
        if format != "tf_saved_model" or kwargs:
            return super().export(filepath, format=format, verbose=verbose, **kwargs)
        endpoints = {
            "serve": lambda image: self(image),
            "embed": lambda image: self(image, return_features=True)[1],
        }
        if self.calibration is not None:
            endpoints["classify"] = self._judge
        export_endpoints(self, filepath, endpoints, verbose)
        return None

    def _judge(self, x):
        logits, features = self(x, return_features=True)
        return self.calibration.judge(self.classifier, features, logits)
