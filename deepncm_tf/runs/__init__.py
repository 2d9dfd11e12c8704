# SPDX-License-Identifier: Apache-2.0
"""A training run: its folder, plan, model and checkpoints; and the run once finished."""

from deepncm_tf.runs.config import flags_identity
from deepncm_tf.runs.folder import LOCK, SUMMED, SUMS, RunFolder
from deepncm_tf.utils.errors import RunError

__all__ = ["LOCK", "SUMMED", "SUMS", "RunError", "RunFolder", "flags_identity"]
