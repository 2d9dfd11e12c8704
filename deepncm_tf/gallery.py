# SPDX-License-Identifier: Apache-2.0
"""Shows the training images nearest to each test image, by one model or by several.

    python -m deepncm_tf.gallery --model_dirs=runs/ONE,runs/OTHER --output=gallery.html
    python -m deepncm_tf.gallery --models=my.keras --output=gallery.html

writes one page that opens without a network. Of files of teach, which have learnt all
pictures of a folder, it shows these, each among the others.
"""

from deepncm_tf.utils import quiet, signals

if __name__ == "__main__":
    signals.end_program("gallery")  # also while the rest is imported

import os
import pathlib
import sys

import numpy as np
from absl import flags as absl_flags

from deepncm_tf import flags
from deepncm_tf.flags.list_flag import define_paths
from deepncm_tf.runs import output_files
from deepncm_tf.runs.command_line import USAGE_STATUS, CommandLine, quiet_tensorflow
from deepncm_tf.runs.config import read_config
from deepncm_tf.teaching import taught_model

FLAGS = absl_flags.FlagValues()  # several command lines can be imported together
define_paths(
    "model_dirs", [], "Folders of finished runs on the same images and classes.", FLAGS
)
define_paths("models", [], "Files of teach on one folder, in place of --model_dirs.", FLAGS)
absl_flags.DEFINE_string("output", "gallery.html", "File to write.", flag_values=FLAGS)
absl_flags.DEFINE_integer(
    "num_queries", 50, "Number of test images, the first.", lower_bound=1, flag_values=FLAGS
)
absl_flags.DEFINE_integer(
    "num_neighbours", 20, "Nearest training images.", lower_bound=1, flag_values=FLAGS
)
absl_flags.DEFINE_string("data_dir", None, "Folder of TFDS datasets.", flag_values=FLAGS)

# Those that say which images a run has, in which order, and of which classes.
OF_IMAGES = ("dataset", "label", "known_classes", "validation_fraction", "test_dataset")

command_line = CommandLine("gallery", __doc__, FLAGS)


def main(argv):
    command_line.refuse_arguments(argv)
    if not FLAGS.model_dirs and not FLAGS.models:
        command_line.fail("--model_dirs=DIR,... is needed: finished runs", USAGE_STATUS)
    quiet_tensorflow()
    with command_line.errors():
        check(FLAGS.model_dirs, FLAGS.models, FLAGS.data_dir)
        if pathlib.Path(FLAGS.output).suffix != ".html":
            raise ValueError(f"--output must end in .html. Received: {FLAGS.output}")
        output_files.check_file("output", FLAGS.output)
        quiet.start_tensorflow()
        write(
            FLAGS.model_dirs or FLAGS.models,
            FLAGS.output,
            FLAGS.num_queries,
            FLAGS.num_neighbours,
            FLAGS.data_dir,
        )


def check(model_dirs, models=(), data_dir=None):
    """Raises a ValueError unless all are runs on the same images and classes, or files."""
    if models:
        if model_dirs:
            raise ValueError(
                "--models must be given without --model_dirs. Received: "
                f"--model_dirs={','.join(map(str, model_dirs))}"
            )
        if data_dir is not None:
            raise ValueError(
                "--models must be given without --data_dir. Received: "
                f"--data_dir={data_dir}"
            )
        for path in models:
            taught_model.check_file("models", path)
        model_names(models, "models")
        return
    configs = [read_config(model_dir, "model_dirs") for model_dir in model_dirs]
    for name in OF_IMAGES:
        values = {config[name] for config in configs}
        if len(values) > 1:
            raise ValueError(
                f"--model_dirs must be of runs with one --{name}. Received: "
                f"{sorted(map(str, values))}"
            )
    model_names(model_dirs)


def model_names(model_dirs, flag="model_dirs"):
    """Names of the runs on the page: those of their folders, as they are given.

    Raises:
        ValueError: If two are the same.
    """
    names = [os.path.basename(os.path.abspath(path)) for path in model_dirs]
    if len(set(names)) < len(names):
        raise ValueError(
            f"--{flag} must have different names, by which the page tells them apart. "
            f"Received: --{flag}={','.join(map(str, model_dirs))}"
        )
    return names


def short_names(model_dirs):
    """Names for where there is little room: the methods, and what tells their runs apart.

    Returns:
        List of strings, one a run, no two the same: those of `model_names` where runs
        differ in nothing, and of files.
    """
    if any(map(os.path.isfile, model_dirs)):
        return model_names(model_dirs)
    kept = [flags.identity(read_config(path)) for path in model_dirs]
    names = []
    for one in kept:
        others = [other for other in kept if other["ncm"] == one["ncm"]]
        varied = (
            f", {name}={value}"
            for name, value in one.items()
            if any(other.get(name) != value for other in others)
        )
        names.append("".join([one["ncm"], *varied]))
    return names if len(set(names)) == len(names) else model_names(model_dirs)


def write(model_dirs, output, num_queries=50, num_neighbours=20, data_dir=None):
    """Writes the gallery, and says so.

    Args:
        model_dirs: Paths of finished runs' folders, or of files of `teach`.
        output: Path of the page.
        num_queries: Int, test images.
        num_neighbours: Int, nearest training images of each.
        data_dir: Folder of TFDS datasets, or None.
    """
    from deepncm_tf import evaluation
    from deepncm_tf.pages import report
    from deepncm_tf.runs.finished_run import check_neighbours

    by_model, known = {}, None
    for name, path in zip(short_names(model_dirs), model_dirs, strict=True):
        run = taught_model.open_run(path, data_dir)
        images, labels = run.splits["train"]
        check_same(known, run, path)
        known = run
        if "test" in run.splits:
            queries, truth = (part[:num_queries] for part in run.splits["test"])
            titles = [f"test image {i}" for i in range(len(truth))]
            own = None
        else:  # the pictures that were taught, from all classes, each without itself
            count = min(num_queries, len(labels))
            own = np.linspace(0, len(labels) - 1, count, dtype="int64")
            queries, truth = images[own], labels[own]
            titles = [str(name) for name in run.pictures.names[own]]
        check_neighbours("num_neighbours", num_neighbours, len(labels) - (own is not None))
        features = run.embed(queries)
        similarities, rows = evaluation.nearest(
            np.asarray(run.model.classifier.unit_features(features)),
            np.asarray(run.model.classifier.unit_features(run.training_features())),
            num_neighbours,
            exclude=own,
        )
        predicted = np.asarray(run.model.classifier(features)).argmax(axis=-1)
        by_model[name] = [run.class_names[c] for c in predicted], similarities, rows
    names = run.class_names

    whole = zip(by_model, model_names(model_dirs), strict=True)
    facts = {"Dataset": run.config["dataset"]}
    report.write_gallery(
        output,
        "Nearest training images",
        facts | {f"Model {short}": name for short, name in whole},
        queries,
        titles,
        [names[c] for c in truth],
        by_model,
        (images, [names[c] for c in labels]),
    )
    print(f"{len(queries)} queries, {num_neighbours} nearest training images: {output}")


def check_same(known, run, path):
    """Raises a ValueError where two files of `teach` have learnt other pictures."""
    if known is None or "test" in run.splits:
        return
    if not (
        np.array_equal(known.pictures.names, run.pictures.names)
        and known.config["dataset"] == run.config["dataset"]
        and known.class_names == run.class_names
        and known.image_size == run.image_size
    ):
        raise ValueError(
            "--models must have learnt the same pictures, in one size. Received: "
            f"--models={known.path},{path}"
        )


if __name__ == "__main__":
    main(command_line.parse(sys.argv))
