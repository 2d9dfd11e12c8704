# SPDX-License-Identifier: Apache-2.0
"""What the run loop asks of a task: its data, metrics, figures and results."""

from deepncm_tf import flags
from deepncm_tf.data import datasets, folders, pipeline
from deepncm_tf.runs import images


class Classification:
    """A class for each image.

    Args:
        config: Dictionary of flags as from `flags.resolve`.
    """

    metric = "accuracy"  # by which epochs are compared
    result_figures = ("val_accuracy", "test_rmd", "test_unseen")
    counted = "test images"  # what `test_unseen` is a number of

    def __init__(self, config):
        self.config = config

    def load(self):
        """The splits, as from `datasets.load`."""
        return images.load(self.config, self.config["data_dir"], folders.SKIP)

    def metrics(self):
        """Metrics to compile with."""
        return ["accuracy"]

    def training_dataset(self, train, plan, epochs, initial_epoch, initial_batch):
        """Batches of the epochs; arguments as for `pipeline.training_dataset`."""
        return pipeline.training_dataset(
            *train,
            plan.batch_size,
            epochs,
            seed=self.config["seed"],
            initial_epoch=initial_epoch,
            initial_batch=initial_batch,
            flip=datasets.recipe(self.config["dataset"]).flip,
            augmentation=self.config["augmentation"],
            scaling=flags.scaling(self.config),
            on_device=self.config["device_dataset"],
        )

    def evaluations(self, splits, plan):
        """Dictionary from splits to a dataset and its number of steps."""
        size = plan.evaluation_batch_size
        return {
            name: (
                pipeline.evaluation_dataset(*split, size, flags.scaling(self.config)),
                pipeline.steps_per_epoch(len(split[1]), size),
            )
            for name, split in splits.items()
        }

    def epoch_figures(self, model):
        """Figures of an epoch besides those of Keras, a dictionary."""
        return {}

    def evaluation_figures(self, model):
        """Figures of the evaluation that has just ended, besides those of Keras."""
        return {}

    def callbacks(self, folder, splits):
        """Callbacks of the process that writes, a list."""
        return []

    def finish(self, model, folder, splits):
        """Writes what else a finished run has, into its folder."""

    def summary(self, result):
        """The result in words."""
        return (
            f"test accuracy {result['final_test_accuracy']:.2%} (final), "
            f"{result['best_test_accuracy']:.2%} (best, epoch {result['best_epoch']} of "
            f"{result['epochs']})"
        )
