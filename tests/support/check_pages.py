# SPDX-License-Identifier: Apache-2.0
"""Pages of finished runs, as `read_page.shown` gives them, against their sources."""

import re

import numpy as np
import pytest

from deepncm_tf.data import pipeline
from deepncm_tf.pages import page_frame, pictures


def check_report(page, numbers, data, measure):
    """The page says of each query what explanations.json says, with the pictures.

    Every image that a rule names is among them.
    """
    (train, _), (test, _) = data["train"], data["test"]
    assert page["facts"]["Test accuracy"] == (
        f"{100 * numbers['facts']['Test accuracy']:.1f} %"
    )
    for i, (card, query) in enumerate(zip(page["cards"], numbers["queries"], strict=True)):
        assert card["name"] == query["name"]
        assert card["picture"] == (f"query: {query['name']}", _pixels(test[i]))
        assert card["label"] == query["label"]
        assert card["predicted"] == [query["predicted"]]
        *sections, rule, change = card["sections"]
        assert rule["words"] == " ".join(query["rule"].split())
        assert change["words"] == query["change"]
        shown = {near["index"] for one in query["classes"] for near in one["exemplars"]}
        named = re.findall(r"image (\d+) of", query["rule"])
        assert {int(index) for index in named} <= shown
        for section, one in zip(sections, query["classes"], strict=True):
            assert section["heading"].startswith(f"“{one['class']}” ")
            assert [near["picture"] for near in section["neighbours"]] == [
                (
                    f"training image {near['index']}, class {one['class']}, "
                    f"{measure} {page_frame.number(near[measure])}",
                    _pixels(train[near["index"]]),
                )
                for near in one["exemplars"]
            ]


def check_gallery(page, model, data, names):
    """The page shows what a plain search finds."""
    (images, labels), (queries, truth) = data["train"], data["test"]
    queries = queries[: len(page["cards"])]
    x, bank = (
        model.embed(pipeline.standardize(part), verbose=0) for part in (queries, images)
    )
    predicted = np.asarray(model.classifier(x)).argmax(axis=-1)
    x, bank = (np.asarray(model.classifier.unit_features(part)) for part in (x, bank))
    for i, (card, similarities) in enumerate(zip(page["cards"], x @ bank.T, strict=True)):
        label, guess = names[truth[i]], names[predicted[i]]
        assert card["picture"] == (f"query: test image {i}", _pixels(queries[i]))
        assert (card["name"], card["label"]) == (f"test image {i}", label)
        assert card["predicted"] == [guess]
        (section,) = card["sections"]
        shown = [_number(near["picture"][0]) for near in section["neighbours"]]
        assert len(set(shown)) == len(shown)
        # Of images that are equally near to rounding, either may come first.
        best = np.sort(similarities)[::-1][: len(shown)]
        np.testing.assert_allclose(similarities[shown], best, atol=1e-5)
        right = f"{(labels[shown] == truth[i]).sum()} of {len(shown)} neighbours right"
        assert section["words"].endswith(f": predicted “{guess}” {right}")
        for j, near in zip(shown, section["neighbours"], strict=True):
            words, picture = near["picture"]
            assert words.startswith(f"training image {j}, class {names[labels[j]]}, ")
            assert picture == _pixels(images[j])
            assert near["mark"] == ("right" if labels[j] == truth[i] else "wrong")
            caption, similarity = near["caption"].rsplit(" ", 1)
            assert caption == names[labels[j]]
            assert float(similarity) == pytest.approx(similarities[j], abs=1e-3)


def _number(words):
    return int(words.removeprefix("training image ").partition(",")[0])


def _pixels(image):
    return pictures.checked(image).tolist()
