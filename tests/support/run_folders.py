# SPDX-License-Identifier: Apache-2.0
"""Folders of runs that train nothing: what the flags name, opened or not."""

from deepncm_tf import flags, runs


def folder_of(path, **values):
    return runs.RunFolder(flags.resolve({**values, "model_dir": str(path)}))


def opened(path, **values):
    folder = folder_of(path, **values)
    folder.open()
    return folder
