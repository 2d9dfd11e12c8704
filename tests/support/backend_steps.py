# SPDX-License-Identifier: Apache-2.0
"""Steps of every method and other uses of models on the backend in use, in float64.

    python backend_steps.py START.npz FOUND.npz

reads the weights to begin with, or makes them where there is no such file, and writes what
came out. Keras, the backend, NumPy and the package are enough: no TensorFlow.
"""

import pathlib
import sys

import backend_uses as uses
import keras
import numpy as np
from keras.src.backend.common import dtypes

import deepncm_tf  # noqa: F401
from deepncm_tf import classifiers
from deepncm_tf.models.deep_ncm import DeepNCM
from official_resnet import BatchNormalization

# Elsewhere than on TensorFlow, Keras makes float32 of float64 wherever it looks for the
# dtype of a result: here the mathematics is compared, not that rounding.
dtypes.BIT64_TO_BIT32_DTYPE["float64"] = "float64"

C, BATCH, STEPS, SAMPLES = 3, 8, 3, 45
# Numbers are binary fractions: some of them Keras takes for float32 on one backend, such as
# an optimizer's momentum on TensorFlow, and not on another.
ARGUMENTS = {
    "condensation": {"condensation_steps": 2},
    "decay": {"decay": 0.5},
    "dnc": {"num_sub_centroids": 3, "momentum": 0.875, "memory_size": 24},
    "nca": {"bank_size": SAMPLES, "temperature": 0.5, "margin": 0.125},
    "lda": {"refresh_steps": 2, "shrinkage": 0.125},
    "ranpac": {"num_features": 20, "seed": 1},
}
# Variants of the step, by name: arguments of `DeepNCM`, and of `compile`.
VARIANTS = {
    **{name: (name, {}, {}) for name in classifiers.NAMES},
    "clip, l2": ("online", {"gradient_clip": 0.0625, "l2": 2.0**-7}, {}),
    "parts of a batch": ("dnc", {"accumulate_steps": 3, "l2": 2.0**-7}, {}),
}
# What else models are used for, by name: what makes the model, and the use.
USES = {
    "fit, validate": (lambda: make_model("decay"), uses.fit_and_validate),
    "predict, embed, look up": (
        lambda: make_model("decay"),
        uses.predict_embed_and_look_up,
    ),
    "freeze, unfreeze": (lambda: make_model("decay"), uses.freeze_and_unfreeze),
    "save, load, train on": (lambda: make_model("dnc"), uses.save_and_load),
    "anchor, explain": (lambda: make_model("dnc"), uses.anchor_and_explain),
    "calibrate, classify": (lambda: make_model("lda"), uses.calibrate_and_classify),
    "change classes": (lambda: make_model("online"), uses.change_classes),
    "layer(features, labels)": (
        lambda: make_model("decay"),
        uses.learn_in_another_model,
    ),
    "inputs by name": (uses.make_model_of_several_inputs, uses.take_inputs_by_name),
    "segment pixels": (uses.make_segmenter, uses.segment_pixels),
}


def make_model(variant):
    name, options, compiled = VARIANTS[variant]
    backbone = keras.Sequential(
        [
            keras.Input((4, 4, 3), name="image"),
            keras.layers.Conv2D(4, 3, padding="same"),
            BatchNormalization(momentum=0.875),
            keras.layers.ReLU(),
            keras.layers.Flatten(),
            keras.layers.Dense(6, activity_regularizer=keras.regularizers.L2(2.0**-10)),
        ]
    )
    method = classifiers.NAMES[name]
    model = DeepNCM(
        backbone,
        method(C, **ARGUMENTS.get(name, {})),
        embedding_dim=5,
        normalize=method.wants_unit_features,
        **options,
    )
    optimizer = keras.optimizers.SGD(2.0**-7, momentum=0.875)
    model.compile(optimizer, metrics=["accuracy"], **compiled)
    return model


def samples():
    """Images, labels and weights; the last batch of an epoch is a part of one."""
    rng = np.random.default_rng(0)
    labels = rng.integers(C, size=SAMPLES).astype("int32")
    images = rng.normal(size=(SAMPLES, 4, 4, 3)) + labels[:, None, None, None]
    return images, labels, rng.uniform(size=SAMPLES)


def trained(model):
    """What steps, an evaluation and `adapt` give: arrays by name."""
    images, labels, sample_weight = samples()
    found = {}
    for step in range(STEPS):
        rows = np.arange(step * BATCH, (step + 1) * BATCH)
        inputs = {"image": images[rows], "index": rows.astype("int32")}
        batch = inputs, labels[rows], sample_weight[rows]
        logs = model.train_on_batch(*batch, return_dict=True)
        found |= {f"step {step} {name}": value for name, value in logs.items()}
    found |= {f"weights {n}": value for n, value in enumerate(model.get_weights())}
    logs = model.test_on_batch(*batch, return_dict=True)
    found |= {f"evaluation {name}": value for name, value in logs.items()}
    if model.classifier.adapts_from is not None:
        model.adapt(images, labels, batch_size=SAMPLES, verbose=0)
        found |= {f"adapted {n}": value for n, value in enumerate(model.get_weights())}
    return found


def compute(name, weights=None):
    """The weights that a model begins with, and what became of it: arrays by name."""
    keras.utils.set_random_seed(0)
    if name in VARIANTS:
        model = make_model(name)
    else:
        make, use = USES[name]
        model = make()
    if weights is not None:
        model.set_weights(weights)
    start = model.get_weights()
    found = trained(model) if name in VARIANTS else use(model, *samples()[:2])
    return start, {name: np.asarray(value) for name, value in found.items()}


def main(start_path, found_path):
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    known, starts, found = pathlib.Path(start_path).exists(), {}, {}
    if known:
        starts = dict(np.load(start_path))
    for variant in (*VARIANTS, *USES):
        names = [name for name in starts if name.startswith(f"{variant}/")]
        names.sort(key=lambda name: int(name.rpartition("/")[2]))
        start, arrays = compute(variant, [starts[n] for n in names] if known else None)
        if not known:
            starts |= {f"{variant}/{n}": array for n, array in enumerate(start)}
        found |= {f"{variant}/{name}": array for name, array in arrays.items()}
    if not known:
        np.savez(start_path, **starts)
    np.savez(found_path, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
