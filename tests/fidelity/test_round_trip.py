# SPDX-License-Identifier: MIT
"""What was sent is what arrives, in both forms: made-up mail of real programs, random trees, and broken ones."""

from __future__ import annotations

import os
import re
from pathlib import Path
from random import Random

import pytest
import test
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.message.lineends import normalised
from tests.fidelity import corpus
from tests.fidelity.oracle import check
from tests.fidelity.reading import parts_of
from tests.fidelity.trees import Tree, broken, random_tree
from tests.support.graph_api import deliver

FORMS = ("json", "mime")
TREES = 1_000
SEED = int(os.environ.get("FIDELITY_SEED", "20260301"))
PYTHONS = Path(test.__file__).parent / "test_email" / "data"
LETTERS = tuple(corpus.messages())


def send(octets: bytes, form: str, *envelope: str) -> None:
    captured, account = deliver(octets, *envelope, format=form, single_request_limit_bytes=10**8)
    assert captured.form == form
    check(normalised(octets), captured, account.not_carried, envelope)


def test_the_corpus_is_large_enough() -> None:
    assert len(LETTERS) >= 200
    assert len({letter.octets for letter in LETTERS}) >= 200


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("letter", LETTERS, ids=[letter.id for letter in LETTERS])
def test_mail_of_real_programs(letter: corpus.Message, form: str) -> None:
    send(letter.octets, form, *corpus.TO)


def check_truth(tree: Tree) -> None:
    """The independent reading finds what the tree was built of: the oracle itself is sound."""
    parts = parts_of(tree.octets)
    assert [(part.kind, part.name) for part in parts] == [(leaf.kind, leaf.name) for leaf in tree.leaves]
    for part, leaf in zip(parts, tree.leaves, strict=True):
        assert leaf.kind == "message/rfc822" or part.content == leaf.content
        assert leaf.text is None or part.text == leaf.text


@pytest.mark.parametrize("first", range(0, TREES, 100))
def test_random_trees(first: int) -> None:
    for number in range(first, first + 100):
        tree = random_tree(Random(f"{SEED}-{number}"))
        check_truth(tree)
        for form in FORMS:
            send(tree.octets, form, "a@example.com", "b@example.com", "c@example.com")


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.randoms(use_true_random=False))
def test_trees_that_hypothesis_makes(random: Random) -> None:
    tree = random_tree(random)
    for form in FORMS:
        send(tree.octets, form, "a@example.com", "b@example.com")


@pytest.mark.parametrize("first", range(0, 600, 100))
def test_broken_trees_are_delivered(first: int) -> None:
    for number in range(first, first + 100):
        random = Random(f"{SEED}-broken-{number}")
        octets = broken(random_tree(random).octets, random)
        deliver(octets, "a@example.com", "b@example.com", format="json", single_request_limit_bytes=10**8)
        captured, _ = deliver(octets, "a@example.com", "b@example.com", format="mime", single_request_limit_bytes=10**8)
        assert captured.mime is not None
        check_body(normalised(octets), captured.mime)


def check_body(sent: bytes, mime: bytes) -> None:
    """Every line of a body of ASCII is there, in order, and the header is fit to be sent."""
    header, _, body = mime.partition(b"\r\n\r\n")
    assert re.sub(rb"\S+@\S+", b"", header).isascii()  # a local part has no other form, RFC 6532
    assert b"\0" not in header
    assert all(line.strip() for line in header.split(b"\r\n"))
    if sent.isascii():
        assert sent.endswith(body)


def test_pythons_own_corpus() -> None:
    """The messages that Python tests its own parser with."""
    files = sorted(PYTHONS.glob("msg_*.txt"))
    if not files:
        pytest.skip("this Python has no test.test_email")
    for path in files:
        octets = path.read_bytes()
        for form in FORMS:
            captured, account = deliver(octets, "a@example.com", format=form)
            assert (*captured.to, *captured.cc, *captured.bcc) == ("a@example.com",), path.name
            if captured.mime is not None:
                check_body(normalised(octets), captured.mime)
                if not any("boundary" in warning for warning in account.warnings):
                    before, after = parts_of(normalised(octets)), parts_of(captured.mime)
                    assert [part.content for part in before] == [part.content for part in after], path.name
