# SPDX-License-Identifier: Apache-2.0
"""`adapt` of the heads on features, beside one read of them and scikit-learn's LDA."""

import statistics

from benchmarks import timing
from benchmarks.heads import figure
from benchmarks.table import Row

SAMPLES, DIMENSIONS, NUM_CLASSES = 50_000, 1280, 100
SIZE = f"{SAMPLES:,} x {DIMENSIONS:,}"
SHRINKAGE = 0.1
HEADS = {
    "online": ("OnlineMean", {}),
    "online, cosine": ("OnlineMean", {"metric": "cosine", "center": "mean"}),
    "online, unit length": ("OnlineMean", {"unit_length": True}),
    "lda": ("LinearDiscriminant", {"shrinkage": SHRINKAGE}),
    "ranpac": ("RandomFeatures", {}),
    "dnc": ("SubCentroids", {"num_sub_centroids": 4}),
    "nca": ("NeighborhoodComponents", {"bank_size": SAMPLES}),
}


def compare(rounds):
    """Rows of the table: heads beside what they are bound by, LDA beside scikit-learn's."""
    few = max(3, rounds // 5)
    return [
        *beside_scikit_learn(few),
        beside_a_read("online", 2 * rounds, "<= 1.5"),
        beside_a_read("online, cosine", 2 * rounds, ""),
        beside_a_read("online, unit length", few, ""),
        beside_a_read("nca", few, ""),
        beside_a_product("lda", DIMENSIONS, few),
        beside_a_product("ranpac", 2000, few),
        alone("dnc", few),
    ]


def beside_a_read(name, rounds, goal):
    """A row: the time of a head over that of adding up all numbers."""
    sides = {"ours": timing.Side(ours, name), "one read": timing.Side(read)}
    return _row(name, sides, "ours", "one read", rounds, goal)


def beside_a_product(name, dimensions, rounds):
    """A row: the time of a head over that of a symmetric product of float64, G."""
    theirs = f"G of {dimensions:,} dimensions"
    sides = {"ours": timing.Side(ours, name), theirs: timing.Side(product, dimensions)}
    return _row(name, sides, "ours", theirs, rounds, "")


def alone(name, rounds):
    """A row: the time of a head for which there is no such bound."""
    seconds = timing.in_turn({"ours": timing.Side(ours, name)}, rounds, warm_up=1)["ours"]
    text = figure(statistics.median(seconds))
    return Row(f"`adapt`, {name}, {SIZE}", text, "", "", "")


def beside_scikit_learn(rounds):
    """Two rows: how many times as fast LDA is, and how many times as exact."""
    error, their_error = timing.in_process(errors)
    sides = {"ours": timing.Side(ours, "lda"), "scikit-learn": timing.Side(scikit_learn)}
    row = _row("lda", sides, "scikit-learn", "ours", rounds, ">= 2")
    row.item += ", times as fast as scikit-learn's"
    item = f"Error of `adapt`, lda, {SIZE}: scikit-learn's over ours"
    texts = f"{error:.1e}", f"scikit-learn {their_error:.1e}"
    return [row, Row(item, *texts, their_error / error, ">= 1")]


def _row(name, sides, over, under, rounds, goal):
    times = timing.in_turn(sides, rounds, warm_up=1 if rounds < 10 else 2)
    texts = [
        f"{figure(statistics.median(times[side_name]))}, {side.memory / 2**30:.1f} GiB"
        for side_name, side in sides.items()
    ]
    theirs = next(side_name for side_name in sides if side_name != "ours")
    ratio = timing.ratio(times[over], times[under])
    return Row(f"`adapt`, {name}, {SIZE}", texts[0], f"{theirs} {texts[1]}", ratio, goal)


def arrays():
    """Features such as those of a network that ends in a ReLU, and labels."""
    import numpy as np

    rng = np.random.default_rng(0)
    labels = rng.integers(NUM_CLASSES, size=SAMPLES)
    features = rng.standard_normal((SAMPLES, DIMENSIONS), dtype="float32")
    features += rng.standard_normal((NUM_CLASSES, DIMENSIONS), dtype="float32")[labels]
    return np.maximum(features, 0, out=features), labels


def head(name):
    from deepncm_tf import classifiers

    class_name, arguments = HEADS[name]
    made = getattr(classifiers, class_name)(NUM_CLASSES, **arguments)
    made.build((None, DIMENSIONS))
    return made


def ours(turns, name):
    import deepncm_tf  # noqa: F401  before TensorFlow, so that it chooses the kernels

    features, labels = arrays()
    made = head(name)
    for _ in turns:
        made.adapt(features, labels)


def read(turns):
    features, _ = arrays()
    for _ in turns:
        features.sum()


def product(turns, dimensions):
    import numpy as np

    wide = np.random.default_rng(0).standard_normal((SAMPLES, dimensions))
    for _ in turns:
        wide.T @ wide  # by BLAS's syrk, which computes half of it


def scikit_learn(turns):
    features, labels = arrays()
    for _ in turns:
        _fitted(features, labels)


def _fitted(features, labels):
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    return LinearDiscriminantAnalysis("lsqr", shrinkage=SHRINKAGE).fit(features, labels)


def errors():
    """Relative errors of the classes' directions, ours and scikit-learn's.

    They are Lambda (m_c - m), solved here with residuals of extended precision. The
    features are on the grid, so that both have the same.
    """
    import numpy as np

    from deepncm_tf.numerics.statistics import GRID_BITS

    features, labels = arrays()
    features = np.rint(features * 2.0**GRID_BITS).astype("float32") / 2.0**GRID_BITS
    wanted = _directions(features, labels)
    lda = head("lda")
    lda.adapt(features.astype("float32"), labels)
    found = np.asarray(lda.kernel, "float64")
    theirs = _fitted(features.astype("float32"), labels).coef_.T.astype("float64")
    theirs = theirs - theirs.mean(axis=1, keepdims=True)  # what is the same for all classes
    found = found - found.mean(axis=1, keepdims=True)
    size = np.linalg.norm(wanted)
    return tuple(float(np.linalg.norm(x - wanted) / size) for x in (found, theirs))


def _directions(features, labels):
    """Lambda m_c in the columns, `(d, C)`, less the mean column."""
    import numpy as np
    from scipy import linalg

    x, counts = features.astype("float64"), np.bincount(labels)
    totals = np.zeros((NUM_CLASSES, DIMENSIONS))
    np.add.at(totals, labels, x)
    moment = (x.T @ x).astype(np.longdouble)  # exact, as the features are on a grid
    means = totals.astype(np.longdouble) / counts[:, None]
    covariance = (moment - totals.T.astype(np.longdouble) @ means) / len(x)
    level = np.trace(covariance) / DIMENSIONS
    covariance = (1 - np.longdouble(SHRINKAGE)) * covariance
    covariance[np.diag_indices(DIMENSIONS)] += np.longdouble(SHRINKAGE) * level
    right = means.T - means.T.mean(axis=1, keepdims=True)
    factor = linalg.cho_factor(covariance.astype("float64"))
    solution = linalg.cho_solve(factor, right.astype("float64")).astype(np.longdouble)
    for _ in range(2):
        rest = right - covariance @ solution
        solution += linalg.cho_solve(factor, rest.astype("float64"))
    return solution.astype("float64")
