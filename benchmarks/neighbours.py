# SPDX-License-Identifier: Apache-2.0
"""Exact nearest neighbours and their votes, beside faiss and the same votes."""

import statistics

from benchmarks import timing
from benchmarks.table import Row

DIMENSIONS, NUM_CLASSES = 128, 10
# Rows of the bank, queries, rounds in 10.
SIZES = ((50_000, 10_000, 10), (1_281_167, 1_000, 5))


def compare(rounds):
    """Rows of the table: k of 1, 30, 200 in two banks."""
    rows = []
    for num_rows, num_queries, share in SIZES:
        for k in (1, 30, 200):
            arguments = num_rows, num_queries, k
            sides = {
                "ours": timing.Side(ours, *arguments),
                "faiss": timing.Side(faiss, *arguments),
            }
            times = timing.in_turn(sides, max(3, rounds * share // 10))
            texts = [
                f"{statistics.median(times[name]):.2f} s, {side.memory / 2**30:.1f} GiB"
                for name, side in sides.items()
            ]
            item = f"kNN and votes, {num_queries:,} x {num_rows:,} x {DIMENSIONS}, k = {k}"
            ratio = timing.ratio(times["ours"], times["faiss"])
            rows.append(Row(item, texts[0], f"faiss {texts[1]}", ratio, "<= 1.0"))
    return rows


def arrays(num_rows, num_queries):
    import numpy as np

    rng = np.random.default_rng(0)
    bank, queries = (
        rng.standard_normal((count, DIMENSIONS), dtype="float32")
        for count in (num_rows, num_queries)
    )
    for features in (bank, queries):
        features /= np.linalg.norm(features, axis=1, keepdims=True)
    return bank, queries, rng.integers(NUM_CLASSES, size=num_rows)


def ours(turns, num_rows, num_queries, k):
    from deepncm_tf import evaluation

    bank, queries, labels = arrays(num_rows, num_queries)
    for _ in turns:
        evaluation.knn_predict(queries, bank, labels, k, num_classes=NUM_CLASSES)


def faiss(turns, num_rows, num_queries, k):
    import faiss

    from deepncm_tf import evaluation

    bank, queries, labels = arrays(num_rows, num_queries)
    index = faiss.IndexFlatIP(DIMENSIONS)
    index.add(bank)
    for _ in turns:
        similarities, rows = index.search(queries, k)
        evaluation.vote(similarities, labels[rows], 0.05, NUM_CLASSES)
