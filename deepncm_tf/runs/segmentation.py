# SPDX-License-Identifier: Apache-2.0
"""Segmentation as a task of the run loop: a class for each pixel."""

import keras
import numpy as np
import tensorflow as tf

from deepncm_tf import backbones, classifiers, flags, runs
from deepncm_tf.data import mask_pipeline, pipeline, segmentation, segmentation_sets
from deepncm_tf.data.mask_files import VOID
from deepncm_tf.flags.segmentation import rates
from deepncm_tf.models import pixel_metrics
from deepncm_tf.models.segmenter import Segmenter
from deepncm_tf.pages import overlays, pictures
from deepncm_tf.runs.tasks import Classification
from deepncm_tf.utils import files

OVERLAYS = "overlays.png"
SHOWN = 6  # images in it
BN_MOMENTUM = 0.9  # a run has few steps: statistics must follow fast


class Segmentation(Classification):
    """A class for each pixel.

    Args:
        config: Dictionary of flags as from `flags.resolve`.
    """

    metric = "mean_iou"
    result_figures = ("val_accuracy", "val_mean_iou", "test_unseen", "spread")
    counted = "pixels of the test images' feature maps"

    def __init__(self, config):
        super().__init__(config)
        self.class_names = segmentation.class_names(config["dataset"], config["data_dir"])

    def load(self):
        shape = segmentation_sets.as_shape(self.config["image_shape"])
        return segmentation.load(self.config["dataset"], shape, self.config["data_dir"])

    def metrics(self):
        return pixel_metrics.metrics(len(self.class_names), VOID)

    def training_dataset(self, train, plan, epochs, initial_epoch, initial_batch):
        return mask_pipeline.training_dataset(
            *train,
            plan.batch_size,
            epochs,
            seed=self.config["seed"],
            initial_epoch=initial_epoch,
            initial_batch=initial_batch,
            max_scale=self.config["max_scale"],
            mirrored=segmentation_sets.find(self.config["dataset"]).mirrored,
            scaling=flags.scaling(self.config),
        )

    def evaluations(self, splits, plan):
        size = plan.batch_size  # logits of all pixels are large
        return {
            name: (
                mask_pipeline.evaluation_dataset(*split, size, flags.scaling(self.config)),
                pipeline.steps_per_epoch(len(split[1]), size),
            )
            for name, split in splits.items()
        }

    def epoch_figures(self, model):
        spread = getattr(model.classifier, "spread", lambda: None)()
        return {} if spread is None else {"spread": spread}

    def evaluation_figures(self, model):
        """Intersection over union of each class that there is."""
        (metric,) = (m for m in compiled_metrics(model) if m.name == "mean_iou")
        ious = pixel_metrics.class_ious(keras.ops.convert_to_numpy(metric.total_cm))
        return {
            f"iou_{name}": float(iou)
            for name, iou in zip(self.class_names, ious, strict=True)
        }

    def callbacks(self, folder, splits):
        return [Overlays(self, folder, splits["test"])]

    def finish(self, model, folder, splits):
        png = self.sheet(model, splits["test"])
        path = folder.path / OVERLAYS
        files.write_atomically(path, lambda temporary: temporary.write_bytes(png))

    def sheet(self, model, split):
        """Test images, their masks and predictions side by side, as a PNG file."""
        images, masks = (part[:SHOWN] for part in split)
        predicted = predict(model, images, flags.scaling(self.config))
        colours = overlays.palette(len(self.class_names))
        return pictures.contact_sheet(
            overlays.rows(images, masks, predicted, colours), scale=1
        )

    def summary(self, result):
        return (
            f"test mean IoU {result['final_test_mean_iou']:.2%} (final), "
            f"{result['best_test_mean_iou']:.2%} (best, epoch {result['best_epoch']} of "
            f"{result['epochs']}), pixel accuracy {result['final_test_accuracy']:.2%}"
        )


class Overlays(keras.callbacks.Callback):
    """Shows test images with masks and predictions in TensorBoard, each evaluated epoch.

    Args:
        task: `Segmentation`.
        folder: `runs.RunFolder`.
        split: Images and masks.
    """

    def __init__(self, task, folder, split):
        super().__init__()
        self.task, self.folder = task, folder
        self.split = tuple(part[:SHOWN] for part in split)

    def on_epoch_end(self, epoch, logs=None):
        if "test_mean_iou" not in logs:
            return
        sheet = pictures.read_png(self.task.sheet(self.model, self.split))
        with self.folder.writing():
            writer = tf.summary.create_file_writer(
                str(self.folder.path / "summaries" / "test"), filename_suffix=".overlays"
            )
            with writer.as_default(step=epoch + 1):
                tf.summary.image("overlays: image, truth, prediction", sheet[None])
            writer.close()


def compiled_metrics(model):
    """The metrics that a model was compiled with, a list."""
    return model._compile_metrics.metrics


def predict(model, images, scaling):
    """Classes of the pixels of images as they are: `(n, height, width)` integers."""
    predicted = [
        np.asarray(model(pipeline.SCALINGS[scaling](images[i : i + 1]))).argmax(axis=-1)
        for i in range(len(images))
    ]
    return np.concatenate(predicted)


def build_model(config, plan):
    """The model that a config describes, not yet compiled; as `training.build_model`."""
    shape = (*segmentation_sets.as_shape(config["image_shape"]), 3)
    own = {"bn_momentum": BN_MOMENTUM}
    if backbones.find(config["backbone"]).is_resnet:
        own["version"] = config["resnet_version"]
    try:
        network = backbones.get(
            config["backbone"],
            shape,
            config["weights"],
            output_stride=config["output_stride"],
            **own,
        )
    except OSError as error:
        raise runs.RunError(f"--weights: {files.describe(error)}") from error
    except ValueError as error:
        raise runs.RunError(str(error)) from error
    network.trainable = not config["freeze"]
    arguments = flags.classifier_arguments(config)
    if arguments.get("max_samples"):
        arguments["seed"] = config["seed"]
    method = classifiers.NAMES[config["ncm"]]
    return Segmenter(
        network,
        method(**method.prepare(arguments, plan)),
        decoder=config["decoder"],
        decoder_width=config["decoder_width"],
        dropout=config["dropout"],
        decoder_rates=rates(config),
        auxiliary_weight=config["auxiliary_weight"],
        contrast_weight=config["contrast_weight"],
        distance_weight=config["distance_weight"],
        ignore_class=VOID,
        gradient_clip=config["gradient_clip"] or None,
        l2=config["weight_decay"],
        accumulate_steps=config["accumulate_steps"],
        class_names=segmentation.class_names(config["dataset"], config["data_dir"]),
    )
