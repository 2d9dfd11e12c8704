# SPDX-License-Identifier: Apache-2.0
"""A large batch in several parts, one after the other, so that memory holds only one."""

import keras
from keras import ops

from deepncm_tf.distribution import replicas


def in_parts(step, data, num_parts):
    """Puts a batch through a step in parts, and gives what the whole would give.

    Args:
        step: Function of `(data, samples)`, with `samples` the numbers of samples of the
            part and of the batch, to `(rows, sums)`: two lists of tensors, the first with
            a row for each sample of the part.
        data: Structure of tensors `(batch, ...)`, or None in places.
        num_parts: Int >= 1.

    Returns:
        `(rows, sums)` of the batch: the parts' rows one after the other, and their sums
        added up.
    """
    if num_parts == 1:
        return step(data, None)
    batch = ops.shape(keras.tree.flatten(data)[0])[0]
    all_rows, total = [], None
    for part in range(num_parts):
        first, last = part * batch // num_parts, (part + 1) * batch // num_parts
        # A part without a sample gets one that does not count: normalization over no
        # sample at all would not be finite.
        least, most = (ops.minimum, ops.maximum) if ops.is_tensor(batch) else (min, max)
        begin = least(first, most(batch - 1, 0))
        end = most(last, begin + 1)
        with replicas.after(total or []):  # or the parts would be computed side by side
            part_of_data = keras.tree.map_structure(
                lambda x, begin=begin, end=end: None if x is None else x[begin:end], data
            )
        rows, sums = step(part_of_data, (last - first, batch))
        all_rows.append([row[: last - first] for row in rows])
        total = sums if total is None else [a + b for a, b in zip(total, sums, strict=True)]
    rows = [ops.concatenate(parts, axis=0) for parts in zip(*all_rows, strict=True)]
    return rows, total
