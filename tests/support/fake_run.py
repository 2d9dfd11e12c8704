# SPDX-License-Identifier: Apache-2.0
"""Stands in for `cifar_main` in tests of the sweep: the same flags and files, no training.

Its figures follow from the run's identity. A file `fail-RUN` beside the run's folder makes
it fail; it takes FAKE_SECONDS, and appends what it was given to a file `started` there.
"""

import hashlib
import json
import os
import sys
import time

from deepncm_tf import flags, runs


def main(argv):
    given = dict(argument.removeprefix("--").split("=", 1) for argument in argv)
    config = flags.resolve({n: flags.TABLE[n].kind(value) for n, value in given.items()})
    folder = runs.RunFolder(config)
    if folder.result():
        return
    folder.open()
    names = ("CUDA_VISIBLE_DEVICES", "TF_NUM_INTRAOP_THREADS", "PARALLEL_SSHHOST")
    begun = {"run": folder.path.name, "begin": time.time(), "data_dir": config["data_dir"]}
    begun |= {name: os.environ.get(name) for name in names}
    time.sleep(float(os.environ.get("FAKE_SECONDS", "0.2")))
    if (folder.path.parent / f"fail-{folder.path.name}").exists():
        sys.exit("fake_run: out of luck")
    with (folder.path.parent / "started").open("a") as file:
        file.write(json.dumps(begun | {"end": time.time()}) + "\n")
    identity = json.dumps(flags.identity(config), sort_keys=True)
    accuracy = int(hashlib.sha256(identity.encode()).hexdigest()[:4], 16) / 2**16
    entry = {"epoch": config["train_epochs"], "test_accuracy": accuracy, "seconds": 1.0}
    entry["images_per_second"] = 1000.0
    (folder.path / "metrics.jsonl").write_text(json.dumps(entry) + "\n")
    (folder.path / "model.keras").write_text("")
    result = {"final_test_accuracy": accuracy, "best_test_accuracy": accuracy}
    folder.finish({**result, "identity": flags.identity(config)})
    folder.close()


if __name__ == "__main__":
    main(sys.argv[1:])
