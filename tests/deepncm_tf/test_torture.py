# SPDX-License-Identifier: Apache-2.0
"""A run killed at five points ends where it would have; `make torture` does many more."""

import pytest
import torture


@pytest.mark.slow
def test_five_kills(tmp_path):
    kills = {"step": 1, "checkpoint": 1, "evaluation": 1, "final": 2}
    counts, different = torture.torture(tmp_path, "condensation", kills, seed=1, epochs=4)
    assert counts == kills
    assert different == []
