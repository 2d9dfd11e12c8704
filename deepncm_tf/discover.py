# SPDX-License-Identifier: Apache-2.0
"""Measures whether a model found classes that it was never told of.

    python -m deepncm_tf.cifar_main --ncm=dnc --dataset=cifar100 --label=coarse
    python -m deepncm_tf.discover --model_dir=runs/NAME

A model trained on superclasses is scored on the fine classes: by the votes of the nearest
training images (induction accuracy), with the features of the classifier and with those of
the backbone, before an embedding; and by how its prototypes agree with the fine classes.
Writes discovery.json into the run's folder.
"""

from deepncm_tf.utils import quiet, signals

if __name__ == "__main__":
    signals.end_program("discover")  # also while the rest is imported

import pathlib
import sys

from absl import flags as absl_flags

from deepncm_tf.flags.flag import positive
from deepncm_tf.flags.list_flag import define_list
from deepncm_tf.runs import output_files
from deepncm_tf.runs.command_line import CommandLine, define_run_flags, positive_integers

FLAGS = absl_flags.FlagValues()  # several command lines can be imported together
define_run_flags(FLAGS)
define_list("k", ["1", "5", "30"], "Numbers of nearest neighbours.", FLAGS)
absl_flags.DEFINE_float(
    "temperature",
    0.05,
    "Of the votes exp(similarity / temperature).",
    flag_values=FLAGS,
)

command_line = CommandLine("discover", __doc__, FLAGS)


def main(argv):
    config = command_line.finished_run(argv, FLAGS)
    with command_line.errors():
        output_files.check_folder("model_dir", FLAGS.model_dir)
        neighbours = positive_integers("k", FLAGS.k)
        check(config, FLAGS.temperature)
        quiet.start_tensorflow()
        figures = discover(FLAGS.model_dir, neighbours, FLAGS.temperature, FLAGS.data_dir)
        path = pathlib.Path(FLAGS.model_dir) / "discovery.json"
        output_files.keep_figures(path, figures)


def check(config, temperature):
    """Raises a ValueError where the run or a flag does not fit."""
    if config["label"] != "coarse":
        raise ValueError(
            "--model_dir must be of a run on superclasses, --label=coarse. Received: a run "
            f"with --label={config['label']}"
        )
    if not positive(temperature):
        raise ValueError(
            "--temperature must be a positive number. Received: "
            f"--temperature={temperature}"
        )


def discover(model_dir, neighbours=(1, 5, 30), temperature=0.05, data_dir=None):
    """Scores a model of superclasses on the fine classes.

    Args:
        model_dir: Path of a finished run's folder.
        neighbours: Ints, numbers of nearest training images that vote.
        temperature: Float > 0, of the votes.
        data_dir: Folder of TFDS datasets, or None.

    Returns:
        Dictionary: `temperature`; `accuracy` on the superclasses;
        `induction_accuracy_k`, on the fine classes, for each k, and
        `backbone_induction_accuracy_k`, by cosines of features before the embedding and
        what the classifier makes of them; `purity` and `normalized_mutual_information` of
        the nearest prototypes of test images (sub-centroids, for example) against the fine
        classes; and `prototypes`, their number.

    Reference:
        - Wang, Han, Zhou, Liu, "Visual Recognition with Deep Nearest Centroids", ICLR
          2023, appendix E and Table 13.
    """
    import numpy as np

    from deepncm_tf import evaluation
    from deepncm_tf.runs import images
    from deepncm_tf.runs.finished_run import FinishedRun, check_neighbours

    run = FinishedRun(model_dir, data_dir)
    classifier = run.model.classifier
    # All training images: those held out depend on the kind of label.
    fine = images.load(
        {**run.config, "label": "fine", "validation_fraction": 0.0}, data_dir
    )
    train_images, test_images = fine["train"][0], fine["test"][0]
    check_neighbours("k", max(neighbours), len(train_images))
    test_coarse = run.splits["test"][1]
    train, test = run.embed(train_images), run.embed(test_images)
    labels, truth = fine["train"][1], fine["test"][1]
    figures = {"temperature": temperature}
    figures["accuracy"] = evaluation.accuracy(classifier(test), test_coarse)
    units = [np.asarray(classifier.unit_features(x)) for x in (train, test)]
    figures |= _induction("", *units, labels, truth, neighbours, temperature)
    units = [
        evaluation.unit_rows(run.backbone_features(x)) for x in (train_images, test_images)
    ]
    figures |= _induction("backbone_", *units, labels, truth, neighbours, temperature)
    scores = np.asarray(classifier.prototype_scores(test))
    scores = scores.reshape(len(test), -1)
    figures |= evaluation.cluster_agreement(scores.argmax(axis=-1), truth)
    figures["prototypes"] = int(np.isfinite(scores).all(axis=0).sum())
    return figures


def _induction(prefix, bank, queries, labels, truth, neighbours, temperature):
    """Accuracies on the fine classes by the votes of the k nearest, for each k."""
    from deepncm_tf import evaluation

    similarities, rows = evaluation.nearest(queries, bank, max(neighbours))
    num_classes = max(labels.max(), truth.max()) + 1  # some may have no training image
    figures = {}
    for k in neighbours:
        votes = evaluation.vote(
            similarities[:, :k], labels[rows[:, :k]], temperature, num_classes
        )
        accuracy = evaluation.accuracy(votes, truth)
        figures[f"{prefix}induction_accuracy_{k}"] = accuracy
    return figures


if __name__ == "__main__":
    main(command_line.parse(sys.argv))
