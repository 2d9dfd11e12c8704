# SPDX-License-Identifier: Apache-2.0
"""What is done with models besides steps: functions to arrays by name."""

import pathlib
import tempfile

import keras
from small_segmenters import images_and_masks, segmenter

from deepncm_tf import classifiers
from deepncm_tf.models.deep_ncm import DeepNCM


def fit_and_validate(model, images, labels):
    """`fit` on arrays, with validation, and its history."""
    fitted = model.fit(
        *(images, labels),
        batch_size=8,
        epochs=2,
        shuffle=False,
        validation_data=(images[:20], labels[:20]),
        verbose=0,
    )
    return fitted.history


def predict_embed_and_look_up(model, images, labels):
    model.index(images, labels, verbose=0)
    found = model.lookup(images[:9], k=3, verbose=0)
    return {
        "logits": model.predict(images, verbose=0),
        "probabilities": model.predict_proba(images, verbose=0),
        "features": model.embed(images, verbose=0),
        "rows": found.rows,
        "similarities": found.similarities,
    }


def freeze_and_unfreeze(model, images, labels):
    """What is frozen once the optimizer has it stays as it is, and so do its slots."""
    found = {}
    for step, trainable in enumerate((True, False, False, True)):
        model.backbone.trainable = trainable
        model.make_train_function(force=True)
        rows = slice(8 * step, 8 * step + 8)
        logs = model.train_on_batch(images[rows], labels[rows], return_dict=True)
        found |= {f"step {step} {name}": value for name, value in logs.items()}
        variables = [*model.variables, *model.optimizer.variables]
        found |= {f"step {step} {n}": v.numpy() for n, v in enumerate(variables)}
    return found


def save_and_load(model, images, labels):
    model.train_on_batch(images[:8], labels[:8])
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "model.keras")
        model.save(path)
        loaded = keras.models.load_model(path)
    logs = loaded.train_on_batch(images[8:16], labels[8:16], return_dict=True)
    return {**logs, "logits": loaded.predict(images, verbose=0)}


def anchor_and_explain(model, images, labels):
    model.adapt(images, labels, verbose=0)
    exemplars = model.anchor(images, labels, verbose=0)
    with tempfile.TemporaryDirectory() as folder:
        explained = model.explain(images[:4], folder, verbose=0)
    return {
        "rows": exemplars.index,
        "logits": model.predict(images, verbose=0),
        "predicted": [int(one["predicted"]) for one in explained],
    }


def calibrate_and_classify(model, images, labels):
    model.adapt(images, labels, verbose=0)
    model.calibrate(images, labels, alpha=0.25, verbose=0)
    found = model.classify(images, verbose=0)
    return {
        "classes": found.classes,
        "p-values": found.p_values,
        "sets": found.prediction_sets.astype("int32"),
    }


def change_classes(model, images, labels):
    model.adapt(images, labels, verbose=0)
    changed = model.remove_classes([1]).add_classes(1).merge_classes({"both": [0, 2]})
    return {"logits": changed.predict(images, verbose=0)}


def learn_in_another_model(model, images, labels):
    """By `layer(features, labels)`, in a functional model."""
    pixels, label = model.backbone.inputs[0], keras.Input((), dtype="int32", name="label")
    logits = classifiers.DecayMean(3, decay=0.5)(model.backbone.outputs[0], label)
    other = keras.Model([pixels, label], logits)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    other.compile(keras.optimizers.SGD(2.0**-7), loss)
    losses = [
        other.train_on_batch([images[rows], labels[rows]], labels[rows], return_dict=True)[
            "loss"
        ]
        for rows in (slice(8), slice(8, 16))
    ]
    return {"losses": losses, "logits": other.predict([images, labels], verbose=0)}


def segment_pixels(model, images, labels):
    images, masks = images_and_masks(4)
    found = {}
    for step in range(2):
        logs = model.train_on_batch(images / 256.0, masks, return_dict=True)
        found |= {f"step {step} {name}": value for name, value in logs.items()}
    return {**found, "logits": model.predict(images / 256.0, verbose=0)}


def take_inputs_by_name(model, images, labels):
    """`fit`, and a file of the model, which has an image and its mean colour."""
    x = {"image": images, "colour": images.mean(axis=(1, 2))}
    losses = model.fit(x, labels, batch_size=15, shuffle=False, verbose=0).history["loss"]
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "model.keras")
        model.save(path)
        loaded = keras.models.load_model(path)
    return {
        "loss": losses,
        "logits": model.predict(x, verbose=0),
        "features": loaded.embed(x, verbose=0),
    }


def make_model_of_several_inputs():
    image = keras.Input((4, 4, 3), name="image")
    colour = keras.Input((3,), name="colour")
    features = keras.layers.concatenate([keras.layers.Flatten()(image), colour])
    backbone = keras.Model(
        {"image": image, "colour": colour}, keras.layers.Dense(6)(features)
    )
    model = DeepNCM(backbone, classifiers.DecayMean(3, decay=0.5))
    model.compile(keras.optimizers.SGD(2.0**-7), metrics=["accuracy"])
    return model


def make_segmenter():
    return segmenter(
        classifiers.SubCentroids(3, num_sub_centroids=2, momentum=0.875), decoder_width=5
    )
