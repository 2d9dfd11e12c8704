# SPDX-License-Identifier: Apache-2.0
"""Explains what a model predicts, by training images that stand for its classes.

    python -m deepncm_tf.explain --model_dir=runs/NAME --output=report

writes a page that opens without a network (index.html), the pictures of all exemplars
(exemplars.png) and everything in numbers (explanations.json) into a folder.
"""

from deepncm_tf.utils import signals

if __name__ == "__main__":
    signals.end_program("explain")  # also while the rest is imported

import pathlib
import sys

from absl import flags as absl_flags

from deepncm_tf.data import bank_files, image_files
from deepncm_tf.flags.list_flag import define_paths
from deepncm_tf.runs import output_files
from deepncm_tf.runs.command_line import CommandLine, define_run_flags

FLAGS = absl_flags.FlagValues()  # several command lines can be imported together
define_run_flags(FLAGS)
absl_flags.DEFINE_string("output", "report", "Folder to write to.", flag_values=FLAGS)
define_paths(
    "images",
    [],
    "Image files to explain, or folders of them; by default test images.",
    FLAGS,
)
absl_flags.DEFINE_integer(
    "num_queries",
    100,
    "Number of test images to explain, the first ones.",
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

command_line = CommandLine("explain", __doc__, FLAGS)


def main(argv):
    command_line.finished_run(argv, FLAGS)
    with command_line.errors():
        files = image_files.find(FLAGS.images)
        check_output(FLAGS.output)
        if FLAGS.bank:
            bank_files.check_path(FLAGS.bank)
        from deepncm_tf import report

        written = report.write(
            FLAGS.model_dir,
            FLAGS.output,
            files,
            FLAGS.num_queries,
            FLAGS.data_dir,
            FLAGS.bank,
        )
        print(written)


def check_output(path):
    """Raises a ValueError unless the folder is new, empty or holds an earlier report."""
    folder = pathlib.Path(path)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--output must be a folder. Received: --output={path}")
    others = {p.name for p in folder.iterdir()} if folder.exists() else set()
    others -= {"index.html", "exemplars.png", "explanations.json"}
    if others:
        raise ValueError(
            "--output must be a folder that is new or holds an earlier report; this one "
            f"holds other files, such as {min(others)}. Received: --output={path}"
        )
    output_files.check_folder("output", folder)


if __name__ == "__main__":
    main(command_line.parse(sys.argv))
