# SPDX-License-Identifier: Apache-2.0
"""A run ended at six points ends where it would have; `make torture` does many more."""

import collections

import pytest
import torture
from torture import AT_END, KILL, TERM


@pytest.mark.slow
def test_six_kills(tmp_path):
    inside = [("checkpoint", KILL), ("epoch's step", TERM), ("evaluation", KILL)]
    at_end = list(dict(AT_END).items())  # one of each phase
    counts, different = torture.torture(
        tmp_path, torture.Case("condensation"), inside, at_end, seed=1, epochs=8
    )
    assert different == []
    assert counts == collections.Counter(phase for phase, _ in [*inside, *at_end])
