# SPDX-License-Identifier: Apache-2.0
"""Explains the classes of pixels by patches of training images; `explain` writes it."""

import dataclasses
import pathlib

import numpy as np

from deepncm_tf.data import image_files
from deepncm_tf.data.mask_files import VOID
from deepncm_tf.evaluation import explanation, unknown
from deepncm_tf.pages import overlays, page, pictures, report
from deepncm_tf.runs.finished_segmentation import FinishedSegmentation
from deepncm_tf.utils import files

MOST_QUERIES = 20  # images
TRAINING_IMAGES = 400  # among whose pixels exemplars are looked for
BANK = 20_000  # pixels of known classes that scores of unknown ones look at
CLASSES = 3  # pixels of an image that are explained, besides a mistake
PATCH = 48  # pixels of an exemplar's picture
SCORES = ("max_probability", "energy", "distance", "mean_distance", "mahalanobis")


def write(model_dir, output, image_paths=(), num_queries=MOST_QUERIES, data_dir=None):
    """Explains some pixels of images and writes the report.

    Args:
        model_dir: Path of a finished run's folder.
        output: Path of the folder to write to.
        image_paths: Paths of image files; without any, the first test images.
        num_queries: Int, how many of those.
        data_dir: Folder of TFDS datasets, or None.

    Returns:
        A sentence that says what was written.
    """
    run = FinishedSegmentation(model_dir, data_dir)
    images, masks, names = _queried(run, image_paths, num_queries)
    features, predicted = run.predict(images)
    bank = _training_pixels(run)
    exemplars = _exemplars(run, bank)
    chosen = [
        (i, row, column)
        for i in range(len(images))
        for row, column in _pixels(run, features[i], masks[i], predicted[i])
    ]
    shown = (images, masks, predicted, names)
    queries, numbers = _explain(run, exemplars, features, chosen, *shown)
    for query, number in zip(queries, numbers, strict=True):
        number["name"] = query.name
    maps = _score_maps(run, bank, features)
    facts = _facts(run, bank, maps, run.labels_of_features(masks))
    html = page.explanations_page("What the model sees in pixels, and why", facts, queries)
    places = {
        name: [int(i) for i in row if i >= 0]
        for name, row in zip(run.class_names, exemplars.index, strict=True)
    }
    folder = pathlib.Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    content = {"facts": facts, "exemplars": places, "queries": numbers}
    files.write_json(folder / "explanations.json", content)
    sheets = {
        "exemplars.png": pictures.contact_sheet(
            [
                [image if i >= 0 else None for image, i in zip(*pair, strict=True)]
                for pair in zip(exemplars.images, exemplars.index, strict=True)
            ]
        ),
        "scores.png": _score_sheet(run, images, masks, predicted, maps),
    }
    for name, png in sheets.items():
        files.write_atomically(folder / name, lambda path, png=png: path.write_bytes(png))
    files.write_atomically(
        folder / "index.html", lambda path: path.write_text(html, "utf-8")
    )
    return (
        f"{len(queries)} pixels of {len(images)} images explained by "
        f"{int((exemplars.index >= 0).sum())} patches: {folder / 'index.html'}, "
        "exemplars.png, scores.png, explanations.json"
    )


def _queried(run, image_paths, num_queries):
    """Images, their masks (void where not known) and names."""
    if image_paths:
        images = np.stack([image_files.read(path, run.shape) for path in image_paths])
        masks = np.full(images.shape[:3], VOID, "uint8")
        return images, masks, image_files.names_of(image_paths)
    images, masks = (part[: min(num_queries, MOST_QUERIES)] for part in run.splits["test"])
    return images, masks, [f"test image {i}" for i in range(len(images))]


def _training_pixels(run):
    """Features, labels and numbers of labelled training pixels: image, row, column."""
    images, masks = run.splits["train"]
    count = min(len(images), TRAINING_IMAGES)
    rows = np.linspace(0, len(images) - 1, count, dtype="int64")
    features, _ = run.predict(images[rows])
    labels = run.labels_of_features(masks[rows])
    known = labels != VOID
    places = np.argwhere(known)
    numbers = np.ravel_multi_index(
        (rows[places[:, 0]], places[:, 1], places[:, 2]), (len(images), *known.shape[1:])
    )
    return features[known], labels[known].astype("int64"), numbers


def _exemplars(run, bank):
    """Exemplars among training pixels, their pictures the patches around these."""
    features, labels, numbers = bank
    found = explanation.find_exemplars(
        run.model.classifier, features, labels, numbers, numbers
    )
    size = run.model.features_shape[1:3]
    images, _ = run.splits["train"]
    patches = np.zeros((*found.index.shape, PATCH, PATCH, 3), "uint8")
    for place, number in np.ndenumerate(found.index):
        if number >= 0:
            image, *pixel = np.unravel_index(number, (len(images), *size))
            patches[place] = _patch(images[int(image)], _centre(run, *pixel))
    return dataclasses.replace(found, images=patches)


