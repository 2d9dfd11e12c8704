# SPDX-License-Identifier: Apache-2.0
"""Exact search of the rows with the largest inner products, in blocks, on all cores.

A block of similarities stays in the processor's cache. Of each block after the first, only
what exceeds the smallest of the k largest so far is looked at again: a few per query.
"""

import concurrent.futures
import os

import numpy as np
import threadpoolctl

QUERIES = 512  # of a block, at most
FIRST_ROWS, ROWS = 1024, 4096  # of the first block of the bank, and of the others
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
    blocks = _blocks(bank, k)
    width = k + max(block.shape[1] for block, _ in blocks)
    size = int(np.clip(memory_budget // (num_threads * CELL * width), 1, QUERIES))
    starts = range(0, len(queries), size)

    def search_part(start):
        part = slice(start, start + size)
        own = None if exclude is None else np.asarray(exclude[part])
        products[part], rows[part] = _search(queries[part], blocks, k, own)

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


def _blocks(bank, k):
    """Parts of the bank, transposed, each with the number of its first row."""
    first = max(k, FIRST_ROWS)
    starts = [0, *range(first, len(bank), ROWS)]
    ends = [*starts[1:], len(bank)]
    return [(bank[start:end].T, start) for start, end in zip(starts, ends, strict=True)]


def _search(queries, blocks, k, own):
    """What `largest_products` returns, for the queries of a block."""
    products = rows = None
    for block, start in blocks:
        similarities = queries @ block
        if own is not None:
            inside = np.flatnonzero((own >= start) & (own < start + block.shape[1]))
            similarities[inside, own[inside] - start] = -np.inf
        if products is None:
            columns = np.arange(block.shape[1], dtype="int32")
            columns = np.broadcast_to(columns, similarities.shape)
            products, rows = _largest(similarities, columns, k)
        else:
            products, rows = _merge(products, rows, similarities, start)
    order = np.argsort(-products, axis=1, kind="stable")
    return np.take_along_axis(products, order, 1), np.take_along_axis(rows, order, 1)


def _merge(products, rows, similarities, start):
    """The k largest of those so far and of a block's, whose first row is `start`."""
    cells = np.flatnonzero(similarities > products.min(axis=1, keepdims=True))
    if not len(cells):
        return products, rows
    (num_queries, k), columns = products.shape, similarities.shape[1]
    query, column = np.divmod(cells, columns)
    counts = np.bincount(query, minlength=num_queries)
    place = k + np.arange(len(cells)) - np.repeat(np.cumsum(counts) - counts, counts)
    shape = num_queries, k + counts.max()
    more_products, more_rows = np.full(shape, -np.inf, "float32"), np.zeros(shape, "int32")
    more_products[:, :k], more_rows[:, :k] = products, rows
    more_products[query, place] = similarities.ravel()[cells]
    more_rows[query, place] = start + column
    return _largest(more_products, more_rows, k)


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
