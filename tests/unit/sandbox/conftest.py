# SPDX-License-Identifier: MIT
"""The tenant that most tests here start from."""

from __future__ import annotations

import pytest

from tests.unit.sandbox.tenant import Tenant


@pytest.fixture
def tenant() -> Tenant:
    return Tenant()
