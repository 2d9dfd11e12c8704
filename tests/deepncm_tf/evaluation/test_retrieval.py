# SPDX-License-Identifier: Apache-2.0
"""Retrieval metrics against their definitions, one query at a time."""

import tracemalloc

import numpy as np
import pytest

from deepncm_tf.evaluation import unit_rows
from deepncm_tf.evaluation.retrieval import retrieval_metrics


def loop(features, labels, recall_at):
    found = {name: [] for name in ("precision_at_1", "r_precision", "map_at_r")}
    found |= {f"recall_at_{k}": [] for k in recall_at}
    for i, (query, label) in enumerate(zip(features, labels, strict=True)):
        order = [j for j in np.argsort(-(features @ query), kind="stable") if j != i]
        hits = [labels[j] == label for j in order]
        relevant = sum(hits)
        if not relevant:
            continue
        found["precision_at_1"].append(hits[0])
        found["r_precision"].append(sum(hits[:relevant]) / relevant)
        precisions = [sum(hits[: r + 1]) / (r + 1) * hits[r] for r in range(relevant)]
        found["map_at_r"].append(sum(precisions) / relevant)
        for k in recall_at:
            found[f"recall_at_{k}"].append(any(hits[:k]))
    return {name: np.mean(values) for name, values in found.items()}


@pytest.mark.parametrize("recall_at", [(1, 2, 4), (30,)])
def test_definitions(recall_at):
    rng = np.random.default_rng(0)
    labels = rng.permutation([0] * 9 + [1] * 20 + [2] * 2 + [3])  # 3 is alone
    features = unit_rows(rng.normal(size=(32, 4)) + 0.8 * np.eye(4)[labels])
    found = retrieval_metrics(features, labels, recall_at, memory_budget=4000)
    assert found == pytest.approx(loop(features, labels, recall_at))


def test_by_hand():
    # On a line: two of class 0, one of class 1 between them and another far off.
    features = unit_rows([[1.0, 0.0], [1.0, 0.1], [1.0, 0.3], [0.0, 1.0]])
    found = retrieval_metrics(features, [0, 1, 0, 1], recall_at=(1, 2))
    # Nearest others: 0 -> 1, 2, 3; 1 -> 0, 2, 3; 2 -> 1, 0, 3; 3 -> 2, 1, 0. R = 1.
    assert found == {
        "recall_at_1": 0.0,
        "recall_at_2": 0.75,
        "precision_at_1": 0.0,
        "r_precision": 0.0,
        "map_at_r": 0.0,
    }
    perfect = retrieval_metrics(features, [0, 0, 1, 1], recall_at=(1,))
    assert perfect["map_at_r"] == pytest.approx(3 / 4)


def test_figures_of_pytorch_metric_learning():
    """Of `AccuracyCalculator(k="max_bin_count")`, version 2.9.0, by cosine similarity."""
    rng = np.random.default_rng(7)
    labels = rng.integers(12, size=300)
    features = rng.normal(size=(300, 6)) + 0.7 * rng.normal(size=(12, 6))[labels]
    found = retrieval_metrics(unit_rows(features), labels)
    assert found["precision_at_1"] == pytest.approx(0.2633333333333333)
    assert found["r_precision"] == pytest.approx(0.1900023250871935)
    assert found["map_at_r"] == pytest.approx(0.07451877691759459)


@pytest.mark.bad_input
def test_nobody_has_a_companion():
    with pytest.raises(ValueError, match="a class with two images or more"):
        retrieval_metrics(np.eye(3), [0, 1, 2])


def test_images_without_a_class_take_no_part():
    features = np.eye(6)[[0, 0, 1, 1, 2, 3]]
    found = retrieval_metrics(features, [0, 0, 1, 1, -1, -1])
    assert found == retrieval_metrics(features[:4], [0, 0, 1, 1])
    assert found["map_at_r"] == 1
    with pytest.raises(ValueError, match="two images or more"):
        retrieval_metrics(np.eye(4), [-1, -1, 0, 1])


def test_few_classes_keep_to_the_budget():
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(3000, 4)), rng.integers(2, size=3000)
    done = []
    whole = retrieval_metrics(features, labels)
    tracemalloc.start()
    budget = 8 * 2**20
    parts = retrieval_metrics(features, labels, memory_budget=budget, progress=done.append)
    memory = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert memory < 1.2 * budget
    assert parts == pytest.approx(whole, rel=1e-12)
    assert done == sorted(done)
    assert done[-1] == 3000
