# SPDX-License-Identifier: Apache-2.0
"""What goes into a model: an array, or several by name or in order, as `fit` takes them.

A batch may be a dictionary with `"index"`, the samples' rows in a bank. What else is in it
are the backbone's inputs by name; `"image"` alone stands for all that the backbone takes.
"""

import itertools

import keras
import numpy as np

from deepncm_tf.models.no_samples import refuse_empty
from deepncm_tf.numerics.labels import known_shape

INDEX, ONLY = "index", "image"


def unpack_inputs(inputs):
    """Splits a batch into what the backbone takes and indices (or None).

    Args:
        inputs: Structure of tensors, arrays or shapes.
    """
    if not isinstance(inputs, dict):
        return inputs, None
    others = {name: value for name, value in inputs.items() if name != INDEX}
    if not others:
        raise ValueError(
            f'`x` must hold more than "{INDEX}": what the backbone takes. Received: a '
            f"dictionary with {sorted(inputs)}"
        )
    if set(others) == {ONLY}:
        return others[ONLY], inputs.get(INDEX)
    return others, inputs.get(INDEX)


def of_backbone(backbone):
    """What a functional backbone takes: `(shapes, dtypes)`, or None where it does not say.

    Returns:
        The shape of its only input, or a dictionary of them by name; dtypes as strings, a
        flat list.
    """
    inputs = getattr(backbone, "inputs", None) if backbone.built else None
    if not inputs:
        return None
    if len(inputs) == 1:
        return inputs[0].shape, [inputs[0].dtype]
    structure = backbone.input
    named = structure if isinstance(structure, dict) else {i.name: i for i in inputs}
    if INDEX in named:
        raise ValueError(
            f'`backbone` must have no input with the name "{INDEX}", which is that of the '
            f"samples' rows in a bank. Received: inputs {sorted(named)}"
        )
    flat = keras.tree.flatten(named)
    return {name: i.shape for name, i in named.items()}, [i.dtype for i in flat]


def of_batch(x):
    """As `of_backbone`, for a batch without indices."""
    flat = keras.tree.flatten(x)
    dtypes = [keras.backend.standardize_dtype(tensor.dtype) for tensor in flat]
    floatx = keras.config.floatx()  # in which Keras hands on whatever floats it gets
    dtypes = [floatx if dtype.startswith("float") else dtype for dtype in dtypes]
    shapes = [(None, *known_shape(tensor, "x")[1:]) for tensor in flat]
    return keras.tree.pack_sequence_as(x, shapes), dtypes


def symbols(shapes, dtypes=None):
    """`keras.KerasTensor`s of shapes, float32 where no dtypes are known."""
    dtypes = iter(dtypes or ["float32"] * len(flat_shapes(shapes)))
    if isinstance(shapes, dict):
        shapes = dict(shapes)  # of an attribute it is Keras's own kind, which JAX refuses
    return keras.tree.map_shape_structure(
        lambda shape: keras.KerasTensor(tuple(shape), next(dtypes)), shapes
    )


def specs(shapes, dtypes):
    """`keras.InputSpec`s of shapes, as an exported model takes them."""
    structure = symbols(shapes, dtypes)

    def spec(symbol, name=None):
        return keras.InputSpec(shape=symbol.shape, dtype=symbol.dtype, name=name)

    if isinstance(structure, dict):
        return {name: spec(symbol, name) for name, symbol in structure.items()}
    return keras.tree.map_structure(spec, structure)


def as_taken(backbone, x):
    """Inputs in the structure that a backbone was made with, where it has one by name."""
    structure = getattr(backbone, "_inputs_struct", None)
    if isinstance(structure, dict) and len(structure) == 1 and not isinstance(x, dict):
        return dict.fromkeys(structure, x)
    return x


def given_by(backbone, x):
    """What a backbone says that it gives, or else does for symbols: a structure of them."""
    outputs = getattr(backbone, "outputs", None) if backbone.built else None
    if not outputs:
        return backbone(as_taken(backbone, x))
    is_named = isinstance(getattr(backbone, "_outputs_struct", None), dict)
    return backbone.output if is_named else outputs[0] if len(outputs) == 1 else outputs


def check_shapes(x, wanted):
    """Raises a `ValueError` unless inputs have the shapes that a model was built for.

    Args:
        x: Structure of tensors or arrays, without indices.
        wanted: Structure of shapes with their batch axis; None where a size may vary.
    """
    if isinstance(wanted, dict):
        _check_names(x, wanted)
        if isinstance(x, dict):
            for name, shape in wanted.items():
                check_shape(x[name], shape, f"x[{name!r}]")
        return
    if _is_shape(wanted):
        if isinstance(x, dict):
            raise ValueError(
                "`x` must be what the backbone takes, or a dictionary with it as "
                f'"{ONLY}" and maybe "{INDEX}". Received: a dictionary with {sorted(x)}'
            )
        check_shape(x, wanted)
        return
    if not isinstance(x, list | tuple) or len(x) != len(wanted):
        raise ValueError(
            f"`x` must be a tuple of {len(wanted)} inputs, as the model was built for. "
            f"Received: {type(x).__name__}"
        )
    for number, (part, shape) in enumerate(zip(x, wanted, strict=True)):
        check_shape(part, shape, f"x[{number}]")


