# SPDX-License-Identifier: MIT
"""JSON or MIME: what each message would lose in Graph's JSON form, from one table, and the choice that follows.

Knows media types and the three ways of graph_format. Does not know how either form is written, nor Graph.
Sources: Graph, "sendMail" and "outlook-send-mime-message" (S/MIME goes in MIME form only); RFC 1847, 2046, 3156,
3462, 6047, 8551.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Literal, NamedTuple

from relay.message.mime import Leaf, Structure
from relay.message.model import Message

Form = Literal["json", "mime"]

TEXT_ALTERNATIVE = "text alternative"  # of an HTML body: Exchange makes its own, so this loss decides nothing
KEPT_COPY = "; a copy stays in Sent Items"


class Choice(NamedTuple):
    """reason: for the log. json_will_do: it goes as JSON after all, should MIME turn out too large."""

    form: Form
    reason: str
    json_will_do: bool = False


_NOTHING_KEPT = Choice("json", "save_to_sent is off")


def choose_form(message: Message, graph_format: str, *, save_to_sent: bool) -> Choice:
    """The form in which a message goes: the one that keeps the most of it, unless graph_format names one.

    MIME keeps all but always leaves a copy in Sent Items; JSON alone can go without one.
    """
    copy = "" if save_to_sent else KEPT_COPY
    if graph_format == "json":
        return Choice("json", "graph_format")
    if graph_format == "mime":
        return Choice("mime", f"graph_format{copy}")
    if message.not_carried and (losses := [name for name in message.not_carried if name != TEXT_ALTERNATIVE]):
        return Choice("mime", f"{', '.join(losses)}{copy}", json_will_do=not is_sealed(message))
    if save_to_sent:
        return Choice("mime", "save_to_sent", json_will_do=True)
    return _NOTHING_KEPT


def is_sealed(message: Message) -> bool:
    """Whether it is signed or encrypted: no other form will do then, whatever the size."""
    return not {"signature", "encryption"}.isdisjoint(message.not_carried)


def lost_in_json(structure: Structure, texts: Iterable[str]) -> Iterable[str]:
    """What JSON would lose of these parts beyond a text alternative, by name. texts: all that may be the body."""
    for media_type in structure.containers:
        if found := _LOST_CONTAINERS.get(media_type):
            yield found
    for leaf in structure.leaves:
        if leaf.media_type not in _KEPT_LEAVES and (found := _lost_leaf(leaf)):
            yield found
    for text in texts:
        if "-----BEGIN PGP" not in text:
            continue
        if "-----BEGIN PGP MESSAGE-----" in text:
            yield "encryption"
        if "-----BEGIN PGP SIGNED MESSAGE-----" in text:
            yield "signature"  # Exchange writes the text of a JSON body anew, white space and all


def _lost_leaf(leaf: Leaf) -> str:
    look = _LOST_LEAVES.get(leaf.media_type)
    if look is not None and (found := look(leaf)):
        return found
    is_text = leaf.media_type.startswith("text/") and leaf.disposition != "attachment"
    if is_text and _is_alternative(leaf):
        return "alternative of another kind"  # text/enriched, AMP: with JSON an attachment beside the body
    return ""


def _is_alternative(leaf: Leaf) -> bool:
    return bool(leaf.containers) and leaf.containers[-1].subtype == "alternative"


def _smime(leaf: Leaf) -> str:
    """A message in an envelope of S/MIME, RFC 8551 §3.2; not a signed file such as an electronic invoice."""
    name = (leaf.disposition_parameters.get("filename") or leaf.parameters.get("name") or "").lower()
    kind = leaf.parameters.get("smime-type", "").lower()
    if kind == "certs-only":
        return ""
    if leaf.media_type == "application/octet-stream" and not name.endswith(".p7m"):
        return ""
    if leaf.containers and not kind and name not in ("", "smime.p7m"):
        return ""
    return "signature" if kind == "signed-data" else "encryption"


def _invitation(leaf: Leaf) -> str:
    """RFC 6047 §2.4 wants method=; a calendar that stands for the body is meant as an invitation without it too."""
    stands_for_body = not leaf.containers or _is_alternative(leaf)
    if leaf.parameters.get("method") or (stands_for_body and leaf.disposition != "attachment"):
        return "calendar invitation"
    return ""


_LOST_CONTAINERS: Mapping[str, str] = {
    "multipart/signed": "signature",
    "multipart/encrypted": "encryption",
    "multipart/report": "delivery report",
}
_KEPT_LEAVES = {"text/plain", "text/html"}
_LOST_LEAVES: Mapping[str, Callable[[Leaf], str]] = {
    "application/pkcs7-mime": _smime,
    "application/x-pkcs7-mime": _smime,
    "application/octet-stream": _smime,
    "text/calendar": _invitation,
    "application/ms-tnef": lambda _: "Outlook rich text",  # Exchange reads winmail.dat only in a message of its own
    "application/vnd.ms-tnef": lambda _: "Outlook rich text",
    "message/partial": lambda _: "part of a message cut in pieces",  # put together by its parameters, RFC 2046 §5.2.2
    "message/external-body": lambda _: "reference to an external body",
}
