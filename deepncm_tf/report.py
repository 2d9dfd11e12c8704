# SPDX-License-Identifier: Apache-2.0
"""The report of `explain`: a page, a picture and numbers, in a folder."""

import dataclasses
import pathlib

import numpy as np

from deepncm_tf.data import image_files
from deepncm_tf.data.datasets import IMAGE_SHAPE
from deepncm_tf.evaluation import explanation
from deepncm_tf.pages import page
from deepncm_tf.pages.pictures import contact_sheet
from deepncm_tf.runs.finished_run import FinishedRun
from deepncm_tf.utils.files import write_atomically, write_json


def write(model_dir, output, files=(), num_queries=100, data_dir=None, bank=None):
    """Explains images and writes the report.

    Args:
        model_dir: Path of a finished run's folder.
        output: Path of the folder to write to.
        files: Paths of image files; without any, the first test images.
        num_queries: Int, how many of those.
        data_dir: Folder of TFDS datasets, or None.
        bank: Path of a bank file, among whose images exemplars are looked for; None for
            those that the model has, or else all training images.

    Returns:
        A sentence that says what was written.
    """
    run = FinishedRun(model_dir, data_dir)
    classifier = run.model.classifier
    if files:
        size = IMAGE_SHAPE[:2]
        pictures, truth = np.stack([image_files.read(path, size) for path in files]), None
        names = [path.name for path in files]
    else:
        pictures, truth = (part[:num_queries] for part in run.splits["test"])
        names = [f"test image {i}" for i in range(len(pictures))]
    features = run.embed(pictures)
    exemplars = _exemplars(run, bank, features.shape[1])
    explained = explanation.explain(classifier, exemplars, features, run.class_names, truth)
    facts = _facts(run, exemplars)

    folder = pathlib.Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    queries = [
        _query(picture, name, one, exemplars)
        for picture, name, one in zip(pictures, names, explained, strict=True)
    ]
    html = page.explanations_page("What the model predicts, and why", facts, queries)
    sheet = contact_sheet(
        [
            [image if i >= 0 else None for image, i in zip(images, row, strict=True)]
            for images, row in zip(exemplars.images, exemplars.index, strict=True)
        ]
    )
    numbers = {
        "facts": facts,
        "exemplars": {
            name: [int(i) for i in row if i >= 0]
            for name, row in zip(run.class_names, exemplars.index, strict=True)
        },
        "queries": [
            {"name": name, **one} for name, one in zip(names, explained, strict=True)
        ],
    }
    write_json(folder / "explanations.json", numbers)
    write_atomically(folder / "exemplars.png", lambda path: path.write_bytes(sheet))
    write_atomically(folder / "index.html", lambda path: path.write_text(html, "utf-8"))
    return (
        f"{len(queries)} images explained by {int((exemplars.index >= 0).sum())} "
        f"exemplars: {folder / 'index.html'}, exemplars.png, explanations.json"
    )


def _exemplars(run, bank, dimensions):
    """Exemplars with pictures as the datasets have images."""
    images, labels = run.splits["train"]
    found = run.model.exemplars
    if bank is not None:
        rows, labels, ids = run.read_bank(bank, dimensions)
        return explanation.find_exemplars(
            run.model.classifier, rows, labels, images[ids], ids
        )
    if found is None:
        return explanation.find_exemplars(
            run.model.classifier, run.embed(images), labels, images
        )
    if found.images.dtype == "uint8":
        return found
    # The model was anchored on standardized images; their pictures are looked up.
    there = found.index >= 0
    index, wanted = found.index[there], found.labels[there]
    if index.max() >= len(images) or (labels[index] != wanted).any():
        raise ValueError(
            "--model_dir must be of a model that was anchored on the run's training images "
            "in their order, or give `anchor` uint8 pictures of others as `images`. "
            "Received: exemplars with other places or labels"
        )
    return dataclasses.replace(found, images=images[np.maximum(found.index, 0)])


def _facts(run, exemplars):
    """What the page says at its top; the accuracies are of the whole test set."""
    images, labels = run.splits["test"]
    features = run.embed(images)
    predicted = np.asarray(run.model.classifier(features)).argmax(axis=-1)
    near = explanation.compare(run.model.classifier, features, exemplars)
    return {
        "Run": run.path.resolve().name,
        "Dataset": run.config["dataset"],
        "Method": run.config["ncm"],
        "Test accuracy": round(float((predicted == labels).mean()), 4),
        "By the nearest exemplar": round(
            float((near.max(axis=-1).argmax(axis=-1) == labels).mean()), 4
        ),
        "Training images": len(run.splits["train"][1]),
    }


def _query(picture, name, found, exemplars):
    place = {int(i): where for where, i in np.ndenumerate(exemplars.index) if i >= 0}
    evidence = [
        page.ClassEvidence(
            one["class"],
            one["logit"],
            [
                page.Exemplar(
                    exemplars.images[place[near["index"]]],
                    near["index"],
                    one["class"],
                    near["similarity"],
                )
                for near in one["exemplars"]
            ],
        )
        for one in found["classes"]
    ]
    label, predicted = found["label"], found["predicted"]
    return page.Explained(
        picture, name, label, predicted, evidence, found["rule"], found["change"]
    )
