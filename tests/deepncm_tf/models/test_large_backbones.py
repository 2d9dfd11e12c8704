# SPDX-License-Identifier: Apache-2.0
"""Training steps of networks for ImageNet with each method."""

import keras
import numpy as np
import pytest
from hub_presets import write_preset
from methods import each_method

from deepncm_tf import DeepNCM, backbones

C, SIZE = 3, 32


@pytest.fixture(
    scope="module",
    params=[
        "resnet50",
        pytest.param("keras:MobileNetV2", marks=pytest.mark.thorough),
        pytest.param("hub:", marks=pytest.mark.thorough),
    ],
)
def backbone(request, tmp_path_factory):
    name = request.param
    if name == "hub:":
        name += write_preset(tmp_path_factory.mktemp("preset"))
    return backbones.get(name, (SIZE, SIZE, 3))


@pytest.mark.parametrize("classifier", each_method(pytest.mark.slow))
def test_steps(backbone, classifier):
    cls, arguments = classifier
    rng = np.random.default_rng(0)
    labels = np.arange(4, dtype="int32") % C
    model = DeepNCM(backbone, cls(C, **arguments), normalize=cls.wants_unit_features)
    # Eagerly: a few steps of so many layers take less time than tracing them.
    model.compile(keras.optimizers.SGD(0.01), run_eagerly=True)
    kernel = backbone.trainable_variables[0]
    before, state = kernel.numpy(), [v.numpy() for v in model.classifier.variables]
    # In the first step no class is known, and images that were learnt already may have a
    # loss of 0: neither has a gradient.
    for _ in range(4):
        images = rng.integers(256, size=(4, SIZE, SIZE, 3)).astype("float32")
        logs = model.train_on_batch(
            {"image": images, "index": np.arange(4, dtype="int32")},
            labels,
            return_dict=True,
        )
    assert np.isfinite(list(logs.values())).all()
    assert (kernel.numpy() != before).any()
    after = [v.numpy() for v in model.classifier.variables]
    assert any((a != b).any() for a, b in zip(after, state, strict=True))
    assert np.isfinite(model.predict(images, verbose=0)).all()
