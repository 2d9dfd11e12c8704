# SPDX-License-Identifier: Apache-2.0
"""Exact search of the rows with the largest inner products, in blocks, on all cores.

A block of similarities stays in the processor's cache. Of it only those are kept that may
be among a query's k largest, a few: first a sample of the rows says how large these are,
then the k largest of the rows so far. Queries of which the sample said too much are
searched again without it.
"""

import concurrent.futures
import math
import os
import threading

import numpy as np
import threadpoolctl

QUERIES, ROWS = 1024, 512  # of a block, at most
SAMPLE = 256  # rows, at least
CELL = 80  # bytes that a similarity takes at most, with what is made of it
CELLS = 2**17  # of similarities that are compared at once, at most, where a row has fewer
# How many threads BLAS has is set for the whole process, and set back afterwards. What is
# told of progress may search, too.
LOCK = threading.RLock()


def largest_products(queries, bank, k, exclude, memory_budget, progress):
    """The k rows of the bank that have the largest inner products with each query.

    Args:
        queries: float32 `(n, d)`.
        bank: float32 `(N, d)`.
        k: Int in [1, N].
        exclude: `(n,)` integers, a row of the bank for each query that is left out, -1 for
            none; or None.
        memory_budget: Int, bytes.
        progress: Function of the number of queries done, or None.

    Returns:
        `(products, rows)`: `(n, k)` float32, falling, and `(n, k)` int32; of equal products
        the first row comes first.
    """
    products = np.empty((len(queries), k), "float32")
    rows = np.empty((len(queries), k), "int32")
    own = np.full(len(queries), -1) if exclude is None else np.asarray(exclude)
    sample = bank[:: max(1, len(bank) // max(8 * k, SAMPLE))]
    num_threads = _num_cores()
    of_query = max(CELL * (ROWS + 4 * k), 8 * len(sample)) + 8 * queries.shape[1]
    affordable = memory_budget // (num_threads * of_query)
    share = -(-len(queries) // num_threads)  # every core has something to do
    size = max(1, min(affordable, QUERIES, share))
    starts = range(0, len(queries), size)

    def search_part(start):
        part = slice(start, start + size)
        products[part], rows[part] = _search(queries[part], own[part], bank, k, sample)

    # Each thread multiplies by itself, while others compare: the library's own threads
    # would wait for each other after each product.
    with (
        LOCK,
        threadpoolctl.threadpool_limits(1, "blas"),
        concurrent.futures.ThreadPoolExecutor(num_threads) as threads,
    ):
        for start, _ in zip(starts, threads.map(search_part, starts), strict=True):
            if progress is not None:
                progress(min(start + size, len(queries)))
    return products, rows


def _num_cores():
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _search(queries, own, bank, k, sample=None):
    """The k largest products, falling, and their rows, by one thread."""
    candidates = _Candidates(len(queries), k)
    if sample is not None and 2 * len(sample) < len(bank):
        candidates.expect(queries @ sample.T, len(sample) / len(bank))
    whole = np.empty((len(queries), ROWS), "float32")  # the system clears fresh arrays
    for start in range(0, len(bank), ROWS):
        block = bank[start : start + ROWS]
        full = len(block) == ROWS
        products = np.matmul(queries, block.T, out=whole if full else None)
        inside = np.flatnonzero((own >= start) & (own < start + len(block)))
        products[inside, own[inside] - start] = -np.inf
        if sample is None:
            products[np.isnan(products)] = -np.inf  # of sums too large for float32
        candidates.add(products, start)
    products, rows, missing = candidates.result()
    del candidates, whole
    if len(missing):
        products[missing], rows[missing] = _search(queries[missing], own[missing], bank, k)
    return products, rows


class _Candidates:
    """Products that may be among the k largest of some queries.

    Args:
        num_queries: Int, at most 65,536.
        k: Int.
    """

    def __init__(self, num_queries, k):
        self.k = k
        # Smaller products are left out.
        self.limits = np.full((num_queries, 1), -np.inf, "float32")
        self.kept = []  # triples of queries, rows and products, each `(number,)`
        self.number_new = 0  # of these, since they were last compared
        self.is_larger = np.empty((num_queries, ROWS), bool)

    def expect(self, products, share):
        """Leaves out what is too small to be among the k largest, by a sample of the rows.

        Args:
            products: float32 `(n, rows of the sample)`.
            share: Float, rows of the sample over those of the bank.
        """
        mean = self.k * share  # of the k largest, in the sample: by Poisson's distribution
        rank = math.ceil(mean + 3 * math.sqrt(mean)) + 1
        if rank <= products.shape[1]:
            self.limits[:, 0] = np.partition(products, -rank, axis=1)[:, -rank]

    def add(self, products, start):
        """Takes in products `(n, rows)` with rows of the bank from `start` on."""
        num_queries, width = products.shape
        is_larger = self.is_larger if width == ROWS else None
        cells = np.flatnonzero(np.greater_equal(products, self.limits, out=is_larger))
        cells = cells.astype("int32")
        query = cells // width
        row = cells - query * width + np.int32(start)
        # NumPy sorts 16 bits by radix, ten times as fast as 64.
        self.kept.append((query.astype("uint16"), row, products.ravel()[cells]))
        self.number_new += len(cells)
        if self.number_new > 2 * self.k * num_queries:
            self._compare()

    def result(self):
        """`(n, k)` products and rows, and the queries that have not so many."""
        counts = self._compare()
        query, row, product = self.kept[0]
        complete = counts == self.k
        chosen = complete[query]
        products = np.empty((len(counts), self.k), "float32")
        rows = np.empty((len(counts), self.k), "int32")
        products[complete] = product[chosen].reshape(-1, self.k)
        rows[complete] = row[chosen].reshape(-1, self.k)
        order = np.argsort(-products, axis=1, kind="stable")
        products, rows = (np.take_along_axis(x, order, 1) for x in (products, rows))
        return products, rows, np.flatnonzero(~complete)

    def _compare(self):
        """Keeps at most k products of each query, in the order of rows; counts them."""
        query, row, product = map(np.concatenate, zip(*self.kept, strict=True))
        order = np.argsort(query, kind="stable")
        query, row, product = query[order], row[order], product[order]
        counts = np.bincount(query, minlength=len(self.limits))
        starts = np.cumsum(counts) - counts
        keep = np.ones(len(query), bool)
        # Those with the most products first, so that few places of a table stay empty.
        several = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts > self.k)]
        while len(several):
            width = counts[several[0]]
            part, several = np.split(several, [max(1, CELLS // width)])
            places = starts[part, np.newaxis] + np.arange(width)
            is_there = np.arange(width) < counts[part, np.newaxis]
            table = np.where(is_there, product.take(places, mode="clip"), -np.inf)
            chosen, least = _are_largest(table, self.k)
            keep[places[is_there]] = chosen[is_there]
            self.limits[part, 0] = np.nextafter(least, np.float32(np.inf))
        self.kept = [(query[keep], row[keep], product[keep])]
        self.number_new = 0
        return np.minimum(counts, self.k)


def _are_largest(products, k):
    """Marks the k largest products of each row, of equal ones the first; and the least."""
    least = np.partition(products, -k, axis=1)[:, -k, np.newaxis]
    largest = products >= least
    tied = np.flatnonzero(np.count_nonzero(largest, axis=1) > k)
    if len(tied):
        above, equal = products[tied] > least[tied], products[tied] == least[tied]
        room = k - np.count_nonzero(above, axis=1, keepdims=True)
        largest[tied] = above | (equal & (np.cumsum(equal, axis=1) <= room))
    return largest, least[:, 0]
