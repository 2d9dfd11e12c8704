# SPDX-License-Identifier: Apache-2.0
"""Labels and sample weights in the forms that users have them, brought into one.

Labels of features `(batch, ..., d)` may be class numbers `(batch, ...)` or
`(batch, ..., 1)` of any numeric dtype, or weights of the classes
`(batch, ..., num_classes)`: one-hot or soft, of any dtype, bool included. Sample weights
may be `(batch,)`, with more of the labels' axes, or with axes of size 1 behind them.
"""

import keras
from keras import ops

from deepncm_tf.numerics.precision import sum_dtype


def normalize(labels, num_classes, rank, name="labels"):
    """Brings labels into one of two forms.

    Args:
        labels: As above.
        num_classes: Int, number of classes C.
        rank: Int, number of axes of the features.
        name: String, name of the argument in error messages.

    Returns:
        int32 `(batch, ...)`, -1 where a label is no integer of 32 bits; or weights of the
        classes `(batch, ..., C)`, float32 or wider.

    Raises:
        ValueError: If they have another shape, or are no numbers.
    """
    labels = ops.convert_to_tensor(labels)
    shape = known_shape(labels, name)
    dtype = keras.backend.standardize_dtype(labels.dtype)
    if len(shape) == rank and shape[-1] == num_classes != 1 and _is_number(dtype):
        return ops.cast(labels, keras.backend.result_type(dtype, "float32"))
    if len(shape) == rank and shape[-1] == 1:
        labels = ops.squeeze(labels, axis=-1)
    if len(labels.shape) != rank - 1 or not _is_number(dtype):
        raise ValueError(
            f"`{name}` must be integers with one axis less than features and logits have, "
            f"or weights of {num_classes} classes, one-hot for example, in the last axis. "
            f"Received: {name} of shape {shape} and dtype {dtype} for {rank} axes"
        )
    # Compared before it is cast: NaN or a wide integer could become any class. Floats with
    # floats, and integers with what int32 holds, or JAX would refuse the comparison.
    if keras.backend.is_float_dtype(dtype):
        fits = ops.logical_and(ops.floor(labels) == labels, ops.abs(labels) < 2.0**31)
        labels = ops.where(fits, labels, -1)
    elif dtype in ("int64", "uint32", "uint64"):
        fits = labels <= 2**31 - 1
        if dtype == "int64":
            fits = ops.logical_and(fits, labels >= -(2**31))
        return ops.where(fits, ops.cast(labels, "int32"), -1)
    return ops.cast(labels, "int32")


def is_class_weights(labels, rank):
    """Whether normalized labels are weights of the classes, not class numbers."""
    return len(labels.shape) == rank


def normalize_weights(weights, labels_shape, name="sample_weight"):
    """Brings sample weights into the form that has no axes of size 1 at its end.

    Args:
        weights: As above, of any dtype; or None.
        labels_shape: Shape of class numbers, `(batch, ...)`, with None where not known.
        name: String, name of the argument in error messages.

    Returns:
        Floats of a shape with which that of the labels begins; or None.

    Raises:
        ValueError: If they have another shape.
    """
    if weights is None:
        return None
    weights = ops.convert_to_tensor(weights)
    received, wanted = known_shape(weights, name), tuple(labels_shape)
    while len(weights.shape) > 1 and weights.shape[-1] == 1:
        axis = len(weights.shape) - 1
        if axis < len(wanted) and wanted[axis] in (1, None):
            break
        weights = ops.squeeze(weights, axis=-1)
    shape = tuple(weights.shape)
    agree = all(a == b or None in (a, b) for a, b in zip(shape, wanted, strict=False))
    if not 1 <= len(shape) <= len(wanted) or not agree:
        shapes = " or ".join(map(str, dict.fromkeys([wanted[:1], wanted])))
        raise ValueError(
            f"`{name}` must have a weight for each sample, or for each label: shape "
            f"{shapes}. Received: {name} of shape {received}"
        )
    dtype = keras.backend.standardize_dtype(weights.dtype)
    return ops.cast(weights, keras.backend.result_type(dtype, "float32"))


def multiply_weights(weights, others):
    """Weights of samples or of their labels, multiplied: `(batch, ...)` each, or None."""
    if weights is None or others is None:
        return others if weights is None else weights
    while len(weights.shape) < len(others.shape):
        weights = ops.expand_dims(weights, axis=-1)
    while len(others.shape) < len(weights.shape):
        others = ops.expand_dims(others, axis=-1)
    return weights * ops.cast(others, weights.dtype)


def find_wrong(labels, num_classes, rank, ignore_class=None):
    """Looks for labels that are not of a class.

    Args:
        labels: Labels as users have them.
        num_classes, rank: As in `normalize`.
        ignore_class: Int that is right though no class, or None.

    Returns:
        `(wrong, value)`: bools of the shape of the normalized labels, and a scalar of
        `sum_dtype`, one of the wrong labels; 0 where there is none.
    """
    normalized = normalize(labels, num_classes, rank)
    if is_class_weights(normalized, rank):
        return find_wrong_weights(normalized)
    wrong = ops.logical_or(normalized < 0, normalized >= num_classes)
    labels = ops.reshape(ops.convert_to_tensor(labels), ops.shape(normalized))
    if ignore_class is not None:
        is_ignored = ops.cast(labels, sum_dtype()) == float(ignore_class)
        wrong = ops.logical_and(wrong, ops.logical_not(is_ignored))
    return wrong, _first(labels, wrong)


def find_wrong_weights(weights):
    """Looks for weights that are negative or not finite; returns as `find_wrong` does."""
    wrong = ops.logical_not(ops.logical_and(weights >= 0, ops.isfinite(weights)))
    return wrong, _first(weights, wrong)


