# SPDX-License-Identifier: Apache-2.0
"""scikit-learn's 1,797 handwritten digits, as images of CIFAR's size."""

import numpy as np

SIZE = 32  # pixels a side, of 8
LARGEST = 16  # of the original values


def class_names(label):
    """Names of the classes: the ten digits, or with the label `"coarse"` five pairs."""
    pairs = [f"{d} or {d + 1}" for d in range(0, 10, 2)]
    return pairs if label == "coarse" else [str(d) for d in range(10)]


def load(label):
    """The dataset as arrays, four fifths of each class for training.

    Args:
        label: `"fine"`, or `"coarse"` for five pairs of digits.

    Returns:
        Dictionary from `"train"` and `"test"` to `(images, labels)`: uint8
        `(n, 32, 32, 3)`, int32 `(n,)`.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bundled = load_digits()
    labels = bundled.target.astype("int32")
    # By NumPy: TensorFlow cannot be set up for several devices once it has computed.
    images = _resized(bundled.images, SIZE).astype("float32")
    images = np.round(images * (255 / LARGEST)).astype("uint8")
    images = np.repeat(images[..., np.newaxis], 3, axis=-1)
    train, test = train_test_split(
        np.arange(len(labels)), test_size=0.2, stratify=labels, random_state=0
    )
    if label == "coarse":
        labels = labels // 2
    return {
        "train": (images[train], labels[train]),
        "test": (images[test], labels[test]),
    }


def _resized(images, size):
    """Square images `(n, side, side)`, bilinearly, pixels' centres in their middle."""
    side = images.shape[1]
    centres = (np.arange(size) + 0.5) * (side / size) - 0.5
    weights = np.stack(
        [np.interp(centres, np.arange(side), row) for row in np.eye(side)], 1
    )
    return weights @ images @ weights.T
