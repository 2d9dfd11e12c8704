# SPDX-License-Identifier: Apache-2.0
"""Shows the training images nearest to each test image, by one model or by several.

    python -m deepncm_tf.gallery --model_dirs=runs/ONE,runs/OTHER --output=gallery.html

writes one page that opens without a network.
"""

from deepncm_tf.utils import files, signals

if __name__ == "__main__":
    signals.end_program("gallery")  # also while the rest is imported

import os
import pathlib
import sys

from absl import flags as absl_flags

from deepncm_tf.flags.list_flag import define_paths
from deepncm_tf.runs import output_files
from deepncm_tf.runs.command_line import USAGE_STATUS, CommandLine, quiet_tensorflow
from deepncm_tf.runs.config import read_config

FLAGS = absl_flags.FlagValues()  # several command lines can be imported together
define_paths("model_dirs", [], "Folders of finished runs on one dataset.", FLAGS)
absl_flags.DEFINE_string("output", "gallery.html", "File to write.", flag_values=FLAGS)
absl_flags.DEFINE_integer(
    "num_queries", 50, "Number of test images, the first.", lower_bound=1, flag_values=FLAGS
)
absl_flags.DEFINE_integer(
    "num_neighbours", 20, "Nearest training images.", lower_bound=1, flag_values=FLAGS
)
absl_flags.DEFINE_string("data_dir", None, "Folder of TFDS datasets.", flag_values=FLAGS)

command_line = CommandLine("gallery", __doc__, FLAGS)


def main(argv):
    command_line.refuse_arguments(argv)
    if not FLAGS.model_dirs:
        command_line.fail("--model_dirs=DIR,... is needed: finished runs", USAGE_STATUS)
    quiet_tensorflow()
    with command_line.errors():
        check(FLAGS.model_dirs)
        if pathlib.Path(FLAGS.output).suffix != ".html":
            raise ValueError(f"--output must end in .html. Received: {FLAGS.output}")
        output_files.check_file("output", FLAGS.output)
        write(
            FLAGS.model_dirs,
            FLAGS.output,
            FLAGS.num_queries,
            FLAGS.num_neighbours,
            FLAGS.data_dir,
        )


def check(model_dirs):
    """Raises a ValueError unless all are runs on the same images and classes."""
    configs = [read_config(model_dir) for model_dir in model_dirs]
    for name in ("dataset", "label", "validation_fraction"):
        values = {config[name] for config in configs}
        if len(values) > 1:
            raise ValueError(
                f"--model_dirs must be of runs with one --{name}. Received: "
                f"{sorted(map(str, values))}"
            )
    model_names(model_dirs)


def model_names(model_dirs):
    """Names of the runs on the page: those of their folders, as they are given.

    Raises:
        ValueError: If two are the same.
    """
    names = [os.path.basename(os.path.abspath(path)) for path in model_dirs]
    if len(set(names)) < len(names):
        raise ValueError(
            "--model_dirs must be folders with different names, by which the page tells "
            f"them apart. Received: --model_dirs={','.join(map(str, model_dirs))}"
        )
    return names


def write(model_dirs, output, num_queries=50, num_neighbours=20, data_dir=None):
    """Writes the gallery, and says so.

    Args:
        model_dirs: Paths of finished runs' folders.
        output: Path of the page.
        num_queries: Int, test images.
        num_neighbours: Int, nearest training images of each.
        data_dir: Folder of TFDS datasets, or None.
    """
    import numpy as np

    from deepncm_tf import evaluation
    from deepncm_tf.pages import page
    from deepncm_tf.runs.finished_run import FinishedRun, check_neighbours

    by_model = {}
    for name, path in zip(model_names(model_dirs), model_dirs, strict=True):
        run = FinishedRun(path, data_dir)
        (images, labels), (queries, truth) = (
            run.splits[split] for split in ("train", "test")
        )
        check_neighbours("num_neighbours", num_neighbours, len(labels))
        queries, truth = queries[:num_queries], truth[:num_queries]
        features = run.embed(queries)
        similarities, rows = evaluation.nearest(
            np.asarray(run.model.classifier.unit_features(features)),
            run.unit_features(images),
            num_neighbours,
        )
        predicted = np.asarray(run.model.classifier(features)).argmax(axis=-1)
        by_model[name] = predicted, similarities, rows
    names = run.class_names

    def neighbours(i, similarities, rows):
        return [
            page.Exemplar(
                images[j], int(j), names[labels[j]], float(s), bool(labels[j] == truth[i])
            )
            for s, j in zip(similarities[i], rows[i], strict=True)
        ]

    retrieved = [
        page.Retrieved(
            queries[i],
            f"test image {i}",
            names[truth[i]],
            {
                model: (names[predicted[i]], neighbours(i, similarities, rows))
                for model, (predicted, similarities, rows) in by_model.items()
            },
        )
        for i in range(len(queries))
    ]
    facts = {"Dataset": run.config["dataset"], "Models": len(by_model)}
    html = page.gallery_page("Nearest training images", facts, retrieved)
    pathlib.Path(output).parent.mkdir(parents=True, exist_ok=True)
    files.write_atomically(output, lambda where: where.write_text(html, "utf-8"))
    print(f"{len(retrieved)} queries, {num_neighbours} nearest training images: {output}")


if __name__ == "__main__":
    main(command_line.parse(sys.argv))
