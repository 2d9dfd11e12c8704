# SPDX-License-Identifier: Apache-2.0
"""Compares heads on classes that arrive task after task.

    python -m deepncm_tf.continual --dataset=digits --tasks=5
    python -m deepncm_tf.continual --model_dir=runs/NAME --output=continual
    python -m deepncm_tf.continual --bank=train.npz --test_bank=test.npz

The backbone is frozen: features are those of a run, of bank files, or the pixels of the
digits. A head learns the training features of a task when it comes and never sees them
again; then it tells the test features of all tasks so far apart. Writes continual.json and,
where Matplotlib is installed, continual.png.
"""

from deepncm_tf.utils import files, quiet, signals

if __name__ == "__main__":
    signals.end_program("continual")  # also while the rest is imported

import contextlib
import functools
import pathlib
import sys

from absl import flags as absl_flags

from deepncm_tf.flags.list_flag import define_list
from deepncm_tf.pages import curves
from deepncm_tf.runs import feature_sources, output_files
from deepncm_tf.runs.command_line import CommandLine, quiet_tensorflow

HEADS = ("means", "cosine", "lda", "ranpac", "knn")
FIGURES = ("final_accuracy", "average_incremental_accuracy", "forgetting")

FLAGS = absl_flags.FlagValues()  # several command lines can be imported together
feature_sources.define_source_flags(FLAGS)
absl_flags.DEFINE_integer(
    "tasks", 10, "Number of tasks, of equal size.", lower_bound=1, flag_values=FLAGS
)
absl_flags.DEFINE_integer(
    "seeds", 3, "Number of orders of the classes.", lower_bound=1, flag_values=FLAGS
)
define_list("heads", list(HEADS), f"Heads to compare, of {', '.join(HEADS)}.", FLAGS)
absl_flags.DEFINE_integer(
    "random_features",
    500,
    "Random features of ranpac. Elsewhere there are 2000; time grows with their cube.",
    lower_bound=1,
    flag_values=FLAGS,
)
absl_flags.DEFINE_string("output", "continual", "Folder to write to.", flag_values=FLAGS)

command_line = CommandLine("continual", __doc__, FLAGS)


def main(argv):
    command_line.refuse_arguments(argv)
    quiet_tensorflow()
    with command_line.errors():
        heads = feature_sources.named("heads", FLAGS.heads, HEADS)
        source = feature_sources.check_source(FLAGS)
        output_files.check_folder("output", FLAGS.output)
        quiet.start_tensorflow()
        features = feature_sources.read_features(source, FLAGS.data_dir)
        compare(
            features, heads, FLAGS.tasks, FLAGS.seeds, FLAGS.output, FLAGS.random_features
        )


def compare(
    features, heads=HEADS, tasks=10, seeds=3, output="continual", random_features=500
):
    """Compares heads, prints a table of them, and writes figures.

    Args:
        features: `feature_sources.Features`.
        heads: Names in `evaluation.heads.HEADS`.
        tasks: Int that divides the number of classes.
        seeds: Int, number of orders of the classes.
        output: Path of a folder.
        random_features: Int, of `"ranpac"`.

    Returns:
        Dictionary of what continual.json holds: where the features are from, how many
        classes and tasks there are, and for each head the mean and the standard deviation
        over seeds of each figure, and `seeds`, what `continual.run_protocol` says of each.
    """
    import numpy as np

    from deepncm_tf.evaluation import continual
    from deepncm_tf.evaluation import heads as known_heads

    classes, *_ = continual.number_classes(features.train[1], features.test[1])
    if len(classes) % tasks:
        raise ValueError(
            f"--tasks must divide the number of classes, {len(classes)}. "
            f"Received: --tasks={tasks}"
        )
    found = {**features.source, "classes": len(classes), "tasks": tasks, "heads": {}}
    if "ranpac" in heads:
        found["random_features"] = random_features
    _say(f"{len(classes)} classes in {tasks} tasks, {seeds} orders; %, mean ± deviation")
    _say(_row("", [name.removesuffix("_accuracy").replace("_", " ") for name in FIGURES]))
    for name in heads:
        make = functools.partial(known_heads.get, name, random_features=random_features)
        runs = [
            continual.run_protocol(make, features.train, features.test, tasks, seed)
            for seed in range(seeds)
        ]
        figures = {figure: [run[figure] for run in runs] for figure in FIGURES}
        means = {figure: float(np.mean(values)) for figure, values in figures.items()}
        deviations = {
            f"{figure}_deviation": float(np.std(values, ddof=1)) if seeds > 1 else None
            for figure, values in figures.items()
        }
        found["heads"][name] = {**means, **deviations, "seeds": runs}
        cells = zip(means.values(), deviations.values(), strict=True)
        _say(_row(name, [_percent(*cell) for cell in cells]))
    _write(pathlib.Path(output), found)
    return found


def _say(line):
    """Prints a line; a screen that is gone loses no figures, which are written later."""
    with contextlib.suppress(OSError):
        print(line, flush=True)


def _write(folder, found):
    """Writes the figures, and draws them where they can be drawn."""
    import numpy as np

    files.make_folder(folder)
    files.write_json(folder / "continual.json", found)
    if not curves.can_draw():
        print(f"{folder / 'continual.json'}; no continual.png without Matplotlib")
        return
    by_head = {}
    for name, figures in found["heads"].items():
        accuracies = 100 * np.array([run["accuracy"] for run in figures["seeds"]])
        deviation = accuracies.std(axis=0, ddof=1) if len(accuracies) > 1 else 0.0
        by_head[name] = accuracies.mean(axis=0), deviation
    size = found["classes"] // found["tasks"]
    x = np.arange(size, found["classes"] + 1, size)
    path = folder / "continual.png"
    curves.write_curves(path, x, by_head, "Classes so far", "Accuracy on them, %")
    print(f"{folder / 'continual.json'}, {path}")


def _row(name, cells):
    return f"{name:8}" + "".join(f"{cell:>22}" for cell in cells)


def _percent(mean, deviation):
    spread = "" if deviation is None else f" ± {100 * deviation:.1f}"
    return f"{100 * mean:.1f}{spread}"


if __name__ == "__main__":
    main(command_line.parse(sys.argv))
