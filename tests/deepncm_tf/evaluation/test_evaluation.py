# SPDX-License-Identifier: Apache-2.0
"""Nearest neighbours against plain loops and the official results."""

import sys
import types

import numpy as np
import pytest
from helpers import GOLDEN
from sklearn.neighbors import NearestNeighbors

from deepncm_tf import evaluate, evaluation
from deepncm_tf.evaluation import heads
from deepncm_tf.evaluation.feature_bank import FeatureBank

KNN = dict(np.load(GOLDEN / "nca_knn.npz", allow_pickle=False))


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    bank = evaluation.unit_rows(rng.normal(size=(60, 5)))
    return bank, rng.integers(4, size=60), evaluation.unit_rows(rng.normal(size=(17, 5)))


@pytest.mark.parametrize("k", [1, 5, 30])
@pytest.mark.parametrize(("temperature", "name"), [(0.05, "s005"), (0.1, "s01")])
def test_golden(k, temperature, name):
    prefix = f"knn_k{k}_{name}_"
    similarities, rows = evaluation.nearest(KNN["queries"], KNN["bank"], k)
    np.testing.assert_allclose(similarities, KNN[f"{prefix}sim"], rtol=1e-5, atol=2e-5)
    np.testing.assert_array_equal(rows, KNN[f"{prefix}index"])
    scores = evaluation.knn_predict(
        KNN["queries"], KNN["bank"], KNN["labels"], k, temperature, num_classes=6
    )
    official = KNN[f"{prefix}class_score"]
    largest = np.exp(similarities[:, :1].astype("float64") / temperature)
    np.testing.assert_allclose(scores * largest, official, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(scores.argmax(axis=-1), KNN[f"{prefix}pred"])


@pytest.mark.parametrize("memory_budget", [1, 400_000, 2**30])
def test_any_memory_budget_gives_the_same(data, memory_budget):
    bank, _, queries = data
    done = []
    similarities, rows = evaluation.nearest(
        queries, bank, 7, memory_budget=memory_budget, progress=done.append
    )
    distances, expected = NearestNeighbors(n_neighbors=7).fit(bank).kneighbors(queries)
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_allclose(similarities, 1 - distances**2 / 2, rtol=1e-4, atol=1e-5)
    assert done[-1] == len(queries)
    assert done == sorted(done)
    if memory_budget == 1:
        assert len(done) == 17


@pytest.mark.parametrize("size", [1, 2, 15, 16, 17, 40, 200])
def test_any_number_of_rows_and_neighbours(size):
    """Also where all similarities are negative, below those of rows that are not there."""
    rng = np.random.default_rng(size)
    bank, queries = -rng.uniform(size=(size, 3)), rng.uniform(size=(5, 3))
    expected = -np.sort(-(queries @ bank.T), axis=1)
    for k in {1, 2, size // 2, size - 1, size} & set(range(1, size + 1)):
        similarities, rows = evaluation.nearest(queries, bank, k)
        np.testing.assert_allclose(similarities, expected[:, :k], rtol=1e-5)
        own = (queries[:, None] * bank[rows]).sum(axis=-1)
        np.testing.assert_allclose(own, similarities, rtol=1e-5)
        assert all(len(set(row)) == k for row in rows)


def test_of_equal_rows_the_first_comes_first():
    bank = np.tile([[1.0, 0.0]], (40, 1))
    _, rows = evaluation.nearest(bank[:1], bank, 3)
    np.testing.assert_array_equal(rows, [[0, 1, 2]])


@pytest.mark.parametrize("k", [1, 30, 5000])
def test_many_equal_products_over_several_blocks(k):
    """Small integers: products are exact, and most are those of other rows, too."""
    rng = np.random.default_rng(k)
    bank, queries = rng.integers(-3, 4, (12_000, 3)), rng.integers(-3, 4, (700, 3))
    own = np.where(np.arange(700) % 2, rng.integers(12_000, size=700), -1)
    expected = (queries @ bank.T).astype("float32")
    expected[np.flatnonzero(own >= 0), own[own >= 0]] = -np.inf
    similarities, rows = evaluation.nearest(queries, bank, k, exclude=own)
    order = np.argsort(-expected, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(rows, order)
    np.testing.assert_array_equal(similarities, np.take_along_axis(expected, order, 1))


def test_a_query_is_not_its_own_neighbour(data):
    bank, _, _ = data
    own = np.arange(len(bank))
    _, rows = evaluation.nearest(bank, bank, 59, exclude=own, memory_budget=5000)
    assert (rows != own[:, None]).all()
    own[3] = -1
    _, rows = evaluation.nearest(bank, bank, 1, exclude=own)
    assert rows[3] == 3


def test_votes_are_a_plain_loop(data):
    bank, labels, queries = data
    scores = evaluation.knn_predict(
        queries, bank, labels, k=9, temperature=0.2, num_classes=5
    )
    for query, found in zip(queries.astype("float64"), scores, strict=True):
        near = np.argsort(-(bank @ query))[:9]
        expected = np.zeros(5)
        for row in near:
            expected[labels[row]] += np.exp(
                (bank[row] @ query - bank[near[0]] @ query) / 0.2
            )
        np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_rows_without_a_label_take_no_part(data):
    bank, labels, queries = data
    known = np.arange(len(bank)) % 3 > 0
    unknown = np.where(known, labels, -1)
    expected = evaluation.knn_predict(queries, bank[known], labels[known], 4, num_classes=9)
    found = evaluation.knn_predict(queries, bank, unknown, 4, num_classes=9)
    np.testing.assert_array_equal(found, expected)
    rows = np.arange(len(bank))
    rows[-1] = -1  # finds itself
    others = evaluation.knn_predict(bank, bank, unknown, 1, num_classes=9, exclude=rows)
    alone = np.flatnonzero(known)
    itself = evaluation.nearest(bank[alone], bank[alone], 1, exclude=np.arange(len(alone)))
    votes = labels[alone][itself[1]]
    votes[-1] = labels[-1]
    assert known[-1]
    np.testing.assert_array_equal(others[alone].argmax(axis=1), votes[:, 0])


def test_votes_do_not_overflow():
    scores = evaluation.vote([[30.0, 29.0, -30.0]], [[0, 1, 2]], 1e-4, 3)
    np.testing.assert_array_equal(scores, [[1, 0, 0]])


def test_cluster_agreement():
    found = evaluation.cluster_agreement([0, 0, 1, 1, 2, 2], [0, 0, 1, 1, 1, 0])
    assert found["purity"] == pytest.approx(5 / 6)
    perfect = evaluation.cluster_agreement([3, 3, 1, 1], [0, 0, 7, 7])
    assert perfect == {"purity": 1.0, "normalized_mutual_information": pytest.approx(1.0)}


@pytest.mark.bad_input
def test_bad_arguments(data):
    bank, labels, queries = data
    with pytest.raises(ValueError, match=r"shapes \(17, 4\) and \(60, 5\)"):
        evaluation.nearest(queries[:, :4], bank, 1)
    with pytest.raises(ValueError, match="integer from 1 to 60, the rows of the bank"):
        evaluation.nearest(queries, bank, 61)
    with pytest.raises(ValueError, match="integer from 1 to 59"):
        evaluation.nearest(bank, bank, 60, exclude=np.arange(60))
    with pytest.raises(ValueError, match="`temperature` must be a positive number"):
        evaluation.knn_predict(queries, bank, labels, 1, temperature=0)
    with pytest.raises(ValueError, match=r"of 60 samples.*Received: bank_labels of .*59,"):
        evaluation.knn_predict(queries, bank, labels[:-1], 1)
    with pytest.raises(ValueError, match="`labels` must be integers from 0 to 1"):
        evaluation.vote([[1.0]], [[2]], 0.1, num_classes=2)


class IndexFlatIP:
    """As faiss's, in NumPy: it takes C-contiguous float32 alone."""

    def __init__(self, dimensions):
        self.rows = np.zeros((0, dimensions), "float32")

    def add(self, rows):
        assert rows.dtype == "float32"
        assert rows.flags.c_contiguous
        self.rows = np.concatenate([self.rows, rows])

    def search(self, queries, k):
        assert queries.dtype == "float32"
        assert queries.flags.c_contiguous
        similarities = queries @ self.rows.T
        rows = np.argsort(-similarities, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(similarities, rows, axis=1), rows


def test_faiss_is_asked_for_the_same(data, monkeypatch):
    faiss = types.SimpleNamespace(IndexFlatIP=IndexFlatIP)
    monkeypatch.setitem(sys.modules, "faiss", faiss)
    evaluate.check_search("faiss")
    bank, _, queries = data
    found = evaluate.faiss_nearest(queries.astype("float64")[:, ::-1], bank[:, ::-1], 7)
    expected = evaluation.nearest(queries, bank, 7)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
    np.testing.assert_array_equal(found[1], expected[1])


def test_faiss_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ValueError, match="--knn=faiss needs the package faiss-cpu"):
        evaluate.check_search("faiss")


def test_lookup_of_labels_in_a_column(data):
    bank, labels, queries = data
    found = FeatureBank(bank, labels[:, None]).lookup(queries, 3)
    np.testing.assert_array_equal(found.labels, labels[found.rows])
    with pytest.raises(ValueError, match=r"\(N,\) or \(N, 1\). Received: labels of shape"):
        FeatureBank(bank, np.eye(4)[labels])


@pytest.mark.parametrize("name", ["means", "knn"])
def test_heads_say_nothing_of_no_features(data, name):
    bank, labels, _ = data
    head = heads.get(name, 4)
    head.learn(bank, labels)
    assert head.predict(bank[:0]).shape == (0,)
