# SPDX-License-Identifier: Apache-2.0
"""Folders of finished runs, made up for tests of what reads them."""

import json

from deepncm_tf import flags


def write_run(folder, config, accuracy=0.9, seconds=1.0, rmd=None):
    """Writes the small files of a finished run; the accuracy rises to `accuracy`."""
    folder.mkdir(parents=True, exist_ok=True)
    epochs = config["train_epochs"]
    entries = []
    for epoch in range(1, epochs + 1):
        entry = {"epoch": epoch, "test_accuracy": accuracy * epoch / epochs}
        entry |= {"seconds": seconds, "images_per_second": 100.0 * epoch}
        if rmd is not None:
            entry |= {"rmd": rmd / epoch, "test_rmd": 2 * rmd / epoch}
        entries.append(entry)
    result = {
        "final_test_accuracy": accuracy,
        "best_test_accuracy": accuracy,
        "best_epoch": epochs,
        "epochs": epochs,
        "identity": flags.identity(config),
    }
    if rmd is not None:
        result["final_test_rmd"] = entries[-1]["test_rmd"]
    versions = {"python": "3", "deepncm_tf": "0", "commit": "abc"}
    config = {**config, "model_dir": str(folder)}
    (folder / "config.json").write_text(json.dumps({"flags": config, "versions": versions}))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(e) + "\n" for e in entries))
    (folder / "result.json").write_text(json.dumps(result))
    return folder
