# SPDX-License-Identifier: Apache-2.0
"""Compares heads on classes of which a few samples are known.

    python -m deepncm_tf.few_shot --dataset=digits
    python -m deepncm_tf.few_shot --model_dir=runs/NAME --way=5 --shots=1,5
    python -m deepncm_tf.few_shot --bank=base.npz --test_bank=new.npz

The episodes are of test features: of a run, which knows their classes; of bank files, where
they may be of classes that the backbone has never seen; or of the pixels of the digits. Of
the training features the mean alone is used, as the centre of cl2n. Writes few_shot.json.
"""

from deepncm_tf.utils import files, quiet, signals

if __name__ == "__main__":
    signals.end_program("few_shot")  # also while the rest is imported

import pathlib
import sys

from absl import flags as absl_flags

from deepncm_tf.flags.list_flag import define_list
from deepncm_tf.runs import feature_sources, output_files
from deepncm_tf.runs.command_line import CommandLine, positive_integers, quiet_tensorflow

HEADS = ("means", "unit", "cl2n", "lda")

FLAGS = absl_flags.FlagValues()  # several command lines can be imported together
feature_sources.define_source_flags(FLAGS)
define_list("shots", ["1", "5"], "Numbers of known samples of each class.", FLAGS)
define_list("heads", list(HEADS), f"Heads to compare, of {', '.join(HEADS)}.", FLAGS)
for name, default, least, text in (
    ("way", 5, 2, "Classes of an episode."),
    ("queries", 15, 1, "Other samples of each class, which are to be told apart."),
    ("episodes", 600, 2, "Number of episodes."),
    ("seed", 0, 0, "Of the draw of episodes."),
):
    absl_flags.DEFINE_integer(name, default, text, lower_bound=least, flag_values=FLAGS)
absl_flags.DEFINE_string("output", "few_shot", "Folder to write to.", flag_values=FLAGS)

command_line = CommandLine("few_shot", __doc__, FLAGS)


def main(argv):
    command_line.refuse_arguments(argv)
    quiet_tensorflow()
    with command_line.errors():
        heads = feature_sources.named("heads", FLAGS.heads, HEADS)
        shots = list(dict.fromkeys(positive_integers("shots", FLAGS.shots)))
        source = feature_sources.check_source(FLAGS)
        output_files.check_folder("output", FLAGS.output)
        quiet.start_tensorflow()
        features = feature_sources.read_features(source, FLAGS.data_dir)
        compare(
            features,
            heads,
            FLAGS.way,
            shots,
            FLAGS.queries,
            FLAGS.episodes,
            FLAGS.seed,
            FLAGS.output,
        )


def compare(
    features,
    heads=HEADS,
    way=5,
    shots=(1, 5),
    queries=15,
    episodes=600,
    seed=0,
    output="few_shot",
):
    """Compares heads, prints a table of them, and writes figures.

    Args:
        features: `feature_sources.Features`.
        heads: Names in `evaluation.few_shot.HEADS`.
        way: Int >= 2, classes of an episode.
        shots: Ints, numbers of known samples of each class.
        queries: Int, samples of each class that are to be told apart.
        episodes: Int >= 2, number of episodes.
        seed: Int >= 0, of the draw of episodes.
        output: Path of a folder.

    Returns:
        Dictionary of what few_shot.json holds: where the features are from, the arguments,
        and `accuracy`, for each number of shots and head the mean over episodes and, as
        `interval`, half the width of its 95 % interval.
    """
    import numpy as np

    from deepncm_tf.evaluation import few_shot

    (train, _), (test, labels) = features.train, features.test
    size = max(shots) + queries
    available = len(few_shot.large_classes(labels, size))
    if way > available:
        raise ValueError(
            f"--way must be at most {available}, the number of classes with {size} test "
            f"features, shots and queries. Received: --way={way}"
        )
    center = np.mean(train, axis=0, dtype="float64")
    found = {**features.source, "way": way, "queries": queries, "episodes": episodes}
    found |= {"seed": seed, "accuracy": {}}
    for number in shots:
        rows = few_shot.draw_episodes(labels, way, number + queries, episodes, seed)
        by_head = few_shot.episode_accuracies(test, rows, number, center, heads)
        found["accuracy"][f"{number}_shot"] = {
            name: dict(
                zip(("mean", "interval"), few_shot.mean_and_interval(values), strict=True)
            )
            for name, values in by_head.items()
        }
    folder = pathlib.Path(output)
    files.make_folder(folder)
    try:
        files.write_json(folder / "few_shot.json", found)
    finally:  # a full disk does not lose them, nor a screen that is gone
        _print(found, heads)
    print(folder / "few_shot.json")
    return found


def _print(found, heads):
    """A row for each head, a column for each number of shots."""
    print(f"{found['way']}-way, {found['episodes']} episodes; %, mean ± 95 % interval")
    print(_row("", [name.replace("_", "-") for name in found["accuracy"]]))
    for head in heads:
        cells = [by_head[head] for by_head in found["accuracy"].values()]
        cells = [f"{100 * one['mean']:.2f} ± {100 * one['interval']:.2f}" for one in cells]
        print(_row(head, cells))


def _row(name, cells):
    return f"{name:8}" + "".join(f"{cell:>16}" for cell in cells)


if __name__ == "__main__":
    main(command_line.parse(sys.argv))
