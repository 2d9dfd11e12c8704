# SPDX-License-Identifier: Apache-2.0
"""Explains what a model predicts, by training images that stand for its classes.

    python -m deepncm_tf.explain --model_dir=runs/NAME --output=report
    python -m deepncm_tf.explain --model=my.keras --images=FILES --output=report

writes a page that opens without a network (index.html), the pictures of all exemplars
(exemplars.png) and everything in numbers (explanations.json) into a folder. With
--alpha=0.05 images that are less like the known classes than 95 % of such images are
"unknown". Of a run of segmentation some pixels of each image are explained, by patches
around training pixels, and scores.png shows which pixels are like those of no class.
"""

from deepncm_tf.utils import quiet, signals

if __name__ == "__main__":
    signals.end_program("explain")  # also while the rest is imported

import dataclasses
import pathlib
import sys

import numpy as np
from absl import flags as absl_flags

from deepncm_tf import flags as run_flags
from deepncm_tf.data import bank_files, image_files
from deepncm_tf.flags.list_flag import define_paths
from deepncm_tf.pages import report
from deepncm_tf.runs import output_files
from deepncm_tf.runs.command_line import (
    CommandLine,
    define_run_flags,
    quiet_tensorflow,
)
from deepncm_tf.teaching import taught_model

SCORES = ("distance", "max_logit", "max_probability", "energy")  # those of `calibrate`
NUM_QUERIES = 100
# What a file of `teach` has no use for; a default would hide whether it is given.
OF_RUNS = ("num_queries", "bank", "alpha", "score", "data_dir")

FLAGS = absl_flags.FlagValues()  # several command lines can be imported together
define_run_flags(FLAGS)
absl_flags.DEFINE_string(
    "model", None, "File of teach, in place of --model_dir.", flag_values=FLAGS
)
absl_flags.DEFINE_string("output", "report", "Folder to write to.", flag_values=FLAGS)
define_paths(
    "images",
    [],
    "Image files to explain, or folders of them, deeper ones, too; by default test images.",
    FLAGS,
)
absl_flags.DEFINE_integer(
    "num_queries",
    None,
    "Number of test images to explain, the first ones; of segmentation at most 20. By "
    f"default {NUM_QUERIES}.",
    lower_bound=1,
    flag_values=FLAGS,
)
absl_flags.DEFINE_string(
    "bank",
    None,
    "Bank file, among whose images exemplars are looked for; by default the exemplars that "
    "the model was anchored on, or else all training images.",
    flag_values=FLAGS,
)
absl_flags.DEFINE_float(
    "alpha",
    None,
    "Share of images of the known classes that may be called unknown, between 0 and 1: "
    "calibrates on the images of --validation_fraction, or else on test images that are "
    "not explained. By default images are unknown where the model was saved calibrated.",
    flag_values=FLAGS,
)
absl_flags.DEFINE_enum(
    "score",
    None,
    SCORES,
    f"What --alpha is a share by; by default {SCORES[0]}.",
    flag_values=FLAGS,
)

REPORT = {"index.html", "exemplars.png", "explanations.json", "scores.png"}

command_line = CommandLine("explain", __doc__, FLAGS)


def main(argv):
    config = {}
    if FLAGS.model:
        command_line.refuse_arguments(argv)
        quiet_tensorflow()
    else:
        tasks = (run_flags.CLASSIFICATION, run_flags.SEGMENTATION)
        config = command_line.finished_run(argv, FLAGS, tasks)
    with command_line.errors():
        image_paths = image_files.find(FLAGS.images)
        if FLAGS.model:
            others = {name: getattr(FLAGS, name) for name in OF_RUNS}
            taught_model.check_flags(FLAGS.model, FLAGS.model_dir, image_paths, others)
        output_files.check_report(FLAGS.output, REPORT)
        if FLAGS.bank:
            bank_files.check_path(FLAGS.bank)
        check_alpha(FLAGS.alpha, FLAGS.score)
        num_queries = FLAGS.num_queries or NUM_QUERIES
        if run_flags.task_of(config) == run_flags.SEGMENTATION:
            if FLAGS.bank or FLAGS.alpha is not None:
                raise ValueError(
                    "--bank and --alpha are of whole images; leave them out for a run of "
                    f"segmentation. Received: --bank={FLAGS.bank} --alpha={FLAGS.alpha}"
                )
            quiet.start_tensorflow()
            from deepncm_tf.runs import pixel_report

            where = (FLAGS.model_dir, FLAGS.output, image_paths)
            print(pixel_report.write(*where, num_queries, FLAGS.data_dir))
            return
        quiet.start_tensorflow()
        written = write(
            FLAGS.model or FLAGS.model_dir,
            FLAGS.output,
            image_paths,
            num_queries,
            FLAGS.data_dir,
            FLAGS.bank,
            FLAGS.alpha,
            FLAGS.score or SCORES[0],
        )
        print(written)


