# SPDX-License-Identifier: Apache-2.0
"""The command lines that read a finished run, run in this process."""

import types

from deepncm_tf import (
    continual,
    discover,
    evaluate,
    explain,
    features,
    few_shot,
    gallery,
)

SOURCES = dict.fromkeys(("model_dir", "bank", "test_bank", "dataset", "data_dir"))

DEFAULTS = {
    continual: {
        **SOURCES,
        "tasks": 5,
        "seeds": 2,
        "heads": ["means", "cosine", "lda", "ranpac", "knn"],
        "random_features": 20,
    },
    few_shot: {
        **SOURCES,
        "shots": ["1", "5"],
        "heads": ["means", "unit", "cl2n", "lda"],
        "way": 5,
        "queries": 15,
        "episodes": 60,
        "seed": 0,
    },
    explain: {
        "model": None,
        "output": "report",
        "images": [],
        "num_queries": None,
        "bank": None,
        "data_dir": None,
        "alpha": None,
        "score": None,
    },
    discover: {"k": ["1", "5", "30"], "temperature": 0.05, "data_dir": None},
    features: {"split": "train", "projector": None, "data_dir": None},
    gallery: {
        "models": [],
        "model_dirs": [],
        "num_queries": 5,
        "num_neighbours": 3,
        "data_dir": None,
    },
    evaluate: {
        "k": ["1", "5"],
        "temperature": ["0.05"],
        "bank": None,
        "knn": "exact",
        "split": "test",
        "data_dir": None,
        "unknown": None,
    },
}


def run(patch, module, *arguments, **values):
    """Runs a command line in this process, with these flags and the others' defaults."""
    flag_values = types.SimpleNamespace(**{**DEFAULTS[module], **values})
    patch.setattr(module, "FLAGS", flag_values)
    module.main(["program", *arguments])
