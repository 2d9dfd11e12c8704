# SPDX-License-Identifier: Apache-2.0
"""The order in which `--help` tells of flags: by topic, then by method."""

from deepncm_tf.flags import table

TOPICS = {
    "The method": ("ncm", "embedding_dim"),
    "The data": (
        "dataset",
        "test_dataset",
        "label",
        "known_classes",
        "validation_fraction",
        "augmentation",
        "middle",
        "image_size",
        "on_bad_image",
        "data_dir",
    ),
    "The network": (
        "resnet_size",
        "resnet_version",
        "backbone",
        "weights",
        "freeze",
        "unfreeze_after",
        "init_from",
    ),
    "The training": (
        "train_epochs",
        "max_train_steps",
        "batch_size",
        "accumulate_steps",
        "learning_rate",
        "recipe",
        "weight_decay",
        "decay_batch_norm",
        "gradient_clip",
        "seed",
    ),
    "The run": (
        "model_dir",
        "overwrite",
        "epochs_between_evals",
        "checkpoint_every_steps",
    ),
    "The machine": (
        "dtype",
        "jit_compile",
        "distribution_strategy",
        "num_devices",
        "device_dataset",
    ),
}
DECODING = "Segmentation"  # what belongs to that task alone
OTHERS = "Other flags"


def groups(task):
    """Titles of topics and methods with the names of their flags, each flag of a task once.

    Args:
        task: String, as for `flags.define`.

    Returns:
        List of pairs of a string and a list of strings.
    """
    topic_of = {name: title for title, names in TOPICS.items() for name in names}
    found = {title: [] for title in (*TOPICS, DECODING)}
    for flag in sorted(table.of_task(task), key=_place):
        if flag.method:
            title = f"Of --ncm={', '.join(flag.method.split())}"
        elif flag.task == table.SEGMENTATION:
            title = DECODING
        else:
            title = topic_of.get(flag.name, OTHERS)
        found.setdefault(title, []).append(flag.name)
    if OTHERS in found:
        found[OTHERS] = found.pop(OTHERS)  # the last
    return [(title, names) for title, names in found.items() if names]


def _place(flag):
    """Flags of topics in the topics' order, the others after them as they are."""
    names = [name for names in TOPICS.values() for name in names]
    return names.index(flag.name) if flag.name in names else len(names)
