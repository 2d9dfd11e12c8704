# SPDX-License-Identifier: Apache-2.0
"""Evaluates a model's features: nearest neighbours and retrieval, for every method.

    python -m deepncm_tf.evaluate --model_dir=runs/NAME --k=1,5,30

The bank holds the features of the training images as in a test, without augmentation, or
comes from a file of `python -m deepncm_tf.features`. The accuracy is also that of the
classifier adapted to it: with the means of all its features, for example. Sub-centroids are
also tried with the nearest training images in their place (anchored). Retrieval metrics
need a class with two test images. --unknown=DATASET asks how well its images are told from
those of the known classes, by seven scores. Writes evaluation.json into the run's folder,
and with --unknown, where Matplotlib is installed, roc.png.
"""

from deepncm_tf.utils import quiet, signals

if __name__ == "__main__":
    signals.end_program("evaluate")  # also while the rest is imported

import itertools
import math
import pathlib
import sys

from absl import flags as absl_flags

from deepncm_tf.data import bank_files
from deepncm_tf.flags.list_flag import define_list
from deepncm_tf.flags.network import absolute_folder
from deepncm_tf.pages import curves
from deepncm_tf.runs import output_files, unknown_images
from deepncm_tf.runs.command_line import (
    CommandLine,
    define_run_flags,
    positive_integers,
    positive_numbers,
)
from deepncm_tf.runs.config import read_config

FLAGS = absl_flags.FlagValues()  # several command lines can be imported together
define_run_flags(FLAGS)
define_list("k", ["1", "5", "30"], "Numbers of nearest neighbours.", FLAGS)
define_list(
    "temperature",
    ["0.05"],
    "Temperatures of the votes exp(similarity / temperature).",
    FLAGS,
)
absl_flags.DEFINE_string(
    "bank", None, "Bank file; by default the training images.", flag_values=FLAGS
)
absl_flags.DEFINE_string(
    "knn", "exact", "exact, or faiss where it is installed.", flag_values=FLAGS
)
absl_flags.DEFINE_string(
    "unknown",
    None,
    "Dataset of images of no known class, cifar100 or folder:PATH for example: how well "
    "they are told from the known ones.",
    flag_values=FLAGS,
)
absl_flags.DEFINE_string("split", "test", "test or val.", flag_values=FLAGS)

command_line = CommandLine("evaluate", __doc__, FLAGS)


def main(argv):
    command_line.finished_run(argv, FLAGS)
    with command_line.errors():
        output_files.check_folder("model_dir", FLAGS.model_dir)
        neighbours = positive_integers("k", FLAGS.k)
        temperatures = positive_numbers("temperature", FLAGS.temperature)
        check_search(FLAGS.knn)
        if FLAGS.bank:
            bank_files.check_path(FLAGS.bank)
        quiet.start_tensorflow()
        unknown = absolute_folder(FLAGS.unknown)
        figures = evaluate(
            FLAGS.model_dir,
            neighbours,
            temperatures,
            FLAGS.bank,
            FLAGS.split,
            FLAGS.knn,
            FLAGS.data_dir,
            unknown,
        )
        path = pathlib.Path(FLAGS.model_dir) / "evaluation.json"
        output_files.keep_figures(path, figures)
        if "map_at_r" not in figures:
            print(f"no retrieval metrics, which need two {FLAGS.split} images of a class")
        if unknown is not None:
            print(draw_roc(path.with_name("roc.png"), figures, unknown))


def check_search(name):
    """Raises a ValueError where the search is unknown or not installed."""
    if name not in ("exact", "faiss"):
        raise ValueError(f"--knn must be exact or faiss. Received: --knn={name}")
    if name == "faiss":
        try:
            import faiss  # noqa: F401
        except ImportError as error:
            raise ValueError(
                "--knn=faiss needs the package faiss-cpu; --knn=exact does without."
            ) from error


def evaluate(
    model_dir,
    neighbours=(1, 5, 30),
    temperatures=(0.05,),
    bank=None,
    split="test",
    search="exact",
    data_dir=None,
    unknown=None,
):
    """Evaluates a model's features.

    Args:
        model_dir: Path of a finished run's folder.
        neighbours: Ints, numbers of nearest images that vote.
        temperatures: Floats > 0, of the votes.
        bank: Path of a bank file, or None for the training images.
        split: `"test"` or `"val"`, the queries.
        search: `"exact"` or `"faiss"`.
        data_dir: Folder of TFDS datasets, or None.
        unknown: Name of a dataset whose test images are of no known class, or None.

    Returns:
        Dictionary: `split`, `knn` and `bank`, what was evaluated and how;
        `learnable_parameters` and `class_state`, how many numbers training learns, and
        how many it keeps of the classes beside them; `accuracy` of the
        classifier itself, and, where its state follows from features, `adapted_accuracy`,
        with the state of all images of the bank instead; for sub-centroids
        `anchored_accuracy`, after `DeepNCM.anchor` on the images of the bank; for each
        number of neighbours and temperature `knn_k_t` and `knn_top5_k_t`; the metrics of
        `retrieval.retrieval_metrics` among the queries, where a class has two of them; and
        for each of the seven scores of `evaluation.unknown.all_scores`
        `unknown_NAME_SCORE`, a dictionary of its metrics, and `unknown_NAME_roc`, of the
        points of their ROC curves.
    """
    import numpy as np

    from deepncm_tf import evaluation
    from deepncm_tf.evaluation import retrieval
    from deepncm_tf.evaluation.unknown import KnownFeatures
    from deepncm_tf.runs.finished_run import FinishedRun

    unknown = absolute_folder(unknown)
    if unknown is not None:
        unknown_images.check(unknown, read_config(model_dir), data_dir)
    run = FinishedRun(model_dir, data_dir)
    classifier = run.model.classifier
    images, labels = _queries(run, split)
    others = None if unknown is None else unknown_images.load(unknown, run.config, data_dir)
    features = run.embed(images)
    queries = np.asarray(classifier.unit_features(features))
    figures = {"split": split, "knn": search, "bank": bank}
    figures["learnable_parameters"] = _size(run.model.trainable_variables)
    figures["class_state"] = _size(classifier.non_trainable_variables)
    figures["accuracy"] = evaluation.accuracy(classifier(features), labels)
    bank_features, bank_labels = _read_bank(run, bank, features.shape[1], max(neighbours))
    if classifier.adapts_from is not None:
        figures["adapted_accuracy"] = _adapted_accuracy(
            classifier, bank_features, bank_labels, features, labels
        )
    if unknown is not None:
        known, others = KnownFeatures(bank_features, bank_labels), run.embed(others)
        figures |= _unknown_figures(unknown, classifier, known, features, labels, others)
    rows = np.asarray(classifier.unit_features(bank_features))
    if hasattr(classifier, "anchor"):
        figures["anchored_accuracy"] = _anchored_accuracy(
            classifier, bank_features, bank_labels, features, labels
        )
    near = _search(search, queries, rows, max(neighbours))
    pairs = itertools.product(neighbours, temperatures)
    figures |= _vote_figures(near, bank_labels, labels, pairs, classifier.num_classes)
    if np.bincount(labels).max() > 1:
        figures |= retrieval.retrieval_metrics(queries, labels)
    return figures


