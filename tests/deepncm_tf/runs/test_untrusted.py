# SPDX-License-Identifier: Apache-2.0
"""Files from elsewhere: no code of theirs is run, and what is wrong is said."""

import json
import zipfile

import keras
import numpy as np
import pytest
from helpers import small_backbone

from deepncm_tf import DeepNCM, runs
from deepncm_tf.classifiers import OnlineMean
from deepncm_tf.runs.checkpoints import Checkpoints


@pytest.mark.bad_input
def test_a_lambda_is_refused(tmp_path):
    backbone = keras.Sequential(
        [keras.Input((2, 2, 3)), keras.layers.Lambda(lambda x: x), keras.layers.Flatten()]
    )
    DeepNCM(backbone, OnlineMean(2)).save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match=r"(?s)Lambda.*arbitrary code|unsafe"):
        keras.models.load_model(tmp_path / "model.keras")


@pytest.mark.bad_input
def test_an_unknown_class_is_refused(tmp_path):
    path = tmp_path / "model.keras"
    DeepNCM(small_backbone(), OnlineMean(2)).save(path)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    config = parts["config.json"].decode()
    assert "OnlineMean" in config
    parts["config.json"] = config.replace("OnlineMean", "StolenMean").encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    with pytest.raises((TypeError, ValueError), match="StolenMean"):
        keras.models.load_model(path)


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was loaded",))


@pytest.mark.bad_input
def test_a_pickle_in_a_checkpoint_is_not_loaded(tmp_path, capsys):
    array = np.empty(1, dtype=object)
    array[0] = Bomb()
    path = tmp_path / "epoch-00001-batch-0000000.npz"
    np.savez(path, **{"0000": array})
    with pytest.raises(runs.RunError, match=r"All checkpoints in .* are damaged"):
        Checkpoints(tmp_path, [keras.Variable(0.0)]).restore()
    assert "allow_pickle=False" in capsys.readouterr().err


@pytest.mark.bad_input
def test_json_only(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"flags": {"seed": 2}}))
    with pytest.raises(runs.RunError, match="holds another run"):
        runs.RunFolder({"model_dir": str(tmp_path), "overwrite": False, "seed": 1}).check()