def check_alpha(alpha, score=None):
    """Raises a ValueError unless it is a share, or if there is a score without it."""
    if score is not None and alpha is None:
        raise ValueError(f"--score must be given with --alpha. Received: --score={score}")
    if alpha is not None and not 0 < alpha < 1:
        raise ValueError(
            f"--alpha must be a number between 0 and 1. Received: --alpha={alpha}"
        )


def write(
    model_dir,
    output,
    image_paths=(),
    num_queries=NUM_QUERIES,
    data_dir=None,
    bank=None,
    alpha=None,
    score="distance",
):
    """Explains images and writes the report.

    Args:
        model_dir: Path of a finished run's folder, or of a file of `teach`.
        output: Path of the folder to write to.
        image_paths: Paths of image files; without any, the first test images.
        num_queries: Int, how many of those.
        data_dir: Folder of TFDS datasets, or None.
        bank: Path of a bank file, among whose images exemplars are looked for; None for
            those that the model has, or else all training images.
        alpha: Float in (0, 1), share of images of known classes that may be rejected; None
            for the model's own calibration, if it has one.
        score: String, what alpha is a share by; see `DeepNCM.calibrate`.

    Returns:
        A sentence that says what was written.
    """
    from deepncm_tf import explanation

    run = taught_model.open_run(model_dir, data_dir)
    classifier = run.model.classifier
    queried, truth, names = _queries(run, image_paths, num_queries)
    features = run.embed(queried)
    exemplars = _exemplars(run, bank, features.shape[1])
    calibration = run.model.calibration
    if alpha is not None:
        calibration = run.calibrate(alpha, score, 0 if image_paths else num_queries)
    explained = explanation.explain(
        classifier, exemplars, features, run.class_names, truth, calibration
    )
    facts = _facts(run, exemplars)
    if calibration is not None:
        number = sum(one["rejection"] is not None for one in explained)
        facts["Unknown of these"] = f"{number} of {len(explained)}"
        facts["Known images rejected at most"] = f"{100 * calibration.alpha:g} %"
    report.write_explanations(
        output,
        "What the model predicts, and why",
        facts,
        queried,
        names,
        explained,
        exemplars,
        run.class_names,
        classifier.compares_by,
    )
    folder = pathlib.Path(output)
    return (
        f"{len(explained)} images explained by {int((exemplars.index >= 0).sum())} "
        f"exemplars: {folder / 'index.html'}, exemplars.png, explanations.json"
    )


def _queries(run, image_paths, num_queries):
    """Images of files, or the first test images; their labels, or None; their names."""
    if not image_paths:
        images, labels = (part[:num_queries] for part in run.splits["test"])
        return images, labels, [f"test image {i}" for i in range(len(images))]
    images, _ = run.splits["train"]
    size, middle = images.shape[1:3], getattr(images, "middle", False)
    read = [image_files.read(path, size, middle) for path in image_paths]
    return np.stack(read), None, image_files.names_of(image_paths)


def _exemplars(run, bank, dimensions):
    """Exemplars with pictures as the datasets have images."""
    from deepncm_tf import explanation

    images, labels = run.splits["train"]
    exemplars = run.model.exemplars
    if bank is not None or exemplars is None:
        if bank is not None:
            rows, labels, ids = run.read_bank(bank, dimensions)
        else:
            rows, ids = run.training_features(), np.arange(len(labels))
        # Places stand for the pictures, of which only the exemplars' are then read.
        exemplars = explanation.find_exemplars(run.model.classifier, rows, labels, ids, ids)
        known = (exemplars.index >= 0)[..., None, None, None]
        pictures = images[np.maximum(exemplars.index, 0)]
        return dataclasses.replace(exemplars, images=pictures * known.astype("uint8"))
    if exemplars.images.dtype == "uint8":
        return exemplars
    # The model was anchored on standardized images; their pictures are looked up.
    chosen = exemplars.index >= 0
    index, wanted = exemplars.index[chosen], exemplars.labels[chosen]
    if index.max() >= len(images) or (labels[index] != wanted).any():
        raise ValueError(
            "--model_dir must be of a model that was anchored on the run's training images "
            "in their order, or give `anchor` uint8 pictures of others as `images`. "
            "Received: exemplars with other places or labels"
        )
    return dataclasses.replace(exemplars, images=images[np.maximum(exemplars.index, 0)])


def _facts(run, exemplars):
    """What the page says at its top; the accuracies are of the whole test set."""
    from deepncm_tf import evaluation, explanation

    facts = {
        "Run": run.path.resolve().name,
        "Dataset": run.config["dataset"],
        "Method": run.config["ncm"],
    }
    if "test" in run.splits:  # `teach` learns all
        images, labels = run.splits["test"]
        features = run.embed(images)
        near = explanation.compare(run.model.classifier, features, exemplars).max(axis=-1)
        accuracy = evaluation.accuracy(run.model.classifier(features), labels)
        facts["Test accuracy"] = round(accuracy, 4)
        facts["By the nearest exemplar"] = round(evaluation.accuracy(near, labels), 4)
    return {**facts, "Training images": len(run.splits["train"][1])}


if __name__ == "__main__":
    main(command_line.parse(sys.argv))
