# SPDX-License-Identifier: Apache-2.0
"""Runs that take a second, for the tests that ask for them."""

import pytest
from small_runs import use_few_digits, use_small_network


@pytest.fixture
def few_digits(monkeypatch):
    use_few_digits(monkeypatch)


@pytest.fixture
def small_network(monkeypatch):
    use_small_network(monkeypatch)
