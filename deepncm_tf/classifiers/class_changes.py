# SPDX-License-Identifier: Apache-2.0
"""Classifiers whose classes come and go, or whose samples do.

Each function gives a new classifier and leaves the old one as it is.
"""

from keras import ops

from deepncm_tf.numerics import statistics


def regroup(classifier, groups):
    """The same state with other classes.

    Args:
        classifier: `Classifier` that is built.
        groups: List of tuples of ints: for each class of the new classifier those of the
            old one that it is: one or several, or none for a new class.

    Returns:
        `Classifier`, refreshed.

    Raises:
        ValueError: If it has no state of its own for each class, or groups overlap.
    """
    if classifier.adapts_from is None:
        raise ValueError(
            "Classes come and go where each has a state that follows from its own samples. "
            f"{type(classifier).__name__} has weights that gradients have found for all "
            "classes together: train it anew, or use another classifier. Received: "
            f"classifier={classifier!r}"
        )
    check_built(classifier)
    members = [label for group in groups for label in group]
    known = range(classifier.num_classes)
    if not groups or len(set(members)) < len(members) or not set(members) <= set(known):
        raise ValueError(
            "`groups` must be tuples of different classes from 0 to "
            f"{classifier.num_classes - 1}, at least one. Received: groups={groups}"
        )
    config = {**classifier.get_config(), "num_classes": len(groups)}
    config |= classifier.regrouped_arguments(groups)
    new = type(classifier).from_config(config)
    new.build(classifier.get_build_config()["input_shape"])
    new.take_classes(classifier, groups)
    new.refresh()
    return new


def forget(classifier, folds):
    """The classifier as if it had never seen some of its samples, to the bit.

    Args:
        classifier: `Classifier` with class statistics.
        folds: List of `statistics.Sums` of these samples.

    Returns:
        `Classifier`, refreshed.

    Raises:
        ValueError: If its state cannot be taken apart, or cannot have had these samples:
            no samples would leave such sums.
    """
    _check_exact(classifier)
    grid_bits = _grid_bits(classifier)
    if not all(statistics.is_exact(sums, grid_bits) for sums in folds):
        raise ValueError(
            "Samples to be forgotten must be as those that were learned: features within "
            "the bound of the grid, weights multiples of 1/256. Received: features or "
            "weights whose sums may be rounded"
        )
    before = classifier.read_statistics()
    left = list(map(statistics.subtract, before, folds))
    exceeds = any(map(statistics.exceed, folds, before))
    if exceeds or not all(statistics.are_possible(sums, grid_bits) for sums in left):
        raise ValueError(
            "Samples to be forgotten must have been learned, with these labels and "
            f"weights. Received: samples that were not{_too_many(before, folds)}"
        )
    return _with_statistics(classifier, left)


def merge_statistics(one, other):
    """The classifier of the samples of two, to the bit.

    Args:
        one, other: `Classifier`s with class statistics, equal but for their samples.

    Returns:
        `Classifier`, refreshed.

    Raises:
        ValueError: If they are not equal, or a state cannot be added to.
    """
    if type(one) is not type(other):
        raise ValueError(
            "`other` must be a classifier of the same class. Received: other="
            f"{other!r}, and here {one!r}"
        )
    for classifier in (one, other):
        _check_exact(classifier)
    own, others = map(_arguments, (one, other))
    differ = [name for name in own if own[name] != others[name]]
    if differ:
        received = ", ".join(f"{name}={others[name]!r}" for name in differ)
        here = ", ".join(f"{name}={own[name]!r}" for name in differ)
        raise ValueError(
            f"`other` must have the same arguments and dimensions. Received: {received}, "
            f"and here {here}"
        )
    if hasattr(one, "projection") and bool(ops.any(one.projection != other.projection)):
        raise ValueError(
            "`merge_statistics` needs classifiers with the same random features. Received: "
            "two different projections"
        )
    folds = map(statistics.add, one.read_statistics(), other.read_statistics())
    return _with_statistics(one, list(folds))


def check_built(classifier):
    """Raises a `ValueError` where a classifier has no state yet."""
    if not classifier.built:
        raise ValueError(
            "`classifier` must be built, so that it has a state: call it, or its model, "
            "with samples before, as `fit` and `adapt` do. Received: "
            f"classifier={classifier!r}, not built"
        )


def _arguments(classifier):
    """What has to be the same where statistics are joined, a dictionary."""
    arguments = classifier.get_config()
    arguments |= {"dimensions": classifier.get_build_config()["input_shape"][-1]}
    return {k: v for k, v in arguments.items() if k not in ("name", "trainable")}


def _with_statistics(classifier, folds):
    new = regroup(classifier, [(c,) for c in range(classifier.num_classes)])
    new.write_statistics(folds)
    new.refresh()
    return new


def _too_many(before, folds):
    """A class of which more is to be forgotten than was learned, in words; or nothing."""
    learned, gone = (
        ops.convert_to_numpy(sum(sums.counts for sums in part)) for part in (before, folds)
    )
    for c in (gone > learned).nonzero()[0][:1]:
        return f": of class {c} {gone[c]:g}, and {learned[c]:g} were learned"
    return ""


def _grid_bits(classifier):
    return getattr(classifier, "lifted_grid_bits", statistics.GRID_BITS)


def _check_exact(classifier):
    if not classifier.unlearns:
        raise ValueError(
            "Samples can be added to or taken out of a state exactly only where it is "
            "sums of samples: OnlineMean, LinearDiscriminant, RandomFeatures. Decay means, "
            "condensed means and sub-centroids cannot unlearn, and keep a trace of each "
            f"sample. Received: classifier={classifier!r}"
        )
    check_built(classifier)
    if not classifier.is_exact():
        raise ValueError(
            "Samples can be added to or taken out of a state exactly only where nothing "
            "was rounded: sums of training's class means are, those of `adapt` are not. "
            "Call `adapt` first, with features within the bound of the grid. Received: "
            f"classifier={classifier!r}, whose sums may be rounded"
        )
