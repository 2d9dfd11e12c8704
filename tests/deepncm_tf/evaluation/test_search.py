# SPDX-License-Identifier: Apache-2.0
"""Banks whose order the search for neighbours could trip over."""

import concurrent.futures
import threading
import tracemalloc

import numpy as np
import pytest
import threadpoolctl

from deepncm_tf import evaluation
from deepncm_tf.evaluation import search


def expected(queries, bank, k):
    """The first of equal rows come first."""
    products = np.float32(queries) @ np.float32(bank).T
    rows = np.argsort(-products, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(products, rows, 1), rows


@pytest.mark.parametrize("k", [1, 2, 7, 40])
@pytest.mark.parametrize("every", [1, 7, 13, 50])
def test_large_products_at_even_distances(k, every):
    # The sample that the search takes may have far too many of the large ones.
    rng = np.random.default_rng(every)
    queries = np.stack([np.ones(20), rng.permutation(20)], 1)
    bank = np.stack([rng.integers(0, 30, 12_000), np.zeros(12_000)], 1)
    bank[every // 2 :: every, 0] += 50
    products, rows = evaluation.nearest(queries, bank, k)
    known_products, known_rows = expected(queries, bank, k)
    np.testing.assert_array_equal(products, known_products)
    np.testing.assert_array_equal(rows, known_rows)


def test_all_large_products_are_in_the_sample():
    # Of 12,000 rows every 46th is, for few neighbours.
    bank = np.zeros((12_000, 1))
    bank[::46, 0] = np.arange(1, 262)
    for k in (1, 2, 3, 100, 261, 262, 300):
        _, rows = evaluation.nearest(np.ones((5, 1)), bank, k)
        np.testing.assert_array_equal(rows, expected(np.ones((5, 1)), bank, k)[1])


def peak_memory(function):
    tracemalloc.start()
    try:
        found = function()
        return found, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_bank_in_the_order_of_one_query_takes_no_more_memory():
    # Every row is nearer to the last query than all before; to others all are the same.
    bank = np.stack([np.arange(100_000), np.zeros(100_000)], 1).astype("float32")
    queries = np.zeros((1024, 2), "float32")
    queries[-1, 0] = 1
    budget = 64 * 2**20
    (_, rows), memory = peak_memory(
        lambda: evaluation.nearest(queries, bank, 30, memory_budget=budget)
    )
    np.testing.assert_array_equal(rows[-1], np.arange(99_999, 99_969, -1))
    np.testing.assert_array_equal(rows[:-1], np.broadcast_to(np.arange(30), (1023, 30)))
    assert memory < budget


@pytest.mark.parametrize("k", [1, 30])
def test_features_that_are_all_the_same_keep_to_the_budget(k):
    queries, bank = np.zeros((2048, 16), "float32"), np.zeros((20_000, 16), "float32")
    for budget in (6 * 2**20, 20 * 2**20):
        (_, rows), memory = peak_memory(
            lambda size=budget: evaluation.nearest(queries, bank, k, memory_budget=size)
        )
        assert (rows == np.arange(k)).all()
        assert memory - 12 * rows.size < budget


def test_checks_of_a_large_bank_take_little_memory():
    bank = np.ones((100_000, 256), "float32")
    _, memory = peak_memory(
        lambda: evaluation.nearest(bank[:1], bank, 1, memory_budget=2**20)
    )
    assert memory < 4 * 2**20


def test_a_bank_in_any_order_is_searched_once(monkeypatch):
    bank = np.random.default_rng(0).normal(size=(20_000, 8))
    searched = []
    once = search._search

    def count(queries, *arguments):
        searched.append(len(queries))
        return once(queries, *arguments)

    monkeypatch.setattr(search, "_search", count)
    for k in (1, 30, 200):
        searched.clear()
        evaluation.nearest(bank[:500], bank, k)
        assert 500 <= sum(searched) < 520
    # And little is kept of what is looked at.
    kept = []
    add = search._Candidates.add

    def count_kept(candidates, products, start):
        before = candidates.number_new
        add(candidates, products, start)
        kept.append(max(0, candidates.number_new - before))

    monkeypatch.setattr(search._Candidates, "add", count_kept)
    evaluation.nearest(bank[:500], bank, 30)
    assert sum(kept) < 500 * 30 * 5


class Limits:
    """`threadpool_limits` of threadpoolctl < 3.8, which knows nothing of threads."""

    in_force = 2

    def __init__(self, limit, user_api):
        assert (limit, user_api) == (1, "blas")

    def __enter__(self):
        self.before, Limits.in_force = Limits.in_force, 1

    def __exit__(self, *error):
        Limits.in_force = self.before


def test_two_searches_at_once_leave_blas_as_it_was(monkeypatch):
    monkeypatch.setattr(threadpoolctl, "threadpool_limits", Limits)
    bank = np.random.default_rng(0).normal(size=(100, 4)).astype("float32")
    first_is_in, second_is_in, first_is_out = (threading.Event() for _ in range(3))

    def search_first():
        def progress(_):
            first_is_in.set()
            second_is_in.wait(0.5)  # where it may come in

        evaluation.nearest(bank, bank, 1, progress=progress)
        first_is_out.set()

    def search_second():
        def progress(_):
            second_is_in.set()
            first_is_out.wait(5)

        first_is_in.wait(5)
        evaluation.nearest(bank, bank, 1, progress=progress)

    with concurrent.futures.ThreadPoolExecutor(2) as executor:
        for done in [executor.submit(search_first), executor.submit(search_second)]:
            done.result()
    assert Limits.in_force == 2


def test_a_search_within_the_progress_of_another():
    bank, within = np.eye(50, dtype="float32"), []

    def search_again(_):
        within.append(evaluation.nearest(bank[7:8], bank, 1)[1].item())

    thread = threading.Thread(
        target=lambda: evaluation.nearest(bank[:1], bank, 1, progress=search_again),
        daemon=True,  # of a thread that waits for itself
    )
    thread.start()
    thread.join(20)
    assert within == [7]


def test_products_that_are_no_numbers_come_last():
    # As those of finite features may be, where sums exceed float32.
    bank = np.arange(3000, dtype="float32")[:, np.newaxis]
    bank[1234] = np.nan
    queries = np.ones((2, 1), "float32")
    for k in (5, 3000):
        products, rows = search.largest_products(queries, bank, k, None, 2**20, None)
        order = [*range(2999, 1234, -1), *range(1233, -1, -1), 1234][:k]
        np.testing.assert_array_equal(rows, [order] * 2)
    assert (products[:, -1] == -np.inf).all()
