# SPDX-License-Identifier: MIT
"""Random dialogues against a model of the states of RFC 5321 §4.1.4: every reply, by code and enhanced code.

The model is written from the standards and the contract, not from the session: it knows what a command is worth in
which state, and nothing of how that is done. RELAY_STATE_EXAMPLES asks for more dialogues than the few of a test run.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from relay.smtp import reply as replies
from tests.support.backend import UPSTREAM_DOWN, MemoryBackend
from tests.support.dialog import _WORDS, SETTINGS, Setting, encoded, serving, whole

MOST_OCTETS, MOST_RECIPIENTS = 60, 3
BAD = ("500", "501", "502", "503")
OK, WRONG_ORDER, SYNTAX = "250 2.0.0", "503 5.5.1", "501 5.5.4"
TOO_LARGE, TIMES_UP = "552 5.3.4", "421 4.7.0"
OUTCOMES = {OK: None, "451 4.4.1": replies.DELIVERY_UNREACHABLE, "550 5.7.60": replies.SEND_AS_DENIED}
PLAIN = _WORDS["{plain}"]
WRONG = encoded("\0scanner\0wrong")
DOWN = encoded(f"\0{UPSTREAM_DOWN}\0x")

# What may stand behind MAIL FROM: and RCPT TO:, and the reply where the order is right. {} stands for MOST_OCTETS.
SENDERS = {
    "<a@example.com>": "250 2.1.0",
    "<>": "250 2.1.0",
    "a@example.com": "250 2.1.0",
    f"<a@example.com> SIZE={MOST_OCTETS} BODY=8BITMIME": "250 2.1.0",
    "<a@example.com> AUTH=<> RET=HDRS ENVID=x": "250 2.1.0",
    f"<a@example.com> SIZE={MOST_OCTETS + 1}": TOO_LARGE,
    "<a@example.com> SIZE=many": SYNTAX,
    "<a@example.com> BODY=BINARYMIME": SYNTAX,
    "<a@example.com": SYNTAX,
    "": SYNTAX,
    "<a@@example.com>": "501 5.1.7",
    "<ä@example.com>": "501 5.1.7",
}
RECIPIENTS = {
    "<b@example.com>": "250 2.1.5",
    "<b@example.com> NOTIFY=NEVER": "250 2.1.5",
    "<>": "553 5.1.3",
    "<b>": "553 5.1.3",
    "<b@example.com": SYNTAX,
}
UTF8_SENDER, UTF8_RECIPIENT = "<ä@bücher.example> SMTPUTF8", "<ö@bücher.example>"


@dataclass
class Transaction:
    utf8: bool
    recipients: int = 0
    chunks: int = 0
    chunking: bool = False


@dataclass
class Model:
    """The state of one session, as far as replies depend on it."""

    anonymous: bool
    tls: bool
    greeted: bool = False
    logged_in: bool = False
    transaction: Transaction | None = None
    bad: int = 0
    failed_logins: int = 0
    closed: bool = False
    delivered: int = 0
    wanted: list[str] = field(default_factory=list)

    def answer(self, *statuses: str) -> None:
        """These are due; and 421 behind the one that was too many."""
        for status in statuses:
            self.wanted.append(status)
            self.bad += status[:3] in BAD
            self.failed_logins += status[:3] == "535"
            if (status[:3] in BAD and self.bad >= 20) or (status[:3] == "535" and self.failed_logins >= 3):
                self.wanted.append(TIMES_UP)
                self.closed = True
                return

    def ready(self) -> bool:
        """Whether message data may come."""
        return self.transaction is not None and self.transaction.recipients > 0


open_ = precondition(lambda self: not self.model.closed)


class Dialogues(RuleBasedStateMachine):
    """One session, and a client that says anything in any order."""

    @initialize(
        anonymous=st.booleans(),
        tls=st.sampled_from([False, False, False, True]),
        steps=st.integers(0, 4),
    )
    def connect(self, anonymous: bool, tls: bool, steps: int) -> None:
        """steps: how far the client goes before it begins to say anything in any order."""
        self.model = Model(anonymous, tls)
        self.backend = MemoryBackend(anonymous=anonymous)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if tls else None
        session = replace(SETTINGS, max_message_bytes=MOST_OCTETS, max_recipients=MOST_RECIPIENTS, tls=context)
        self.stack = ExitStack()
        self.client, _ = self.stack.enter_context(serving(Setting(session), self.backend, whole))
        self.lines = self.client.makefile("rb")
        self.model.answer("220")
        for _ in range(steps):
            self._go_on()

    def _go_on(self) -> None:
        """The next command of a client that knows what it does."""
        model = self.model
        if not model.greeted:
            self._greet("EHLO c")
        elif not (model.logged_in or model.anonymous or model.tls):
            self._log_in([f"AUTH PLAIN {PLAIN}"], ["235 2.7.0"])
        elif model.transaction is None:
            self._begin("<a@example.com>", "MAIL FROM:")
        elif not model.transaction.chunking:
            self._address("<b@example.com>")

    def teardown(self) -> None:
        if hasattr(self, "stack"):
            self.lines.close()
            self.stack.close()
            assert len(self.backend.deliveries) == self.model.delivered

    @invariant()
    def every_reply_is_the_one_that_is_due(self) -> None:
        if not hasattr(self, "model"):
            return
        heard = [self._status() for _ in self.model.wanted]
        assert heard == self.model.wanted
        self.model.wanted.clear()
        if self.model.closed:
            assert self.lines.read() == b""

    def _status(self) -> str:
        while (line := self.lines.readline())[3:4] == b"-":
            pass
        match = re.match(rb"\d{3}(?: [245]\.\d+\.\d+(?= ))?", line)
        return match[0].decode() if match else repr(line)

    def say(self, line: str, *statuses: str) -> None:
        """One line, and what has to come of it."""
        self.octets(line.encode() + b"\r\n", *statuses)

    def octets(self, octets: bytes, *statuses: str) -> None:
        if not self.model.closed:  # within a rule that says more than one line
            self.client.sendall(octets)
            self.model.answer(*statuses)

    # Commands for which the order does not matter

    @open_
    @rule(verb=st.sampled_from(["EHLO c", "ehlo", "HELO c", "Helo"]))
    def hello(self, verb: str) -> None:
        self._greet(verb)

    def _greet(self, verb: str) -> None:
        self.say(verb, "250")
        self.model.greeted = True
        self.model.transaction = None

    @open_
    @rule(
        exchange=st.sampled_from(
            [
                ("NOOP", OK),
                ("noop x y", OK),
                ("HELP", "214 2.0.0"),
                ("VRFY me", "252 2.0.0"),
                ("VRFY", SYNTAX),
                ("RSET x", SYNTAX),
                ("QUIT x", SYNTAX),
                ("EXPN list", "502 5.5.1"),
                ("XCLIENT ADDR=1", "502 5.5.1"),
                ("DATAX", "500 5.5.2"),
                ("MAIL\u00a0FROM:<a@b>", "500 5.5.2"),
                ("x" * 511, "500 5.5.2"),
                ("NOOP \x01", SYNTAX),
            ]
        )
    )
    def anything(self, exchange: tuple[str, str]) -> None:
        self.say(*exchange)

    @open_
    @rule()
    def an_empty_line(self) -> None:
        self.say("")

    @open_
    @rule()
    def reset(self) -> None:
        self.say("RSET", OK)
        self.model.transaction = None

    @open_
    @rule()
    def go_on(self) -> None:
        """Some sense in it, or few dialogues would come as far as a message."""
        self._go_on()

    @open_
    @rule(how_many=st.integers(1, 4))
    def go_on_further(self, how_many: int) -> None:
        for _ in range(how_many):
            self._go_on()

    @precondition(lambda self: not self.model.closed and self.model.bad > 12)
    @rule()
    def quit(self) -> None:
        self.say("QUIT", "221 2.0.0")
        self.model.closed = True

    @open_
    @rule(argument=st.sampled_from(["", " now"]))
    def starttls(self, argument: str) -> None:
        """No handshake is played here: without a parameter it would be due."""
        if not self.model.tls:
            self.say("STARTTLS" + argument, "502 5.5.1")
        elif argument:
            self.say("STARTTLS" + argument, SYNTAX)

    # AUTH

    @open_
    @rule(
        lines=st.sampled_from(
            [
                ([f"AUTH PLAIN {PLAIN}"], ["235 2.7.0"]),
                (["AUTH PLAIN", PLAIN], ["334", "235 2.7.0"]),
                (["auth login", _WORDS["{user}"], _WORDS["{password}"]], ["334", "334", "235 2.7.0"]),
                ([f"AUTH LOGIN {_WORDS['{user}']}", _WORDS["{password}"]], ["334", "235 2.7.0"]),
                ([f"AUTH PLAIN {WRONG}"], ["535 5.7.8"]),
                ([f"AUTH PLAIN {DOWN}"], ["454 4.7.0"]),
                (["AUTH LOGIN", "*"], ["334", "501 5.7.0"]),
                (["AUTH LOGIN", _WORDS["{user}"], "*"], ["334", "334", "501 5.7.0"]),
                (["AUTH PLAIN", "!"], ["334", SYNTAX]),
                (["AUTH PLAIN ="], [SYNTAX]),
                (["AUTH"], [SYNTAX]),
                (["AUTH CRAM-MD5"], ["504 5.5.4"]),
            ]
        )
    )
    def auth(self, lines: tuple[Sequence[str], Sequence[str]]) -> None:
        self._log_in(*lines)

    def _log_in(self, sent: Sequence[str], answers: Sequence[str]) -> None:
        if self.model.tls:
            self.say(sent[0], "538 5.7.11")
        elif not self.model.greeted or self.model.logged_in or self.model.transaction is not None:
            self.say(sent[0], WRONG_ORDER)
        else:
            for line, status in zip(sent, answers, strict=True):
                self.say(line, status)
            self.model.logged_in = answers[-1] == "235 2.7.0"

    # The mail transaction

    def _may_not_mail(self) -> str:
        if not self.model.greeted or self.model.transaction is not None:
            return WRONG_ORDER
        return "" if self.model.logged_in or self.model.anonymous else "530 5.7.0"

    @open_
    @rule(sender=st.sampled_from([*SENDERS, UTF8_SENDER]), verb=st.sampled_from(["MAIL FROM:", "mail from: "]))
    def mail(self, sender: str, verb: str) -> None:
        self._begin(sender, verb)

    def _begin(self, sender: str, verb: str) -> None:
        status = self._may_not_mail() or SENDERS.get(sender, "250 2.1.0")
        self.say(verb + sender, status)
        if status == "250 2.1.0":
            self.model.transaction = Transaction(utf8=sender == UTF8_SENDER)

    @open_
    @rule(recipient=st.sampled_from([*RECIPIENTS, UTF8_RECIPIENT]))
    def rcpt(self, recipient: str) -> None:
        self._address(recipient)

    def _address(self, recipient: str) -> None:
        transaction = self.model.transaction
        if transaction is None or transaction.chunking:
            return self.say(f"RCPT TO:{recipient}", WRONG_ORDER)
        status = RECIPIENTS.get(recipient, "250 2.1.5" if transaction.utf8 else "553 5.1.3")
        if status == "250 2.1.5":
            if transaction.recipients == MOST_RECIPIENTS:
                status = "452 4.5.3"
            else:
                transaction.recipients += 1
        return self.say(f"RCPT TO:{recipient}", status)

    @precondition(lambda self: not self.model.closed and (self.model.ready() or self.model.bad < 4))
    @rule(
        lines=st.lists(st.sampled_from(["text", ".dot", "", "QUIT", "RSET\n.\nMAIL FROM:<>", "x" * 50]), max_size=3),
        outcome=st.sampled_from(list(OUTCOMES)),
        argument=st.sampled_from(["", "", "", " x"]),
    )
    def data(self, lines: list[str], outcome: str, argument: str) -> None:
        if argument:
            return self.say(f"DATA{argument}", SYNTAX)
        transaction = self.model.transaction
        if transaction is None or not self.model.ready() or transaction.chunking:
            return self.say("DATA", WRONG_ORDER)
        content = "".join(f"{line}\r\n" for line in lines).encode()
        stuffed = re.sub(rb"(\A|(?<=\r\n))\.", b"..", content)
        self.model.transaction = None
        status = self._outcome(outcome) if len(content) <= MOST_OCTETS else TOO_LARGE
        self.say("DATA", "354")
        self.octets(stuffed + b".\r\n", status)
        if len(content) <= MOST_OCTETS:
            assert self._delivered() == content
        return None

    @precondition(lambda self: not self.model.closed and (self.model.ready() or self.model.bad < 4))
    @rule(
        chunk=st.sampled_from([b"", b"text", b"QUIT\r\n.\r\n", b".\r\nRSET\r\n", b"x" * 40, b"x" * 61]),
        last=st.booleans(),
        outcome=st.sampled_from(list(OUTCOMES)),
    )
    def bdat(self, chunk: bytes, last: bool, outcome: str) -> None:
        """RFC 3030 §2: the chunk is read whatever the answer is."""
        command = b"BDAT %d%s\r\n" % (len(chunk), b" LAST" if last else b"")
        transaction = self.model.transaction
        if transaction is None or not self.model.ready():
            return self.octets(command + chunk, WRONG_ORDER)
        if transaction.chunks + len(chunk) > MOST_OCTETS:
            self.model.transaction = None
            return self.octets(command + chunk, TOO_LARGE)
        transaction.chunks += len(chunk)
        transaction.chunking = True
        if not last:
            return self.octets(command + chunk, OK)
        self.model.transaction = None
        self.octets(command + chunk, self._outcome(outcome))
        assert len(self._delivered()) == transaction.chunks
        return None

    @open_
    @rule(argument=st.sampled_from(["", " x LAST", " 0 x", " 6 x", " 6 LAST 1"]))
    def malformed_bdat(self, argument: str) -> None:
        """The octets that it names are dropped; a chunk that is missing ends the transaction."""
        chunk = b"QUIT\r\n" if "6" in argument else b""
        transaction = self.model.transaction
        if transaction is not None and (transaction.chunking or chunk):
            self.model.transaction = None
        self.octets(f"BDAT{argument}\r\n".encode() + chunk, SYNTAX)

    @precondition(lambda self: self.model.closed)
    @rule()
    def nothing_more(self) -> None:
        """The dialogue is over."""

    def _outcome(self, outcome: str) -> str:
        """What the backend will say of the message that is about to come."""
        reply = OUTCOMES[outcome]
        if reply is not None:
            self.backend.outcomes.append(reply)
        self.model.delivered += 1
        return outcome

    def _delivered(self) -> bytes:
        """The newest message, as soon as its answer is there."""
        self.every_reply_is_the_one_that_is_due()
        return self.backend.deliveries[-1].content


Dialogues.TestCase.settings = settings(
    phases=[Phase.generate],  # a dialogue that went wrong is printed as it was: shrinking takes minutes
    max_examples=int(os.environ.get("RELAY_STATE_EXAMPLES", "100")),
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize="RELAY_STATE_EXAMPLES" not in os.environ,
)
TestDialogues = Dialogues.TestCase