def check(labels, sample_weight, num_classes, features_shape):
    """Raises a `ValueError` for other shapes, and weights that are negative or not finite.

    Values that are traced, inside a graph, are not looked at; see `find_wrong_weights`.

    Args:
        labels: Labels as users have them, which may be weights of the classes.
        sample_weight: Weights as users have them, or None.
        num_classes: Int, number of classes C.
        features_shape: Shape of the features, `(batch, ..., d)`, with None where not known.
    """
    if not hasattr(labels, "shape"):
        labels = ops.convert_to_tensor(labels)
    shape, wanted = known_shape(labels, "labels"), tuple(features_shape[:-1])
    if not all(a == b or None in (a, b) for a, b in zip(shape, wanted, strict=False)):
        raise ValueError(
            f"`labels` must have a label for each of the features, shape {wanted}. "
            f"Received: labels of shape {shape}"
        )
    normalize_weights(sample_weight, wanted)
    if len(shape) == len(features_shape) and shape[-1] == num_classes != 1:
        wanted = "integers, or weights of the classes that are finite and >= 0"
        _refuse_wrong(labels, "labels", wanted)
    if sample_weight is not None:
        _refuse_wrong(sample_weight, "sample_weight", "finite numbers >= 0")


def to_class_numbers(
    labels, name, count=None, num_classes=None, unknown=False, ignore_class=None
):
    """Class numbers of labels that are at hand, not traced.

    Args:
        labels: `(n,)` or `(n, 1)` class numbers of any numeric dtype, or weights of the
            classes `(n, num_classes)`, of which the largest counts.
        name: String, name of the argument in error messages.
        count: Int n, or None for any.
        num_classes: Int, or None for any number of classes.
        unknown: Bool, whether numbers below 0 are allowed, for samples of no known class.
        ignore_class: Int, a label of no class, or None.

    Returns:
        `(n,)` int64 array, -1 for `ignore_class`.

    Raises:
        ValueError: If they are not that.
    """
    array = ops.convert_to_numpy(labels)
    refuse_names(array, name)
    received = f"{name} of shape {array.shape} and dtype {array.dtype}"
    wanted = "integers" if num_classes is None else f"integers from 0 to {num_classes - 1}"
    wanted += ", below 0 where unknown," if unknown else ""
    is_one_hot = False
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    elif array.ndim == 2 and num_classes in (None, array.shape[1]):
        array, is_one_hot = array.argmax(axis=1), True
    if array.ndim != 1 or count not in (None, len(array)):
        of_samples = "" if count is None else f" of {count} samples"
        raise ValueError(
            f"`{name}` must be the classes{of_samples}: {wanted}, (n,) or (n, 1), or "
            f"one-hot. Received: {received}"
        )
    numbers = array
    if array.dtype.kind == "f":
        numbers = array.clip(-1, 2**31)
        numbers[numbers != numbers] = 0.5  # NaN, which is no integer
    numbers = numbers.astype("int64")
    wrong = numbers != array
    if not unknown:
        wrong |= numbers < 0
    if num_classes is not None:
        wrong |= numbers >= num_classes
    if ignore_class is not None and not is_one_hot:
        ignored = array == ignore_class
        numbers[ignored] = -1
        wrong &= ~ignored
    if wrong.any():
        raise ValueError(
            f"`{name}` must be {wanted} or one-hot. Received: {array[wrong][0]} at "
            f"{int(wrong.argmax())}"
        )
    return numbers


def refuse_names(labels, name):
    """Raises a `ValueError` for an array of names, or of anything else than numbers."""
    dtype = getattr(labels, "dtype", None)
    if getattr(dtype, "kind", "f") not in "biufV":  # V: bfloat16, which is not NumPy's own
        raise ValueError(
            f"`{name}` must be integers or one-hot. Number the classes, for example with "
            f"numpy.unique(names, return_inverse=True), or name them in "
            f"DeepNCM(class_names=...). Received: {name} of dtype {dtype}"
        )


def known_shape(tensor, name):
    """The shape of a tensor; a `ValueError` where not even the number of axes is known."""
    try:
        return tuple(tensor.shape)
    except ValueError:
        raise ValueError(
            f"`{name}` must have a known number of axes; in a tf.data pipeline "
            f"tf.ensure_shape gives it one. Received: {name} of unknown shape"
        ) from None


def _refuse_wrong(weights, name, wanted):
    try:
        weights = ops.convert_to_numpy(weights)
    except (NotImplementedError, TypeError):  # they are traced
        return
    if weights.dtype.kind in "OSU":  # which is refused where they are brought into form
        return
    wrong = ~((weights >= 0) & (weights < float("inf")))
    if wrong.any():
        value = float(weights[wrong][0])
        raise ValueError(f"`{name}` must be {wanted}. Received: a weight of {value:g}")


def _is_number(dtype):
    return dtype == "bool" or dtype.startswith(("int", "uint", "float", "bfloat"))


def _first(values, wrong):
    """The first value that is wrong, a scalar of `sum_dtype`; 0 where none is."""
    values = ops.reshape(ops.cast(values, sum_dtype()), (-1,))
    wrong = ops.reshape(wrong, (-1,))
    # Of no values at all there would be no first one.
    values = ops.concatenate([values, ops.zeros((1,), values.dtype)])
    wrong = ops.concatenate([wrong, ops.zeros((1,), "bool")])
    place = ops.argmax(ops.cast(wrong, "int32"))
    value = ops.take(values, place)
    return ops.where(ops.any(wrong), value, ops.zeros_like(value))
