# SPDX-License-Identifier: Apache-2.0
"""Makes a classifier of a folder of pictures, in one pass and without training.

    python -m deepncm_tf.teach --images=folder:PATH --output=my.keras
    python -m deepncm_tf.classify --model=my.keras PICTURES

PATH has a folder of pictures for each class. A pretrained backbone looks at each picture
once; five models that have learnt four fifths of them judge the others, which tells the
accuracy, what an unknown picture is, and which pictures look mislabelled. The model has
learnt all. Beside it, in a folder of its name and -report, are a page that opens without a
network (index.html) and everything in numbers (report.json).
"""

from deepncm_tf.utils import files, quiet, signals

if __name__ == "__main__":
    signals.end_program("teach")  # also while the rest is imported

import pathlib
import sys
import time

from absl import flags as absl_flags

from deepncm_tf import flags
from deepncm_tf.data import datasets
from deepncm_tf.flags.methods import METHOD_FLAGS
from deepncm_tf.runs import output_files
from deepncm_tf.runs.command_line import CommandLine, quiet_tensorflow

REPORT = ("index.html", "report.json")
SCORES = ("distance", "max_logit", "max_probability", "energy")
DEFAULTS = {"ncm": "lda", "backbone": "efficientnet_lite0", "weights": "pretrained"}
OF_RUNS = (*DEFAULTS, "image_size", "on_bad_image", "resnet_version", "seed")
# What has to do with training alone.
WITHOUT_TRAINING = {"memory_batches": 0, "centroid_momentum_schedule": "constant"}
OF_METHODS = {flag.name for flag in METHOD_FLAGS} - {
    *WITHOUT_TRAINING,
    *("condensation_steps", "decay", "centroid_momentum", "bank_momentum"),
    *("bank_momentum_schedule", "bank_sharding", "sub_centroid_initializer"),
    "anchor_epochs",
}

FLAGS = absl_flags.FlagValues()  # several command lines can be imported together
absl_flags.DEFINE_string(
    "images",
    None,
    "folder:PATH, which has a folder of pictures for each class, or train/ with such "
    "folders and test/, whose pictures are not learnt.",
    flag_values=FLAGS,
)
absl_flags.DEFINE_string(
    "output", None, "File to write the model to, .keras.", flag_values=FLAGS
)
absl_flags.DEFINE_float(
    "alpha",
    0.05,
    "Share of pictures of known classes that may be taken for unknown.",
    flag_values=FLAGS,
)
absl_flags.DEFINE_string(
    "score",
    "distance",
    f"<{'|'.join(SCORES)}>: What tells how like the known classes a picture is.",
    flag_values=FLAGS,
)
flags.define(flag_values=FLAGS, only={*OF_RUNS, *OF_METHODS}, defaults=DEFAULTS)

command_line = CommandLine("teach", __doc__, FLAGS)


def main(argv):
    command_line.refuse_arguments(argv)
    quiet_tensorflow()
    with command_line.errors():
        config = resolve(FLAGS.images, flags.given(FLAGS))
        check(FLAGS.images, FLAGS.output, FLAGS.alpha, FLAGS.score)
        quiet.start_tensorflow()
        print(teach(config, FLAGS.output, FLAGS.alpha, FLAGS.score))


def resolve(images, values):
    """The flags of a run that looks at pictures once.

    Args:
        images: String, the value of --images.
        values: Dictionary of the flags that are given.

    Raises:
        FlagError: If they cannot be used.
    """
    if not (images and datasets.is_known(images) and images.startswith(datasets.FOLDER)):
        raise flags.FlagError(
            f"--images must be folder:PATH. Received: --images={images or ''}"
        )
    values = {**DEFAULTS, **values}
    if values["ncm"] == "softmax":
        raise flags.FlagError(
            "--ncm must be a method whose classes follow from features, such as lda or "
            "online. Received: --ncm=softmax"
        )
    if values["ncm"] == "dnc":
        values = {**WITHOUT_TRAINING, **values}
    others = {"dataset": images, "freeze": True, "embedding_dim": 0}
    return flags.resolve({**values, **others})


def check(images, output, alpha, score):
    """Raises an error where something cannot be written, or a flag is out of its range."""
    if not output or pathlib.Path(output).suffix != ".keras":
        raise flags.FlagError(
            "--output must be a file that ends in .keras. Received: "
            f"--output={output or ''}"
        )
    if not 0 < alpha < 1:
        raise flags.FlagError(
            f"--alpha must be a number between 0 and 1. Received: --alpha={alpha}"
        )
    if score not in SCORES:
        raise flags.FlagError(
            f"--score must be one of {', '.join(SCORES)}. Received: --score={score}"
        )
    output_files.check_file("output", output)
    _check_report(pathlib.Path(images.removeprefix(datasets.FOLDER)), output)


def _check_report(root, output):
    """Raises a ValueError where the report on the pictures in `root` cannot be written."""
    folder = report_folder(output)
    if folder.exists() and not folder.is_dir():
        raise ValueError(
            f"--output must leave {folder} for a folder of the report. "
            f"Received: --output={output}"
        )
    if root.resolve() in folder.resolve().parents:
        raise ValueError(
            f"--output must be outside of the folder of the pictures, {root}, of which the "
            f"report would be a class. Received: --output={output}"
        )
    others = {path.name for path in folder.iterdir()} if folder.exists() else set()
    if others - set(REPORT):
        raise ValueError(
            f"--output must leave {folder} for the report; it holds other files, such as "
            f"{min(others - set(REPORT))}. Received: --output={output}"
        )
    output_files.check_folder("output", folder, output)


def report_folder(output):
    """Path of the folder of the report on a model."""
    return pathlib.Path(output).with_name(pathlib.Path(output).stem + "-report")


def teach(config, output, alpha=0.05, score="distance"):
    """Makes a model of a folder of pictures, and writes it with a report.

    Args:
        config: Dictionary of flags as from `resolve`.
        output: Path of the model's file.
        alpha: Float in (0, 1), share of known pictures that may be taken for unknown.
        score: String, one of `SCORES`.

    Returns:
        Some lines that say what was seen and written.

    Raises:
        FolderError, RunError, ValueError: What stands in the way.
    """
    import keras

    from deepncm_tf.runs.backbone import print_size
    from deepncm_tf.teaching import report
    from deepncm_tf.teaching.lesson import Lesson

    keras.utils.set_random_seed(config["seed"])
    lesson = Lesson(config)
    folds = lesson.folds(alpha)
    print(
        f"{len(lesson.labels)} pictures of {len(lesson.class_names)} classes in "
        f"{lesson.root}",
        flush=True,
    )
    lesson.build()
    print_size(lesson.model)
    start = time.perf_counter()
    features = lesson.embed(lesson.images, verbose=1)
    seconds = time.perf_counter() - start
    judged = lesson.cross_validate(features, folds, alpha, score)
    lesson.learn(features, judged.calibration)
    found = report.make(lesson, features, judged, seconds)
    page, folder = report.page_of(lesson, features, found), report_folder(output)
    files.make_folder(folder)  # and the one of the model, which it is in
    files.write_atomically(output, lesson.model.save)
    files.write_json(folder / REPORT[1], found)
    files.write_text(folder / REPORT[0], page)
    return report.in_words(found, output, folder / REPORT[0])


if __name__ == "__main__":
    main(command_line.parse(sys.argv))
