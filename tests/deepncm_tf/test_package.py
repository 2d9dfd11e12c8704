# SPDX-License-Identifier: Apache-2.0
"""What importing the package alone does, and what it leaves for later."""

import subprocess
import sys

import numpy as np
import pytest
from helpers import random_images, small_model

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


def test_importing_the_package_imports_neither_keras_nor_tensorflow():
    code = (
        "import sys, deepncm_tf; sys.exit(bool({'keras', 'tensorflow', 'numpy'} & "
        "set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
