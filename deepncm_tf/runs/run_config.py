# SPDX-License-Identifier: Apache-2.0
"""The flags of a finished run, as its config.json has them, checked."""

import json
import pathlib

from deepncm_tf import flags, runs

NEEDED = ("ncm", "dataset")  # without which nothing is known of a run


def read_config(model_dir):
    """The resolved flags of a finished run.

    A flag that there was not yet when the run was begun has the value of what runs did
    then; flags that there are no more are left out.

    Args:
        model_dir: Path of the run's folder.

    Raises:
        RunError: If there is no finished run, or its flags are damaged.
    """
    folder = pathlib.Path(model_dir)
    try:
        config = _checked(json.loads((folder / "config.json").read_bytes()))
        finished = (folder / "model.keras").is_file()
    except (OSError, ValueError, RecursionError) as error:
        raise runs.RunError(
            "--model_dir must be the folder of a run of cifar_main "
            f"({type(error).__name__}: {str(error)[:200]}). "
            f"Received: --model_dir={model_dir}"
        ) from error
    if not finished:
        raise runs.RunError(
            "--model_dir must be the folder of a finished run; this one has no model.keras "
            f"yet. Received: --model_dir={model_dir}"
        )
    return config


def _checked(content):
    """Flags of a config.json; raises a ValueError where they are none."""
    found = content.get("flags") if isinstance(content, dict) else None
    if not isinstance(found, dict) or not set(NEEDED) <= set(found):
        raise ValueError(f"config.json has no flags such as {' and '.join(NEEDED)}")
    found = {name: value for name, value in found.items() if name in flags.TABLE}
    for name, value in found.items():
        flag = flags.TABLE[name]
        if value is None and flag.default is None and not flag.from_dataset:
            continue
        if not _is_of_kind(value, flag.kind) or not flag.accepts(value):
            wanted = flag.wanted or f"of type {flag.kind.__name__}"
            text = str(value)[:60]
            raise ValueError(f"--{name} must be {wanted}. Received: --{name}={text}")
    config = {**_before(found["ncm"]), **found}
    flags.resolve({name: value for name, value in config.items() if value is not None})
    return config


def _is_of_kind(value, kind):
    """Whether it is of a flag's type; JSON may write 1.0 as 1."""
    return type(value) in ((int, float) if kind is float else (kind,))


def _before(method):
    """What runs of a method did before there were the flags."""
    return {
        flag.name: flag.default if flag.before is None else flag.before
        for flag in flags.FLAGS
        if flag.method in ("", method) and not flag.from_dataset
    }
