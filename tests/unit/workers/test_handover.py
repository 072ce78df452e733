# SPDX-License-Identifier: MIT
"""A configuration on its way from the parent to processes that run already, and how long a dead one is waited for."""

from __future__ import annotations

import dataclasses
import pickle

import pytest

from relay.config import AccessConfig, Config, EntraConfig, GraphConfig, ListenAddress, ListenConfig, Rate
from relay.credentials import Secret
from relay.supervisor import LONGEST_DELAY_S, delay_after
from relay.workers.handover import Handover
from relay.workers.memory import Locks
from tests.support.forked import Child

CONFIG = Config(
    listen=ListenConfig(addresses=(ListenAddress("::1", 25),)),
    entra=EntraConfig(client_secrets=(Secret("S3CRET"),)),
    access=AccessConfig(fallback_password=Secret("")),
    graph=GraphConfig(mailbox_rate=Rate(30, 60)),
)


def test_the_newest_is_taken_as_it_was_given() -> None:
    handover = Handover(Locks().make())
    assert handover.give(CONFIG) == 1
    shorter = dataclasses.replace(CONFIG, listen=ListenConfig())

    def take(number: int, config: Config) -> None:
        assert handover.take() == (number, config)

    assert Child(lambda: take(1, CONFIG)).wait() == 0
    assert Child(lambda: handover.give(shorter) and None).wait() == 0
    assert handover.take() == (2, shorter)
    assert handover.take()[1].entra.client_secrets[0].reveal() == "S3CRET"
    assert handover.number == 2


def test_a_secret_is_pickled_nowhere_else() -> None:
    with pytest.raises(TypeError):
        pickle.dumps(CONFIG)


def test_the_wait_for_a_worker_that_dies_early_doubles() -> None:
    assert [delay_after(deaths) for deaths in range(6)] == [0, 0, 1, 2, 4, 8]
    assert delay_after(100) == LONGEST_DELAY_S
