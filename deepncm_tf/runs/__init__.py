# SPDX-License-Identifier: Apache-2.0
"""One training run: its folder, checkpoints and signals, and the run once it is finished."""

from deepncm_tf.runs.folder import LOCK, SUMMED, SUMS, RunError, RunFolder, flags_identity

__all__ = ["LOCK", "SUMMED", "SUMS", "RunError", "RunFolder", "flags_identity"]
