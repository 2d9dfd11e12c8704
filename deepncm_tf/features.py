# SPDX-License-Identifier: Apache-2.0
"""Writes the features of a run's images into a bank file.

    python -m deepncm_tf.features --model_dir=runs/NAME --split=train --output=bank.npz

The features are those that the classifier gets, of images as in a test, without
augmentation.
"""

from deepncm_tf.utils import quiet, signals

if __name__ == "__main__":
    signals.end_program("features")  # also while the rest is imported

import sys

from absl import flags as absl_flags

from deepncm_tf.data import bank_files
from deepncm_tf.pages.projector import write_projector
from deepncm_tf.runs import output_files
from deepncm_tf.runs.command_line import CommandLine, define_run_flags

FLAGS = absl_flags.FlagValues()  # several command lines can be imported together
define_run_flags(FLAGS)
absl_flags.DEFINE_string("split", "train", "train, test or val.", flag_values=FLAGS)
absl_flags.DEFINE_string(
    "output",
    "bank.npz",
    "File to write: .npz, or .npy with .labels.npy and .ids.npy for memory-mapping.",
    flag_values=FLAGS,
)
absl_flags.DEFINE_string(
    "projector",
    None,
    "Folder to write files for TensorBoard's projector to, with thumbnails.",
    flag_values=FLAGS,
)

command_line = CommandLine("features", __doc__, FLAGS)


def main(argv):
    command_line.finished_run(argv, FLAGS)
    with command_line.errors():
        bank_files.check_path(FLAGS.output)
        output_files.check_file("output", FLAGS.output)
        if FLAGS.projector:
            output_files.check_folder("projector", FLAGS.projector)
        quiet.start_tensorflow()
        write(FLAGS.model_dir, FLAGS.split, FLAGS.output, FLAGS.projector, FLAGS.data_dir)


def write(model_dir, split, output, projector=None, data_dir=None):
    """Writes features, and says so.

    Args:
        model_dir: Path of a finished run's folder.
        split: `"train"`, `"test"` or `"val"`.
        output: Path of the bank file.
        projector: Path of a folder for TensorBoard's projector, or None.
        data_dir: Folder of TFDS datasets, or None.
    """
    import numpy as np

    from deepncm_tf.runs.finished_run import FinishedRun

    run = FinishedRun(model_dir, data_dir)
    if split not in run.splits:
        raise ValueError(f"--split must be one of {sorted(run.splits)}. Received: {split}")
    images, labels = run.splits[split]
    features = run.embed(images)
    paths = bank_files.write_bank(output, features, labels, np.arange(len(labels)))
    print(f"{len(labels)} features of {features.shape[1]} dimensions: {paths[0]}")
    if projector:
        number = write_projector(projector, features, labels, images, run.class_names)
        print(f"{number} of them for: tensorboard --logdir {projector}")


if __name__ == "__main__":
    main(command_line.parse(sys.argv))
