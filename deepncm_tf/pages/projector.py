# SPDX-License-Identifier: Apache-2.0
"""Features as what TensorBoard's projector reads."""

import pathlib

import numpy as np

from deepncm_tf.pages import pictures
from deepncm_tf.utils import files

SPRITE_WIDTH = 8192  # pixels, the largest that the projector takes


def write_projector(folder, features, labels, images, class_names):
    """Writes files for TensorBoard's projector: `tensorboard --logdir FOLDER`.

    Args:
        folder: Path of a folder.
        features: `(n, d)` array.
        labels: `(n,)` integers.
        images: `(n, h, w, c)` uint8, thumbnails; as many as fit a sprite are used.
        class_names: List of strings.

    Returns:
        Int, how many of the n are in the files.
    """
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    height, width = images.shape[1:3]
    columns = min(int(np.ceil(len(images) ** 0.5)), SPRITE_WIDTH // width)
    number = min(len(images), columns * (SPRITE_WIDTH // height))
    sprite = np.zeros((columns * columns, *images.shape[1:]), "uint8")
    sprite[:number] = images[:number]
    sprite = sprite.reshape(columns, columns, *images.shape[1:])
    sprite = sprite.transpose(0, 2, 1, 3, 4).reshape(columns * height, columns * width, -1)
    names = [" ".join(name.split()) for name in class_names]
    rows = (f"{i}\t{names[labels[i]]}\n" for i in range(number))
    tensors = ("\t".join(f"{x:.6g}" for x in row) + "\n" for row in features[:number])
    texts = {
        "tensors.tsv": "".join(tensors),
        "metadata.tsv": "index\tclass\n" + "".join(rows),
        "projector_config.pbtxt": (
            'embeddings {\n  tensor_name: "features"\n  tensor_path: "tensors.tsv"\n'
            '  metadata_path: "metadata.tsv"\n  sprite {\n    image_path: "sprite.png"\n'
            f"    single_image_dim: {width}\n    single_image_dim: {height}\n  }}\n}}\n"
        ),
    }
    files.write_atomically(
        folder / "sprite.png", lambda path: path.write_bytes(pictures.png(sprite))
    )
    for name, text in texts.items():
        files.write_atomically(folder / name, lambda path, text=text: path.write_text(text))
    return number
