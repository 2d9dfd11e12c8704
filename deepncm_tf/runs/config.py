# SPDX-License-Identifier: Apache-2.0
"""What config.json says of a run: its flags, and what it was begun with."""

import json
import pathlib

from deepncm_tf import flags
from deepncm_tf.utils.errors import RunError

NEEDED = ("ncm", "dataset")  # without which nothing is known of a run


def read_stored(folder):
    """What the config.json in a run's folder holds; as `parse_stored`.

    Raises:
        OSError: If there is none that can be read.
    """
    return parse_stored((pathlib.Path(folder) / "config.json").read_bytes())


def parse_stored(text):
    """What the text of a config.json holds.

    Returns:
        Dictionary of dictionaries: `flags`, `versions` and `environment`; the last two are
        empty for a run of a version that did not record them.

    Raises:
        ValueError: If it is not that of a run.
    """
    try:
        content = json.loads(text)
    except RecursionError as error:
        raise ValueError(f"RecursionError: {error}") from error
    content = content if isinstance(content, dict) else {}
    stored = {part: content.get(part, {}) for part in ("flags", "versions", "environment")}
    if not all(isinstance(part, dict) for part in stored.values()) or not stored["flags"]:
        raise ValueError(f"config.json has no flags such as {' and '.join(NEEDED)}")
    return stored


def read_config(model_dir, flag="model_dir", tasks=(flags.CLASSIFICATION,)):
    """The resolved flags of a finished run.

    A flag that there was not yet when the run was begun has the value of what runs did
    then; flags that there are no more are left out.

    Args:
        model_dir: Path of the run's folder.
        flag: String, name of the flag that says so.
        tasks: Strings, those that the run may be of.

    Raises:
        RunError: If there is no finished run, its flags are damaged, or it is of another
            task.
    """
    folder = pathlib.Path(model_dir)
    try:
        config = _checked(read_stored(folder)["flags"])
        finished = (folder / "model.keras").is_file()
    except (OSError, ValueError) as error:
        raise RunError(
            f"--{flag} must be the folder of a run of cifar_main "
            f"({type(error).__name__}: {str(error)[:200]}). "
            f"Received: --{flag}={model_dir}"
        ) from error
    if not finished:
        raise RunError(
            f"--{flag} must be the folder of a finished run; this one has no model.keras "
            f"yet. Received: --{flag}={model_dir}"
        )
    task = flags.task_of(config)
    if task not in tasks:
        raise RunError(
            f"--{flag} must be the folder of a run of "
            f"{' or '.join(flags.PROGRAMS[one] for one in tasks)}. Received: "
            f"--{flag}={model_dir}, of {flags.PROGRAMS[task]}"
        )
    return config


def _checked(values):
    """Flags of a config.json; raises a ValueError where they are none."""
    if not set(NEEDED) <= set(values):
        raise ValueError(f"config.json has no flags such as {' and '.join(NEEDED)}")
    values = {
        name: _checked_value(flags.TABLE[name], value)
        for name, value in values.items()
        if name in flags.TABLE
    }
    config = {**_before(values), **values}
    flags.resolve({name: value for name, value in config.items() if value is not None})
    return config


def _checked_value(flag, value):
    """`Flag.checked`; None where unset has a meaning."""
    is_unset = value is None and flag.default is None and not flag.from_dataset
    return None if is_unset else flag.checked(value)


def _before(config):
    """What runs of a config's task and method did before there were the flags."""
    task, before = flags.task_of(config), {}
    for flag in flags.of_task(task):
        is_of_method = not flag.methods or config.get("ncm") in flag.methods
        if is_of_method and not flag.from_dataset:
            default = flag.from_task.get(task, flag.default)
            before[flag.name] = default if flag.before is None else flag.before
    return before


def flags_identity(config):
    """`flags.identity` of a config that another version may have written.

    A flag that the other version did not have counts as what it did then.
    """
    known = {name: value for name, value in config.items() if name in flags.TABLE}
    return flags.identity({**_before(config), **known})
