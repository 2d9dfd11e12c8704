# SPDX-License-Identifier: Apache-2.0
"""A run ended at ten points ends where it would have; `make torture` does many more."""

import collections

import pytest
import torture
from torture import AT_END, KILL, TERM


@pytest.mark.slow
def test_ten_kills(tmp_path):
    inside = [
        *(("step", KILL), ("checkpoint", KILL)),
        *(("epoch's step", TERM), ("evaluation", KILL)),
    ]
    counts, different = torture.torture(
        tmp_path, torture.Case("condensation"), inside, AT_END, seed=1, epochs=8
    )
    assert different == []
    assert counts == collections.Counter(phase for phase, _ in [*inside, *AT_END])
