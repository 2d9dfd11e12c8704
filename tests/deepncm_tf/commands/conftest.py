# SPDX-License-Identifier: Apache-2.0
"""A finished run, trained once for all the command lines that read it."""

import shutil

import pytest
import taught
from small_runs import use_few_digits, use_small_network

from deepncm_tf import flags
from deepncm_tf.runs import training


@pytest.fixture(scope="module")
def patch():
    with pytest.MonkeyPatch.context() as patch:
        use_few_digits(patch)
        use_small_network(patch)
        yield patch


OTHERS = ("softmax",)
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in OTHERS]


@pytest.fixture(scope="session", params=["dnc", *SLOW])
def finished(request, tmp_path_factory):
    """Method and folder of a run on pairs of digits."""
    folder = tmp_path_factory.mktemp("runs") / request.param
    values = {"ncm": request.param, "dataset": "digits", "label": "coarse"}
    values |= {"train_epochs": 2, "model_dir": str(folder)}
    if request.param == "dnc":
        values |= {"num_sub_centroids": "2", "sub_centroid_initializer": "samples"}
    with pytest.MonkeyPatch.context() as patch:
        use_few_digits(patch)
        use_small_network(patch)
        training.run(flags.resolve(values))
    return request.param, folder


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    return taught.write_pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="session")
def model(pictures, tmp_path_factory):
    """A model, and what teach printed, of pictures of which one lies among others."""
    folder = tmp_path_factory.mktemp("taught")
    shutil.copy(pictures / "green" / "001.jpg", pictures / "blue" / "green.jpg")
    with pytest.MonkeyPatch.context() as patch:
        taught.use_small_backbone(patch)
        taught.run(patch, f"--images=folder:{pictures}", f"--output={folder / 'my.keras'}")
    return folder / "my.keras"