def check_shape(x, wanted, name="x"):
    """As `check_shapes`, of one input."""
    shape = known_shape(x, name)
    if len(shape) == len(wanted) and all(
        a is None or b is None or a == b for a, b in zip(shape[1:], wanted[1:], strict=True)
    ):
        return
    sizes = ", ".join(map(str, ("batch", *wanted[1:]))) + ("," if len(wanted) == 1 else "")
    text = (
        f"`{name}` must be of shape ({sizes}), as the model was built for. "
        f"Received: shape {shape}"
    )
    if len(shape) == len(wanted) - 1:
        text += f"; a single sample needs a batch axis in front, {name}[None]"
    raise ValueError(text)


def as_arrays(x, wanted):
    """Inputs as NumPy arrays, without indices.

    Args:
        x: Arrays, or a list of the samples where there is one input.
        wanted: As in `check_shapes`, or None where that is not known yet.
    """
    x = unpack_inputs(x)[0]
    is_one = wanted is None or _is_shape(wanted)
    if is_one and isinstance(x, list | tuple):
        return np.asarray(x)
    return keras.tree.map_structure(np.asarray, x)


def is_arrays(x):
    """Whether these are arrays of all samples, not a dataset that gives batches."""
    if callable(getattr(x, "cardinality", None)):
        return False
    if isinstance(x, list) and any(isinstance(part, list | tuple | dict) for part in x):
        return False  # batches in a list
    parts = keras.tree.flatten(x)
    return bool(parts) and all(hasattr(part, "shape") for part in parts)


def batches(x):
    """Batches of a `tf.data.Dataset`, `PyDataset`, `DataLoader` or generator."""
    if isinstance(x, keras.utils.PyDataset):
        return (x[number] for number in range(len(x)))
    return iter(x)


def peek(x):
    """The first batch of a dataset, and the dataset with it.

    A generator gives what is left after the first batch: both are joined again.
    """
    if hasattr(x, "element_spec"):
        return x.element_spec, x
    iterator = batches(x)
    first = next(iterator, None)
    if first is None:
        refuse_empty([])
    if iterator is not x:
        return first, x

    def again():
        yield first
        yield from iterator

    return first, again()


def labelled_arrays(x, y, wanted, steps=None):
    """Samples with their labels, all of them at once.

    Args:
        x: As for `fit`; of a dataset, batches of (inputs, labels).
        y: Labels of samples in arrays; None for a dataset.
        wanted: As in `as_arrays`.
        steps: Int, number of batches that are taken of a dataset, or None for all.

    Returns:
        `(x, y, index)`: arrays of inputs as from `as_arrays`, labels, and rows in a bank
        where a dataset gives them; else None.
    """
    index = None
    if y is None:
        if is_arrays(x):
            raise ValueError(
                "`y`, the labels, must be given with samples in arrays. Received: y=None"
            )
        x, y, index = collect(x, steps)
    elif not is_arrays(x) and not isinstance(x, list | tuple | dict):
        raise ValueError(
            "`y` must be None where `x` is a dataset, which gives the labels. Received: "
            f"x of type {type(x).__name__} and y of type {type(y).__name__}"
        )
    return as_arrays(x, wanted), y, index


def collect(dataset, steps=None):
    """Inputs, labels and index (or None) of the batches of a dataset, as arrays."""
    if steps is None and hasattr(dataset, "cardinality") and dataset.cardinality() == -1:
        raise ValueError("`steps` must be given for a dataset without end. Received: None")
    parts = []
    for batch in itertools.islice(batches(dataset), steps):
        inputs, labels, _ = keras.utils.unpack_x_y_sample_weight(batch)
        if labels is None:
            raise ValueError(
                "`x` must be a dataset of (inputs, labels), or `y` must be given. "
                "Received: a dataset without labels"
            )
        x, index = unpack_inputs(inputs)
        part = [x, labels] if index is None else [x, labels, index]
        parts.append(keras.tree.map_structure(np.asarray, part))
    refuse_empty(parts)
    x, labels, *index = keras.tree.map_structure(lambda *a: np.concatenate(a), *parts)
    known = bool(index) and (index[0] >= 0).all()
    return x, labels, index[0] if known else None


def _check_names(x, wanted):
    if isinstance(x, dict):
        fits = set(x) == set(wanted)
        received = f"a dictionary with {sorted(x)}"
    else:
        fits = isinstance(x, list | tuple) and len(x) == len(wanted)
        received = f"{type(x).__name__}"
    if not fits:
        raise ValueError(
            f"`x` must be a dictionary with the backbone's inputs {sorted(wanted)}, and "
            f'maybe "{INDEX}". Received: {received}'
        )


def _is_shape(shapes):
    return all(size is None or isinstance(size, int) for size in shapes)


def flat_shapes(shapes):
    """The shapes in a structure, a list."""
    found = []
    keras.tree.map_shape_structure(lambda shape: found.append(shape) or 0, shapes)
    return found
