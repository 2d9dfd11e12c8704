# SPDX-License-Identifier: Apache-2.0
"""Images of no class that a run learnt: of which classes they are, however named."""

import picture_folders
import pytest
from small_runs import config

from deepncm_tf.runs import unknown_images


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """A folder beside a link to it, both in the folder where the commands are given."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("pictures")
    return picture_folders.write(tmp_path / "pictures", {"a": 10, "b": 15, "c": 20})


SPELLINGS = ("pictures", "./pictures/", "{}/pictures/../pictures", "link")


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_folder_is_the_run_s_however_it_is_spelled(tmp_path, pictures, spelling):
    name = f"folder:{spelling.format(tmp_path)}"
    known = config("run", dataset="folder:pictures", known_classes="0-1")
    unknown_images.check(name, known)
    images = unknown_images.load(name, known, None)
    assert {path.parent.name for path in images.paths} == {"c"}
    for values in ({}, {"dataset": "digits", "test_dataset": "folder:pictures"}):
        whole = config("run", **{"dataset": "folder:pictures", **values})
        with pytest.raises(ValueError, match=r"--unknown must be another dataset"):
            unknown_images.check(name, whole)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("name", "known"),
    [("folder:pictures", "0-2"), ("digits", "0-9"), ("tfds:cifar10", "0-9")],
)
def test_a_run_that_knows_all_classes_leaves_none(pictures, name, known):
    run = config("run", dataset=name.removeprefix("tfds:"), known_classes=known)
    message = f"--known_classes leaves none .* --unknown={name}.* --known_classes={known}$"
    with pytest.raises(ValueError, match=message):
        unknown_images.check(name, run)
