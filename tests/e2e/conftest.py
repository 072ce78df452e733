# SPDX-License-Identifier: MIT
"""What the end-to-end tests stand on: one sandbox and one relay a module, and a sender that nobody else uses."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.register_assert_rewrite("tests.e2e.clients", "tests.e2e.matrix", "tests.e2e.mails", "tests.e2e.postfix")

from tests.support.needed import need as need  # noqa: E402 - after the line above
from tests.support.relay_process import RelayProcess, config_for  # noqa: E402
from tests.support.sandbox_client import Upstream  # noqa: E402

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Login:
    """A Microsoft 365 account that the sandbox takes."""

    user: str
    password: str


@pytest.fixture(scope="module")
def relay_keys() -> dict[str, Any]:
    """Keys of the module's relay that differ from the default; a module says its own."""
    return {}


@pytest.fixture(scope="module")
def upstream_settings() -> dict[str, Any]:
    """Settings of the module's sandbox; a module says its own."""
    return {}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("e2e")


@pytest.fixture(scope="module")
def module_upstream(directory: Path, upstream_settings: dict[str, Any]) -> Iterator[Upstream]:
    with Upstream(directory, **upstream_settings) as running:
        yield running


@pytest.fixture(scope="module")
def module_relay(directory: Path, module_upstream: Upstream, relay_keys: dict[str, Any]) -> Iterator[RelayProcess]:
    with RelayProcess(directory / "relay", config_for(module_upstream, **relay_keys)) as running:
        yield running


@pytest.fixture
def upstream(module_upstream: Upstream) -> Upstream:
    """The module's sandbox, with no messages, faults, counters or tokens."""
    module_upstream.reset()
    return module_upstream


@pytest.fixture
def relay(module_relay: RelayProcess, upstream: Upstream) -> Iterator[RelayProcess]:
    """The module's relay in front of a sandbox that is as new. It has to be sound when the test is over."""
    before = len(module_relay.log())
    yield module_relay
    module_relay.assert_sound(before)


@pytest.fixture
def login() -> Login:
    """An account that no other test uses, so that no token or refusal of an earlier one is remembered."""
    number = next(_numbers)
    return Login(f"sender-{number}@example.com", f"password-{number}")
