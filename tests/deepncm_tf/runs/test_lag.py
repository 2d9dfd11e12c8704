# SPDX-License-Identifier: Apache-2.0
"""The note of the first evaluations, while batch normalization's averages lag."""

import keras
import numpy as np

from deepncm_tf import DeepNCM
from deepncm_tf.classifiers import Softmax
from deepncm_tf.runs import lag
from official_resnet import cifar_resnet


def test_the_share_is_what_the_layer_keeps():
    layer = keras.layers.BatchNormalization(momentum=0.9)
    layer.build((None, 1))
    layer.moving_mean.assign([100.0])
    for _ in range(5):
        layer(np.zeros((4, 1)), training=True)
    kept = float(layer.moving_mean[0])
    note = lag.Lag(0.9).note(5)
    assert f"after 5 steps batch normalization's averages are still {kept:.0f} %" in note
    assert lag.Lag(0.9).note(28)
    assert lag.Lag(0.9).note(29) is None


def test_of_a_model():
    assert lag.of(cifar_resnet(8, bn_momentum=0.9)) == lag.Lag(0.9)
    model = DeepNCM(cifar_resnet(8, bn_momentum=0.9), Softmax(2), accumulate_steps=3)
    assert lag.of(model).note(9) == lag.Lag(0.9, 3).note(9)
    assert (lag.of(model).note(9), lag.of(model).note(10)) != (None, None)
    frozen = cifar_resnet(8, bn_momentum=0.9)
    frozen.trainable = False
    assert lag.of(frozen) is None
    assert lag.of(keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])) is None