def _size(variables):
    return sum(math.prod(variable.shape) for variable in variables)


def _queries(run, split):
    if split not in run.splits or split == "train":
        wanted = sorted(set(run.splits) - {"train"})
        raise ValueError(f"--split must be one of {wanted}. Received: --split={split}")
    return run.splits[split]


def _vote_figures(near, bank_labels, labels, pairs, num_classes):
    """Accuracies of votes of what `_search` found, by pairs of k and a temperature."""
    import numpy as np

    from deepncm_tf import evaluation

    similarities, rows = near
    near_labels, figures = np.asarray(bank_labels)[rows], {}
    for k, temperature in pairs:
        nearest = similarities[:, :k], near_labels[:, :k]
        votes = evaluation.vote(*nearest, temperature, num_classes)
        first, first_five = evaluation.vote_accuracy(votes, labels)
        figures[f"knn_{k}_{temperature:g}"] = first
        figures[f"knn_top5_{k}_{temperature:g}"] = first_five
    return figures


def _unknown_figures(name, classifier, known, features, labels, unknown_features):
    """Metrics of each score, and their ROC curves together."""
    from deepncm_tf.evaluation.unknown import compare_scores, roc_rates

    scores = compare_scores(classifier, known, features, labels, unknown_features)
    roc = {"false_positive_rate": roc_rates().tolist()}
    roc |= {score: metrics.pop("roc") for score, metrics in scores.items()}
    figures = {f"unknown_{name}_{score}": found for score, found in scores.items()}
    return {**figures, f"unknown_{name}_roc": roc}


def draw_roc(path, figures, name):
    """Draws the ROC curves of what `evaluate` found; a sentence that says what was done."""
    if not curves.can_draw():
        return f"no {path.name} without Matplotlib; its points are in evaluation.json"
    roc = dict(figures[f"unknown_{name}_roc"])
    rates = roc.pop("false_positive_rate")
    areas = {score: figures[f"unknown_{name}_{score}"]["auroc"] for score in roc}
    curves.write_roc(path, rates, roc, areas)
    return f"{path}"


def _anchored_accuracy(classifier, bank_features, bank_labels, features, labels):
    """Of the sub-centroids that are features of the bank's images; they stay so."""
    from deepncm_tf import evaluation
    from deepncm_tf.evaluation.explanation import find_exemplars

    # Labels stand for the images, which may be too many to read and are not looked at.
    exemplars = find_exemplars(classifier, bank_features, bank_labels, bank_labels)
    classifier.anchor(exemplars)
    return evaluation.accuracy(classifier(features), labels)


def _adapted_accuracy(classifier, bank_features, bank_labels, features, labels):
    """Accuracy with the state of all features of a bank; the state is put back."""
    from deepncm_tf import evaluation

    trained = classifier.get_weights()
    classifier.adapt(bank_features, bank_labels)
    accuracy = evaluation.accuracy(classifier(features), labels)
    classifier.set_weights(trained)
    return accuracy


def _read_bank(run, path, dimensions, k):
    """Features and labels of a bank file, or of the training images.

    Raises:
        ValueError: If there are less than k of them.
    """
    from deepncm_tf.runs.finished_run import check_neighbours

    images, labels = run.splits["train"]
    if path is None:
        check_neighbours("k", k, len(labels))  # first: features take their time
        return run.embed(images), labels
    features, labels, _ = run.read_bank(path, dimensions)
    check_neighbours("k", k, len(labels))
    return features, labels


def _search(search, queries, rows, k):
    """As `evaluation.nearest`, by the `search` that --knn names."""
    import keras

    from deepncm_tf import evaluation

    if search == "faiss":
        return faiss_nearest(queries, rows, k)
    bar = keras.utils.Progbar(len(queries), unit_name="query")
    return evaluation.nearest(queries, rows, k, progress=bar.update)


def faiss_nearest(queries, rows, k):
    """As `evaluation.nearest`, by faiss."""
    import faiss
    import numpy as np

    index = faiss.IndexFlatIP(rows.shape[1])
    index.add(np.ascontiguousarray(rows, "float32"))
    return index.search(np.ascontiguousarray(queries, "float32"), k)


if __name__ == "__main__":
    main(command_line.parse(sys.argv))
