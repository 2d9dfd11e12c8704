# SPDX-License-Identifier: Apache-2.0
"""What importing the package alone does, and what it leaves for later."""

import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
from helpers import random_images, small_model

ROOT = pathlib.Path(__file__).parents[2]
LOAD = """
import sys
{imports}
import numpy as np
model = keras.models.load_model(sys.argv[1])
np.save(sys.argv[2], model.predict(np.load(sys.argv[3]), verbose=0))
"""


@pytest.mark.slow
@pytest.mark.parametrize("first", ["deepncm_tf", "keras"])
def test_a_saved_model_loads_where_the_package_is_imported(first, tmp_path):
    images, _ = random_images(4)
    model = small_model()
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "images.npy", images)
    others = {"deepncm_tf": "keras", "keras": "deepncm_tf"}
    code = LOAD.format(imports=f"import {first}\nimport {others[first]}")
    files = [tmp_path / name for name in ("model.keras", "logits.npy", "images.npy")]
    subprocess.run([sys.executable, "-c", code, *map(str, files)], check=True)
    expected = model.predict(images, verbose=0)
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), expected, rtol=1e-5)


def test_every_class_that_is_saved_is_known_once_the_package_is_imported():
    """Schedules of an optimizer or a momentum, too, which no model needs before."""
    decorated = re.compile(r'serializable\(package="(\w+)"\)\nclass (\w+)')
    saved = {
        f"{package}>{name}"
        for folder in ("deepncm_tf", "official_resnet")
        for path in (ROOT / folder).rglob("*.py")
        for package, name in decorated.findall(path.read_text())
    }
    assert len(saved) > 20
    code = "import deepncm_tf, keras\nprint('known:', *keras.saving.get_custom_objects())"
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT
    )
    known = next(line for line in done.stdout.splitlines() if line.startswith("known:"))
    assert saved <= set(known.split())


def test_importing_the_package_imports_neither_keras_nor_tensorflow():
    code = (
        "import sys, deepncm_tf; sys.exit(bool({'keras', 'tensorflow', 'numpy'} & "
        "set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
