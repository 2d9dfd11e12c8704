# SPDX-License-Identifier: Apache-2.0
"""Exact search of the rows with the largest inner products, in blocks, on all cores.

A block of similarities stays in the processor's cache. Of it only those that exceed the
smallest of a query's k largest so far are kept, a few; they are merged with the k largest
each time twice as many rows have been seen.
"""

import concurrent.futures
import os

import numpy as np
import threadpoolctl

QUERIES, ROWS = 1024, 512  # of a block, at most
FIRST_ROWS = 256  # of the first block, at least
CELL = 32  # bytes that a similarity takes at most, with what is made of it


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
    num_threads = _num_cores()
    first = min(max(4 * k, FIRST_ROWS), len(bank))
    width = max(first, ROWS) + 4 * k
    affordable = memory_budget // (num_threads * CELL * width)
    share = -(-len(queries) // num_threads)  # every core has something to do
    size = max(1, min(affordable, QUERIES, share))
    starts = range(0, len(queries), size)

    def search_part(start):
        part = slice(start, start + size)
        own = None if exclude is None else np.asarray(exclude[part])
        search = _Search(queries[part], own, k)
        search.look_at(bank[:first], 0)
        for row in range(first, len(bank), ROWS):
            search.look_at(bank[row : row + ROWS], row)
        products[part], rows[part] = search.result()

    # Each thread multiplies by itself, while others compare: the library's own threads
    # would wait for each other after each product.
    with (
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


class _Search:
    """The k largest products of some queries, of the rows that were looked at so far.

    Args:
        queries: float32 `(n, d)`.
        own: `(n,)` integers, rows to leave out, -1 for none; or None.
        k: Int.
    """

    def __init__(self, queries, own, k):
        self.queries = queries
        self.own = own
        self.k = k
        self.products = self.rows = None  # the k largest, `(n, k)`
        self.least = None  # the smallest of them, `(n, 1)`
        self.kept = []  # of later blocks: queries, rows and products
        self.number_kept = 0
        self.next_merge = 0  # row
        # Fresh arrays would be cleared by the system each time.
        self.similarities = np.empty((len(queries), ROWS), "float32")
        self.is_larger = np.empty((len(queries), ROWS), bool)

    def look_at(self, block, start):
        """Takes in some rows of the bank, whose first is `start`; the first block has k."""
        similarities = self._multiply(block)
        if self.own is not None:
            inside = np.flatnonzero((self.own >= start) & (self.own < start + len(block)))
            similarities[inside, self.own[inside] - start] = -np.inf
        if self.products is None:
            columns = np.arange(len(block), dtype="int32")
            columns = np.broadcast_to(columns, similarities.shape)
            self._set(*_largest(similarities, columns, self.k))
        else:
            self._keep_larger(similarities, start)
        if start + len(block) >= self.next_merge:
            self._merge()
            self.next_merge = 2 * (start + len(block))

    def result(self):
        """The k largest products, falling, and their rows."""
        self._merge()
        order = np.argsort(-self.products, axis=1, kind="stable")
        return (
            np.take_along_axis(self.products, order, 1),
            np.take_along_axis(self.rows, order, 1),
        )

    def _multiply(self, block):
        if len(block) != ROWS or self.products is None:
            return self.queries @ block.T
        return np.matmul(self.queries, block.T, out=self.similarities)

    def _keep_larger(self, similarities, start):
        columns = similarities.shape[1]
        is_larger = self.is_larger if columns == ROWS else None
        is_larger = np.greater(similarities, self.least, out=is_larger)
        cells = np.flatnonzero(is_larger)
        query = cells // columns
        row = (start + cells - query * columns).astype("int32")
        # NumPy sorts 16 bits by radix, ten times as fast as 64.
        self.kept.append((query.astype("uint16"), row, similarities.ravel()[cells]))
        self.number_kept += len(cells)
        if self.number_kept > 4 * self.k * len(self.queries):
            self._merge()

    def _merge(self):
        """Puts what was kept of later blocks among the k largest."""
        if self.number_kept:
            query, row, product = map(np.concatenate, zip(*self.kept, strict=True))
            order = np.argsort(query, kind="stable")  # rows stay in their order
            query, row, product = query[order], row[order], product[order]
            counts = np.bincount(query, minlength=len(self.queries))
            place = np.arange(len(query)) - np.repeat(np.cumsum(counts) - counts, counts)
            shape = len(self.queries), self.k + counts.max()
            products, rows = np.full(shape, -np.inf, "float32"), np.zeros(shape, "int32")
            products[:, : self.k], rows[:, : self.k] = self.products, self.rows
            products[query, self.k + place], rows[query, self.k + place] = product, row
            self._set(*_largest(products, rows, self.k))
        self.kept, self.number_kept = [], 0

    def _set(self, products, rows):
        self.products, self.rows = products, rows
        self.least = products.min(axis=1, keepdims=True)


def _largest(products, rows, k):
    """The k largest of each query's products, in their order; of equal ones the first."""
    if k == products.shape[1]:
        return products, rows
    places = np.argpartition(products, -k, axis=1)[:, -k:]
    places.sort(axis=1)
    found = np.take_along_axis(products, places, 1)
    least = found.min(axis=1, keepdims=True)
    # Where more than k are as large as the smallest found, others may come before it.
    tied = np.flatnonzero(np.count_nonzero(products >= least, axis=1) > k)
    if len(tied):
        above, equal = products[tied] > least[tied], products[tied] == least[tied]
        room = k - np.count_nonzero(above, axis=1, keepdims=True)
        chosen = above | (equal & (np.cumsum(equal, axis=1) <= room))
        places[tied] = np.nonzero(chosen)[1].reshape(len(tied), k)
        found[tied] = np.take_along_axis(products[tied], places[tied], 1)
    return found, np.take_along_axis(rows, places, 1)
