# SPDX-License-Identifier: Apache-2.0
"""Images of no class that a run learnt: those of another dataset, or of other classes."""

from deepncm_tf import flags
from deepncm_tf.data import datasets


def check(name, config):
    """Raises a ValueError where a dataset has no images of other classes."""
    is_own = name == config["dataset"]
    if not datasets.is_known(name) or (is_own and config["known_classes"] is None):
        raise ValueError(
            f"--unknown must be another dataset than the run's, one of "
            f"{sorted(datasets.DATASETS)} or folder:PATH, or that of a run with "
            f"--known_classes. Received: --unknown={name}, of a run on {config['dataset']}"
        )


def load(name, config, data_dir):
    """Test images of another dataset, or of the classes that the run did not learn."""
    others = None
    if name == config["dataset"]:
        number = datasets.num_classes(name, "fine", data_dir)
        others = sorted(set(range(number)) - set(flags.classes(config)))
    size = flags.image_size(config)
    splits = datasets.load(
        name,
        data_dir=data_dir,
        image_size=size,
        on_bad_image=config["on_bad_image"],
        classes=others,
    )
    return splits["test"][0]
