# SPDX-License-Identifier: Apache-2.0
"""Backbones of KerasHub, from presets that the tests write; skipped without it."""

import numpy as np
import pytest
from helpers import to_numpy
from hub_presets import small_backbone

from deepncm_tf import backbones
from deepncm_tf.utils.errors import UserError

SHAPE = (32, 40, 3)
IMAGES = np.random.default_rng(0).integers(256, size=(2, *SHAPE)).astype("float32")


@pytest.fixture
def hub():
    return pytest.importorskip("keras_hub")


@pytest.fixture
def backbone():
    return small_backbone()


@pytest.mark.parametrize("scaled", [False, True])
def test_a_preset_with_its_scaling_and_weights(hub, backbone, scaled, tmp_path):
    backbone.save_to_preset(str(tmp_path))
    if scaled:
        converter = hub.layers.ImageConverter(
            image_size=(16, 16), scale=[0.01, 0.02, 0.03], offset=[-1.0, 0.0, 0.5]
        )
        converter.save_to_preset(str(tmp_path))
    model = backbones.get(f"hub:{tmp_path}", SHAPE, "pretrained")
    assert model.output_shape == (None, 128)
    images = IMAGES * [0.01, 0.02, 0.03] + [-1.0, 0.0, 0.5] if scaled else IMAGES
    expected = to_numpy(backbone(images.astype("float32"))).mean(axis=(1, 2))
    np.testing.assert_allclose(to_numpy(model(IMAGES)), expected, rtol=1e-3, atol=1e-3)
    other = backbones.get(f"hub:{tmp_path}", SHAPE)
    assert (to_numpy(other(IMAGES)) != to_numpy(model(IMAGES))).any()


@pytest.mark.bad_input
def test_a_backbone_of_texts(hub, tmp_path):
    texts = hub.models.BertBackbone(
        vocabulary_size=10, num_layers=1, num_heads=1, hidden_dim=4, intermediate_dim=4
    )
    texts.save_to_preset(str(tmp_path))
    with pytest.raises(ValueError, match="preset of an image backbone"):
        backbones.get(f"hub:{tmp_path}", SHAPE)


@pytest.mark.bad_input
def test_no_such_preset(hub, tmp_path):
    with pytest.raises(UserError, match="hub:no_such_preset cannot be had"):
        backbones.get("hub:no_such_preset", SHAPE)