def _centre(run, row, column):
    """The pixel of an image at the centre of a feature."""
    pairs = zip((row, column), run.shape, run.model.features_shape[1:3], strict=True)
    return tuple(int((2 * i + 1) * old // (2 * new)) for i, old, new in pairs)


def _patch(image, centre):
    half = PATCH // 2
    padded = np.pad(image, ((half, half), (half, half), (0, 0)), mode="edge")
    row, column = centre
    return padded[row : row + PATCH, column : column + PATCH]


def _pixels(run, features, mask, predicted):
    """Features to explain: the surest of the most frequent classes, the surest mistake."""
    logits = np.asarray(run.model.classifier(features))
    margin = np.sort(logits, axis=-1)
    margin = margin[..., -1] - margin[..., -2]
    classes = logits.argmax(axis=-1)
    labels = run.labels_of_features(mask[None])[0]
    known = labels != VOID
    right = (classes == labels) if known.any() else np.ones_like(known)
    chosen = []
    for label in np.argsort(-np.bincount(classes[right], minlength=1))[:CLASSES]:
        candidates = right & (classes == label)
        if candidates.any():
            chosen.append(_largest(margin, candidates))
    mistakes = known & ~right
    if mistakes.any():
        chosen.append(_largest(margin, mistakes))
    return chosen


def _largest(values, among):
    place = np.where(among, values, -np.inf).argmax()
    return tuple(int(i) for i in np.unravel_index(place, values.shape))


def _explain(run, exemplars, features, chosen, images, masks, predicted, image_names):
    """`page.Explained` of chosen pixels, and the same in numbers."""
    centres = [_centre(run, row, column) for _, row, column in chosen]
    explained = [
        _explain_one(run, exemplars, features[place], masks[place[0]][centre])
        for place, centre in zip(chosen, centres, strict=True)
    ]
    measure = run.model.classifier.compares_by
    colours = overlays.palette(len(run.class_names))
    queries = []
    for one, (i, _, _), centre in zip(explained, chosen, centres, strict=True):
        evidence = report.class_evidence(one, exemplars, measure)
        others = {"Prediction": overlays.overlay(images[i], predicted[i], colours)}
        if (masks[i] != VOID).any():
            others = {"Truth": overlays.overlay(images[i], masks[i], colours), **others}
        queries.append(
            page.Explained(
                overlays.marked(images[i], centre),
                f"{image_names[i]}, row {centre[0]}, column {centre[1]}",
                one["label"],
                one["predicted"],
                evidence,
                one["rule"],
                one["change"],
                {name: overlays.marked(shown, centre) for name, shown in others.items()},
            )
        )
    return queries, explained


def _explain_one(run, exemplars, feature, label):
    """As `explanation.explain`, of a pixel, whose class is not known where it is void."""
    labels = None if label == VOID else [label]
    (explained,) = explanation.explain(
        run.model.classifier,
        exemplars,
        feature[None],
        run.class_names,
        labels,
        thing="pixel",
    )
    return explained


def _score_maps(run, bank, features):
    bank_features, labels, _ = bank
    rows = np.linspace(0, len(labels) - 1, min(len(labels), BANK), dtype="int64")
    known = unknown.KnownFeatures(bank_features[rows], labels[rows])
    maps = unknown.score_maps(known, run.model.classifier, features)
    # Of the two distances each method has one.
    return {name: maps[name] for name in SCORES if name in maps}


def _facts(run, bank, maps, labels):
    """What the page says at its top."""
    facts = {
        "Run": run.path.resolve().name,
        "Dataset": run.config["dataset"],
        "Method": run.config["ncm"],
        "Decoder": run.config["decoder"],
        "Training pixels looked at": len(bank[1]),
    }
    void = labels == VOID
    if void.any() and not void.all():
        for name, values in maps.items():
            figures = unknown.detection_metrics(values[~void], values[void])
            facts[f"AUROC of void pixels, {name}"] = round(figures["auroc"], 4)
    return facts


def _score_sheet(run, images, masks, predicted, maps):
    """Rows of an image, its mask, the prediction, and the scores, dark for unknown."""
    colours = overlays.palette(len(run.class_names))
    rows = overlays.rows(images, masks, predicted, colours)
    for values in maps.values():
        low, high = np.quantile(values, (0.02, 0.98))
        gray = 255 * np.clip((values - low) / max(high - low, 1e-12), 0, 1)
        for row, shown in zip(rows, np.round(gray).astype("uint8"), strict=True):
            row.append(overlays.enlarged(shown, run.shape))
    return pictures.contact_sheet(rows, scale=1)
