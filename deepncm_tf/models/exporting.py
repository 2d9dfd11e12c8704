# SPDX-License-Identifier: Apache-2.0
"""SavedModels with several endpoints on images."""

import keras


def export_endpoints(model, filepath, endpoints, verbose=None):
    """Writes a SavedModel.

    Args:
        model: A built model with `image_shape`.
        filepath: Path of the folder to write.
        endpoints: Dictionary from names to functions of float32 images `(batch, ...)`.
        verbose: Bool, whether to print the endpoints; None for True.
    """
    archive = keras.export.ExportArchive()
    archive.track(model)
    signature = [keras.InputSpec(shape=model.image_shape, dtype="float32")]
    for name, function in endpoints.items():
        archive.add_endpoint(name, function, signature)
    archive.write_out(filepath, verbose=verbose if verbose is not None else True)
