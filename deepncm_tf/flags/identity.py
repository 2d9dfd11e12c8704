# SPDX-License-Identifier: Apache-2.0
"""What tells runs apart, and the name of a run."""

import hashlib
import os
import re

from deepncm_tf.flags.table import ALL_FLAGS, TABLE, canonical_value, default_of

ALWAYS_NAMED = (
    "decay",
    "condensation_steps",
    "num_sub_centroids",
    "learning_rate",
    "seed",
    "decoder",  # without which it could be the name of a classification
)
LONGEST_NAME = 180  # characters; a log's name has some more, and the usual limit is 255


def identity(config):
    """The part of a resolved config that determines the result."""
    return {
        name: canonical_value(name, value)
        for name, value in config.items()
        if TABLE[name].identity
    }


def run_name(config):
    """Name of a run: dataset, method, and what is not the published recipe.

    Args:
        config: Dictionary of resolved flags.

    Returns:
        String, fit for a file name; equal for equal identities only.
    """
    kept = identity(config)
    parts = [_in_file_name(kept["dataset"]), config["ncm"]]
    for flag in ALL_FLAGS:
        name, value = flag.name, kept.get(flag.name)
        if name not in kept or name in ("dataset", "ncm"):
            continue
        if name in ALWAYS_NAMED or value != default_of(flag, config):
            parts.append(f"{name}={_in_file_name(value)}")
    whole = "_".join(parts)
    # Seed and learning rate stand at the end: a digest of all of it keeps names apart.
    if len(whole) <= LONGEST_NAME:
        return whole
    digest = hashlib.sha256(whole.encode()).hexdigest()[:16]
    return f"{whole[: LONGEST_NAME - len(digest) - 1]}_{digest}"


def _in_file_name(value):
    """A flag's value; of a path its end and a digest, and nothing that a shell reads."""
    text = str(value)
    if re.fullmatch(r"[\w.,=+-]*", text, flags=re.ASCII):
        return text
    end = re.sub(r"[^\w.,=+-]", "-", os.path.basename(text), flags=re.ASCII)
    return f"{end}-{hashlib.sha256(os.fsencode(text)).hexdigest()[:16]}"
