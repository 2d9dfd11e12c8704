# SPDX-License-Identifier: Apache-2.0
"""Sub-centroids that are training images while the network still learns."""

import keras

from deepncm_tf import flags
from deepncm_tf.models.anchoring import exemplars_at, find_exemplars
from deepncm_tf.runs.finished_run import embed

STEPS = 10  # from one look at the features of the anchors to the next


class Anchoring(keras.callbacks.Callback):
    """Keeps sub-centroids on training images in the last epochs of a run.

    At the beginning of the first of them each sub-centroid is put on the nearest image of
    its class, all of them distinct, and from then on follows its feature, which is computed
    every `STEPS` steps and at the end of each epoch, before the evaluation: the network
    learns with what it will be judged by. There is no momentum, and nothing is clustered.
    Later epochs choose no others: the image nearest to its own feature is the image.

    Args:
        model: `DeepNCM`; with `SubCentroids` where there are anchors.
        train: Pair of the training images, as from `datasets.load`, and their labels.
        scaling: String, as for `pipeline.evaluation_dataset`.
        first_epoch: Int, from 0, the first epoch with anchors; or None for none at all.

    Attributes:
        progress: The run's `checkpoints.Progress`, to be set before training.
        variables: List of what belongs in the run's checkpoints: `(num_classes, K)` int32,
            places of the images, -1 where there is none.

    Reference:
        - Wang, Han, Zhou, Liu, "Visual Recognition with Deep Nearest Centroids", ICLR
          2023, section 3 and Table 4, where images are chosen after the training.
    """

    progress = None

    def __init__(self, model, train, scaling, first_epoch):
        super().__init__()
        self.images, self.labels = train
        self.scaling = scaling
        self.first_epoch = first_epoch
        self.classifier = model.classifier
        self.is_on = False
        self.variables = []
        if first_epoch is not None:
            none = keras.ops.full(self.classifier.sub_centroids.shape[:2], -1, "int32")
            self.variables = [keras.Variable(none, trainable=False, dtype="int32")]

    @classmethod
    def of_run(cls, config, model, train):
        """That of a run; arguments as for `training.build_model`."""
        epochs = config.get("anchor_epochs")
        first_epoch = config["train_epochs"] - epochs if epochs else None
        return cls(model, train, flags.scaling(config), first_epoch)

    def on_epoch_begin(self, epoch, logs=None):
        if self.first_epoch is None or epoch < self.first_epoch:
            return
        if not self.is_on:
            self.is_on = self.classifier.is_held = True
            self.model.make_train_function(force=True)
        if epoch == self.first_epoch and not self.progress.batches:
            self._choose()

    def on_train_batch_end(self, batch, logs=None):
        # The run's report, which counts this batch, comes after this.
        if self.is_on and (self.progress.batches + 1) % STEPS == 0:
            self._follow(self.model)

    def on_epoch_end(self, epoch, logs=None):
        if self.is_on:
            self._follow(self.model)

    def finish(self, model):
        """Gives a trained model its exemplars."""
        if self.first_epoch is not None and (self._index() >= 0).any():
            model.exemplars = self._follow(model)

    def _choose(self):
        features = embed(self.model, self.images, self.scaling)
        # Any array with a row for each image will do: pictures are looked up at the end.
        chosen = find_exemplars(self.classifier, features, self.labels, self.labels)
        self.variables[0].assign(chosen.index.astype("int32"))
        self._follow(self.model)

    def _index(self):
        return keras.ops.convert_to_numpy(self.variables[0]).astype("int64")

    def _follow(self, model):
        """Puts the sub-centroids where the network sees the anchors; gives `Exemplars`."""
        index = self._index()
        images = self.images[index[index >= 0]]
        features = embed(model, images, self.scaling)
        exemplars = exemplars_at(index, images, self.labels, features)
        self.classifier.anchor(exemplars)
        return exemplars
