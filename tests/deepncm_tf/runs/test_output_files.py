# SPDX-License-Identifier: Apache-2.0
"""What evaluations print."""

import pytest

from deepncm_tf.runs import output_files


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("split", "test", "split: test"),
        ("knn", "exact", "search: exact"),
        ("bank", None, "bank: None"),
        ("accuracy", 0.9894, "accuracy: 98.9 %"),
        ("adapted_accuracy", 1.0, "accuracy, adapted to the bank: 100.0 %"),
        ("knn_1_0.05", 0.989, "k = 1: 98.9 %"),
        ("knn_top5_30_0.05", 0.9, "k = 30, among the first five: 90.0 %"),
        ("recall_at_4", 0.5, "recall at 4: 50.0 %"),
        ("map_at_r", 0.25, "MAP@R: 25.0 %"),
        ("prototypes", 10, "prototypes: 10"),
        ("induction_accuracy_5", 0.125, "k = 5, classes within: 12.5 %"),
        (
            "normalized_mutual_information",
            0.5,
            "normalized mutual information: 0.5000",
        ),
    ],
)
def test_figures_are_in_words(name, value, words):
    assert output_files.in_words(name, value) == words


def test_temperatures_are_named_where_there_are_several(tmp_path, capsys):
    output_files.keep_figures(tmp_path / "1.json", {"knn_1_0.05": 0.5, "knn_5_0.05": 0.25})
    assert capsys.readouterr().out == "k = 1: 50.0 %\nk = 5: 25.0 %\n"
    output_files.keep_figures(tmp_path / "2.json", {"knn_1_0.05": 0.5, "knn_1_1": 0.25})
    assert capsys.readouterr().out == (
        "k = 1, temperature 0.05: 50.0 %\nk = 1, temperature 1: 25.0 %\n"
    )
