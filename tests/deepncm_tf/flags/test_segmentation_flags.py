# SPDX-License-Identifier: Apache-2.0
"""The flags of segmentation: defaults, names, identity, and what is refused."""

import json

import pytest

from deepncm_tf import flags, runs, segmentation_main
from deepncm_tf.flags.segmentation import rates
from experiments import grid


def resolve(**values):
    return flags.resolve({"decoder": "deeplabv3", **values})


def test_defaults():
    config = resolve()
    expected = {
        "dataset": "shapes",
        "ncm": "dnc",
        "num_sub_centroids": "10",
        "centroid_momentum": 0.999,
        "memory_batches": 0,
        "sub_centroid_initializer": "random",
        "backbone": "resnet8",
        "image_shape": "64x64",
        "learning_rate": 0.1,
    }
    assert {name: config[name] for name in expected} == expected
    camvid = resolve(dataset="camvid")
    assert (camvid["image_shape"], camvid["learning_rate"]) == ("180x240", 0.01)
    assert camvid["backbone"] == "efficientnet_lite0"
    assert resolve(dataset="camvid", backbone="resnet8")["backbone"] == "resnet8"
    assert rates(camvid) == [6, 12, 18]
    assert rates(resolve(output_stride=8)) == [12, 24, 36]
    assert rates(resolve(decoder_rates="2,4")) == [2, 4]


def test_flags_of_one_task_are_not_in_the_configs_of_the_other():
    names = set(resolve()) & set(flags.resolve({"ncm": "dnc"}))
    for flag in flags.ALL_FLAGS:
        assert flag.task == "" or flag.name not in names
    assert flags.num_classes(resolve()) == 5
    assert flags.classifier_arguments(resolve(pixels_per_class=9))["max_samples"] == 9
    assert flags.classifier_arguments(resolve())["max_samples"] is None


def test_names_and_identity():
    name = flags.run_name(resolve())
    assert name == (
        "shapes_dnc_num_sub_centroids=10_learning_rate=0.1_seed=0_decoder=deeplabv3"
    )
    assert flags.run_name(resolve(max_scale=1.5)) == f"{name}_max_scale=1.5"
    config = resolve(decoder_rates="02,4", image_shape="064x64")
    stored = json.loads(json.dumps(config))
    assert runs.flags_identity(stored) == flags.identity(config)
    assert config["decoder_rates"] == "2,4"
    del stored["dropout"]  # of a run of before there was the flag
    assert runs.flags_identity(stored)["dropout"] == 0.1


def test_grids_have_runs_of_either_task(tmp_path):
    path = tmp_path / "grid.tsv"
    path.write_text("dataset\tncm\tdecoder\ndigits\tdecay\t\nshapes\tsoftmax\tfcn\n")
    classification, segmentation = grid.read(path)
    assert "deepncm_tf.cifar_main --dataset=digits" in classification.command("a")
    assert "deepncm_tf.segmentation_main --dataset=shapes" in segmentation.command("a")
    assert grid.read(path, only="decoder==fcn")[0].line == 3
    assert len(grid.read("experiments/camvid.tsv")) == 19


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"decoder": "unet"}, "--decoder must be one of fcn, deeplabv3, upernet"),
        ({"decoder_width": 0}, "--decoder_width must be an integer >= 1"),
        ({"decoder_rates": "2,x"}, "--decoder_rates must be integers from 1 to 255"),
        ({"output_stride": 4}, "--output_stride must be 8 or 16"),
        ({"image_shape": "64"}, "--image_shape must be HEIGHTxWIDTH"),
        ({"image_shape": "4x64"}, "--image_shape must be HEIGHTxWIDTH"),
        ({"dropout": 1.0}, r"--dropout must be a number in \[0, 1\)"),
        ({"max_scale": 0.5}, "--max_scale must be a number from 1 to 16"),
        ({"auxiliary_weight": -1.0}, "--auxiliary_weight must be a number >= 0"),
        ({"pixels_per_class": -1}, "--pixels_per_class must be an integer >= 0"),
        (
            {"pixels_per_class": 5, "memory_batches": 2},
            "--pixels_per_class needs --memory_batches=0",
        ),
        (
            {"ncm": "softmax", "contrast_weight": 0.1},
            "--contrast_weight belongs to --ncm=dnc",
        ),
        (
            {"ncm": "softmax", "distance_weight": 0.1},
            "--distance_weight belongs to --ncm=dnc",
        ),
        ({"ncm": "nca"}, "--ncm must be another method than nca for segmentation"),
        ({"num_sub_centroids": "auto"}, "--num_sub_centroids must be an integer"),
        ({"dataset": "cifar10"}, "--dataset must be one of shapes, camvid"),
        ({"label": "fine"}, "--label belongs to cifar_main"),
        ({"backbone": "keras:MobileNet"}, "needs their feature maps"),
    ],
)
def test_bad_flags(values, message):
    with pytest.raises(flags.FlagError, match=message):
        resolve(**values)


@pytest.mark.bad_input
def test_flags_of_segmentation_are_none_of_classification():
    with pytest.raises(flags.FlagError, match="--max_scale belongs to segmentation_main"):
        flags.resolve({"max_scale": 2.0})
    with pytest.raises(flags.FlagError, match="--dataset must be one of cifar10"):
        flags.resolve({"dataset": "camvid"})


def test_help(capsys):
    with pytest.raises(SystemExit) as error:
        segmentation_main.command_line.parse(["segmentation_main", "--help"])
    assert not error.value.code
    text = capsys.readouterr().out
    for flag in flags.of_task(flags.SEGMENTATION):
        assert f"  --{'[no]' if flag.kind is bool else ''}{flag.name}:" in text
    assert "--dataset=folder:PATH" in text


@pytest.mark.bad_input
def test_bad_command_line(capsys):
    values = segmentation_main.command_line.parse(["segmentation_main", "--dropout=2"])
    with pytest.raises(SystemExit) as error:
        segmentation_main.main(values)
    assert error.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith("segmentation_main: --dropout must be a number in [0, 1)")
    segmentation_main.FLAGS.unparse_flags()
