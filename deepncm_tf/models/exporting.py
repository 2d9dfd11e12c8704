# SPDX-License-Identifier: Apache-2.0
"""SavedModels with several endpoints."""

import keras


def export_endpoints(model, filepath, endpoints, verbose=None):
    """Writes a SavedModel.

    Args:
        model: A built model with `input_signature`.
        filepath: Path of the folder to write.
        endpoints: Dictionary from names to functions of what the model takes.
        verbose: Bool, whether to print the endpoints; None for True.
    """
    archive = keras.export.ExportArchive()
    archive.track(model)
    for name, function in endpoints.items():
        archive.add_endpoint(name, function, model.input_signature)
    archive.write_out(filepath, verbose=verbose if verbose is not None else True)
