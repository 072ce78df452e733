# SPDX-License-Identifier: MIT
"""The whole way: SMTP client, relay, sandbox over TLS, for each program's message in both forms."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from relay.message.lineends import normalised
from tests.fidelity import corpus
from tests.fidelity.oracle import check_json, check_mime
from tests.fidelity.reading import parts_of
from tests.support.relay_process import RelayProcess, config_for
from tests.support.sandbox_client import Upstream

LETTERS = [letter for letter in corpus.messages() if letter.id.endswith(("-de", "-ja"))]


@pytest.mark.parametrize("save_to_sent", [False, True])
def test_mail_of_real_programs(tmp_path: Path, save_to_sent: bool) -> None:
    """With `auto`, as it comes: the form is what the log says, and in either form all of the message is there."""
    forms = set()
    with (
        Upstream(tmp_path) as upstream,
        RelayProcess(tmp_path / "relay", config_for(upstream, save_to_sent=save_to_sent)) as relay,
        relay.smtp(corpus.FROM, "password") as client,
    ):
        for letter in LETTERS:
            before = len(upstream.messages())
            client.sendmail(corpus.FROM, corpus.TO, normalised(letter.octets))
            (captured,) = upstream.messages(after=before)
            line = [line for line in relay.log() if line["event"] == "delivered"][-1]
            assert line["form"] == captured["form"], letter.id
            assert line["form_reason"], letter.id
            assert sorted([*captured["to"], *captured["cc"], *captured["bcc"]]) == sorted(corpus.TO), letter.id
            forms.add(captured["form"])
            sent = parts_of(normalised(letter.octets + b"\r\n" * (not letter.octets.endswith(b"\n"))))
            if captured["form"] == "mime":
                check_mime(sent, base64.b64decode(captured["mime"]))
            else:
                check_json(sent, captured["message"], line.get("not_carried", ()))
        relay.assert_sound()
    assert forms == ({"mime"} if save_to_sent else {"json", "mime"})
