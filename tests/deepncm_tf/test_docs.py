# SPDX-License-Identifier: Apache-2.0
"""Documentation is executed: examples, documented arguments, the README."""

import doctest
import importlib
import inspect
import pathlib
import re

import documents
import pytest

from deepncm_tf import DeepNCM, backbones, classifiers, evaluation
from deepncm_tf.backbones import efficientnet_lite, registry, torch_file
from deepncm_tf.classifiers import metrics
from deepncm_tf.data import (
    augmentation,
    datasets,
    folders,
    mask_augmentation,
    mask_pipeline,
    pipeline,
    segmentation,
    tfds_images,
)
from deepncm_tf.distribution import strategies
from deepncm_tf.evaluation import cross_validation, explanation, neighbors
from deepncm_tf.models import decoders, pixel_metrics, segmenter
from deepncm_tf.models import deep_ncm as model
from deepncm_tf.models.losses import LogitCrossEntropy
from deepncm_tf.numerics import clustering, piecewise_linear
from deepncm_tf.numerics.piecewise_linear import PiecewiseLinear
from deepncm_tf.pages import page, pictures, teaching
from deepncm_tf.runs import training
from official_resnet import BatchNormalization, cifar_resnet, imagenet_resnet, recipe

ROOT = pathlib.Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
DOCUMENTED = [
    *classifiers.NAMES.values(),
    BatchNormalization,
    DeepNCM,
    LogitCrossEntropy,
    PiecewiseLinear,
    decoders.auxiliary_head,
    decoders.get,
    mask_augmentation.augment,
    mask_pipeline.training_dataset,
    pixel_metrics.PixelAccuracy,
    segmentation.load,
    segmenter.Segmenter,
    backbones.get,
    cifar_resnet,
    classifiers.get,
    clustering.kmeans,
    clustering.sinkhorn,
    datasets.load,
    efficientnet_lite.efficientnet_lite0,
    efficientnet_lite.load_torch_weights,
    evaluation.knn_predict,
    evaluation.nearest,
    explanation.explain,
    explanation.find_exemplars,
    cross_validation.judge_held_out,
    cross_validation.stratified_folds,
    folders.load,
    folders.read_listings,
    folders.scan,
    folders.split,
    imagenet_resnet,
    page.Exemplar,
    page.explanations_page,
    page.gallery_page,
    teaching.TaughtClass,
    teaching.teaching_page,
    pictures.contact_sheet,
    pictures.png,
    augmentation.crop_and_mirror,
    augmentation.draw_crops,
    pipeline.epoch_order,
    pipeline.evaluation_dataset,
    pipeline.standardize,
    pipeline.training_dataset,
    strategies.get_strategy,
    tfds_images.load,
    torch_file.read,
    training.run,
    metrics.DeadSubCentroids,
    metrics.Occupancy,
    metrics.RelativeMeanDistance,
    recipe.learning_rate_schedule,
    recipe.optimizer,
]
WITH_EXAMPLES = [
    registry,
    classifiers,
    neighbors,
    metrics,
    model,
    piecewise_linear,
    segmenter,
    *(importlib.import_module(cls.__module__) for cls in classifiers.NAMES.values()),
]


@pytest.mark.parametrize("thing", DOCUMENTED, ids=lambda thing: thing.__name__)
def test_every_argument_is_documented(thing):
    documentation = inspect.getdoc(thing)
    section = documentation.split("Args:\n")[1].split("\n\n")[0]
    documented = re.findall(r"^    ([*\w][*\w, ]*):", section, flags=re.MULTILINE)
    documented = [name.strip() for names in documented for name in names.split(",")]
    target = thing.__init__ if inspect.isclass(thing) else thing
    parameters = [
        ("*" * (p.kind - 1) if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) else "") + name
        for name, p in inspect.signature(target).parameters.items()
        if name != "self"
    ]
    parameters = [name.replace("***", "**") for name in parameters]
    if thing is BatchNormalization:
        parameters = ["*args", "**kwargs"]  # inherited, and documented by Keras
    assert documented == parameters


@pytest.mark.parametrize("thing", DOCUMENTED, ids=lambda thing: thing.__name__)
def test_reference_describes_it(thing):
    names = {name for name in documents.described() if name.endswith(f".{thing.__name__}")}
    modules = map(importlib.import_module, {name.rpartition(".")[0] for name in names})
    assert any(getattr(module, thing.__name__) is thing for module in modules)


@pytest.mark.parametrize("module", WITH_EXAMPLES, ids=lambda module: module.__name__)
def test_examples(module):
    outcome = doctest.testmod(module)
    assert outcome.attempted > 0
    assert outcome.failed == 0


def test_readme_example(tmp_path, monkeypatch):
    """The README's first Python, on fewer images for fewer epochs."""
    monkeypatch.chdir(tmp_path)
    code, _ = documents.code_in(README)
    assert len(code.splitlines()) <= 20
    code = code.replace("epochs=10", "epochs=1")
    code = re.sub(r'(\w+, \w+) = (data\["\w+"\])', r"\1 = (part[:64] for part in \2)", code)
    exec(compile(code, "README.md", "exec"), {})
    assert (tmp_path / "digits.keras").exists()


def test_readme_example_without_training(capsys):
    _, code = documents.code_in(README)
    names = {}
    exec(compile(code, "README.md", "exec"), names)
    assert "'unknown'" in capsys.readouterr().out
    _, accuracy, *_ = names["model"].evaluate(
        names["test_images"], names["test_labels"], verbose=0
    )
    (said,) = re.findall(r"prints an accuracy of ([\d.]+) %", README)
    assert 100 * accuracy == pytest.approx(float(said), abs=0.5)


def test_readme_says_how_many_digits_are_unknown(capsys):
    """Of the test images, after the calibration of the example."""
    _, code = documents.code_in(README)
    names = {}
    exec(compile(code.split("model = model.add")[0], "README.md", "exec"), names)
    found = names["model"].classify(names["test_images"], verbose=0)
    rejected, is_known = found.classes < 0, names["test_labels"] < 7
    pattern = r"of (\d+) test images of the seven (\d+) are unknown, of (\d+) others (\d+)"
    (said,) = re.findall(pattern, " ".join(README.split()))
    numbers = is_known.sum(), rejected[is_known].sum()
    numbers += (~is_known).sum(), rejected[~is_known].sum()
    assert tuple(map(int, said)) == numbers
    alpha = names["model"].calibration.alpha
    share, limit = numbers[1] / numbers[0], alpha * (1 - alpha) / numbers[0]
    assert share <= alpha + 2 * limit**0.5


def test_readme_commands_parse():
    """Every command line of the README has flags that exist, with values that are right."""
    commands = documents.commands(README)
    of_runs = {"cifar_main", "explain", "discover", "evaluate", "features", "gallery"}
    others = {"continual", "few_shot", "segmentation_main"}
    others |= {"teach", "classify", "imagenet_main"}
    assert of_runs | others == {module for module, _ in commands}
    for module, command in commands:
        documents.check_command(module, command)


def test_readme_names_every_method_and_make_target():
    for name in classifiers.NAMES:
        assert f"`{name}`" in README
    for target in ("demo", "test", "lint"):
        assert f"make {target}" in README
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_layout_in_the_readme_is_true():
    (block,) = re.findall(r"## Layout\n+```\n(.*?)```", README, flags=re.DOTALL)
    paths = [line.split()[0] for line in block.splitlines() if line.strip()]
    assert len(paths) > 8
    for path in paths:
        assert (ROOT / path).exists(), path
