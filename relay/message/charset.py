# SPDX-License-Identifier: MIT
"""Octets of text → str, whatever charset was declared and whatever is true (RFC 2045, RFC 2978, WHATWG Encoding).

Knows charset names and how senders get them wrong. Knows nothing of headers or parts. A name is looked up in a closed
table only: Python's own look-up would import, and remember for ever, each name a stranger makes up, and it knows
codecs that are no charset of mail at all (idna, unicode_escape, rot13).
"""

from __future__ import annotations

import codecs
import re
from encodings.aliases import aliases
from functools import lru_cache

_NO_CHARSETS = {"base64_codec", "bz2_codec", "hex_codec", "mbcs", "quopri_codec", "rot_13", "uu_codec", "zlib_codec"}
_WITHOUT_ALIAS = (
    "cp720 cp737 cp856 cp874 cp875 cp1006 koi8_r koi8_t koi8_u mac_arabic mac_croatian mac_farsi mac_romanian"
)
_OWN_ALIASES = {
    "ansi": "cp1252",
    "cp943": "cp932",
    "cp51932": "euc_jp",
    "cp50220": "iso2022_jp",
    "cp50221": "iso2022_jp",
    "cp50222": "iso2022_jp",
    "dos874": "cp874",
    "eucjpms": "euc_jp",
    "eucjpwin": "euc_jp",
    "gb231280": "gb2312",
    "big5eten": "big5",
    "iso10646ucs2": "utf_16",
    "iso88596e": "iso8859_6",
    "iso88596i": "iso8859_6",
    "iso88598e": "iso8859_8",
    "iso88598i": "iso8859_8",
    "jis": "iso2022_jp",
    "jis7": "iso2022_jp",
    "koi8": "koi8_r",
    "koi8ru": "koi8_u",
    "ksx1001": "euc_kr",
    "macintosh": "mac_roman",
    "sjiswin": "cp932",
    "ucs2": "utf_16",
    "ucs4": "utf_32",
    "unicode": "utf_16",
    "unicode11utf7": "utf_7",
    "unicode11utf8": "utf_8",
    "unicode20utf8": "utf_8",
    "utf8mb3": "utf_8",
    "utf8mb4": "utf_8",
    "utf8sig": "utf_8",
    "visual": "iso8859_8",
    "windows31j": "cp932",
}
# What senders mean when their text does not fit into the charset they name.
_SUPERSETS = {
    "gb2312": ("gb18030",),
    "gbk": ("gb18030",),
    "hz": ("gb18030",),
    "euc_kr": ("cp949",),
    "iso2022_kr": ("cp949",),
    "shift_jis": ("cp932", "shift_jis_2004"),
    "cp932": ("shift_jis_2004",),
    "euc_jp": ("euc_jis_2004",),
    "iso2022_jp": ("iso2022_jp_ext", "iso2022_jp_2", "iso2022_jp_3"),
    "iso2022_jp_1": ("iso2022_jp_ext", "iso2022_jp_2", "iso2022_jp_3"),
    "iso2022_jp_2": ("iso2022_jp_ext", "iso2022_jp_3"),
    "big5": ("cp950", "big5hkscs"),
    "cp950": ("big5hkscs",),
    "tis_620": ("cp874",),
    "iso8859_11": ("cp874",),
    "iso8859_6": ("cp1256",),
    "iso8859_7": ("cp1253",),
    "iso8859_8": ("cp1255",),
}
_SHIFTED = ("hz", "iso2022_kr")  # in seven bits, while their supersets are in eight
# Windows-1252 as browsers read it: the five octets that Microsoft left open are the C1 controls of Latin-1.
_WINDOWS_1252 = "".join(
    bytes([octet]).decode("latin-1" if octet in (0x81, 0x8D, 0x8F, 0x90, 0x9D) else "cp1252") for octet in range(256)
)
_MAX_STRAY_OCTETS = 100_000  # a text with more of them is in another charset, and each costs a call into Python
_C1 = re.compile(rb"[\x80-\x9f]")  # controls that no mail holds; here Windows has the euro sign and its quotation marks
_TO_JAPANESE = re.compile(rb"\x1b\$[@B]")  # how ISO-2022-JP leaves ASCII, RFC 1468
# One character beyond U+FFFF as Java and Oracle write it into what they call UTF-8: two surrogates (CESU-8, UTR #26).
_CESU_8_PAIR = re.compile(rb"\xed[\xa0-\xaf][\x80-\xbf]\xed[\xb0-\xbf][\x80-\xbf]")


def _squeeze(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "", name.lower())


def _known_codecs() -> dict[str, str]:
    known = {_squeeze(alias): codec for alias, codec in aliases.items() if codec not in _NO_CHARSETS}
    known |= {_squeeze(codec): codec for codec in (*known.values(), *_WITHOUT_ALIAS.split())}
    return known | _OWN_ALIASES


_CODECS = _known_codecs()


def find_codec(charset: str | None) -> str | None:
    """Python's codec for a charset name as it stands in a message; None for one that is missing or unknown."""
    return _find_codec(charset) if charset and len(charset) <= 64 else None


@lru_cache(maxsize=256)
def _find_codec(charset: str) -> str | None:
    name = _squeeze(charset)
    for prefix, instead in (("", ""), ("x", ""), ("windows", "cp"), ("xwindows", "cp"), ("ibm", "cp"), ("ms", "cp")):
        if name.startswith(prefix) and (codec := _CODECS.get(instead + name[len(prefix) :])):
            return codec
    return None


def decode_text(octets: bytes, charset: str | None) -> tuple[str, bool]:
    """The text, and whether it is certain: decoded as declared, or nothing was declared and it is UTF-8.

    A declared charset that fits is taken, with what Windows put into it; then its usual superset; then UTF-8; then the
    declared one where but few octets are none of it; then Windows-1252.
    Never U+FFFD, a lone surrogate or NUL, and no byte order mark; linear in the number of octets.
    """
    codec = find_codec(charset)
    open_to_guess = codec is None or codec == "ascii"
    declared = None if codec is None or open_to_guess else _decode_declared(octets, codec)
    if declared is not None:
        return _without_nul(declared), True
    text, is_utf8 = _guess(octets)
    if codec is not None and not open_to_guess and (not is_utf8 or octets.isascii()):
        text = _decode_but_strays(octets, codec) or text
    return _without_nul(text), is_utf8 and open_to_guess and (not charset or text.isascii())


def _without_nul(text: str) -> str:
    return text.replace("\0", "") if "\0" in text else text  # to look for one is far quicker than to replace none


def _decode_declared(octets: bytes, codec: str) -> str | None:
    if codec.startswith(("utf_16", "utf_32")):
        if octets.isascii() and b"\0" not in octets and (len(octets) >= 16 or b"\r\n" in octets):
            return None  # no text is written in such characters alone: it is in ASCII
        unit = 4 if codec.startswith("utf_32") else 2
        octets = octets[: len(octets) // unit * unit]  # a character that is cut in two
        codec = _byte_order(octets, codec)
    if codec == "latin_1" and _C1.search(octets):
        return _decode_windows_1252(octets)
    if codec == "iso8859_9" and _C1.search(octets):
        codec = "cp1254"
    wider = () if codec in _SHIFTED and octets.isascii() else _SUPERSETS.get(codec, ())
    for name in (codec, *wider):
        try:
            text = octets.decode(name)
        except UnicodeError:
            continue
        if codec.startswith("utf_"):
            text = text.removeprefix("\ufeff")
        if codec == "utf_7" and re.search("[\ud800-\udfff]", text):
            return None  # Python's UTF-7 alone lets half a character through
        return text
    if codec.startswith("iso2022_jp"):
        return _decode_nec_japanese(octets)
    return None


def _byte_order(octets: bytes, codec: str) -> str:
    """The codec with its byte order: the mark's, else the declared one, else the one that the text looks like.

    RFC 2781 §4.3 says big-endian where nothing is said; many senders do the opposite.
    """
    if octets.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or octets.startswith(codecs.BOM_UTF32_BE):
        return codec[:6]
    if codec == "utf_32":
        return "utf_32_be" if octets[:1] == b"\0" else "utf_32_le"
    if codec == "utf_16":
        return "utf_16_le" if octets[1::2].count(0) > octets[0::2].count(0) else "utf_16_be"
    return codec


def _decode_nec_japanese(octets: bytes) -> str | None:
    """ISO-2022-JP with the circled digits and so on of NEC's row 13, which JIS X 0213 took over where they were."""
    try:
        return _TO_JAPANESE.sub(b"\x1b$(Q", octets).decode("iso2022_jp_2004")
    except UnicodeError:
        return None


def _decode_but_strays(octets: bytes, codec: str) -> str | None:
    """The text in its declared charset, but for octets that are none of it: a character that a length limit cut in two.

    None where they are more than its characters beyond ASCII: then it is another charset.
    """
    if codec in ("utf_8", "utf_7") or (codec.startswith("utf_") and octets.isascii()):
        return None
    if codec.startswith(("utf_16", "utf_32")):
        codec = _byte_order(octets, codec)
    name = codec if codec in _SHIFTED else _SUPERSETS.get(codec, (codec,))[0]
    if _too_many_strays(octets.decode(name, "replace")):
        return None
    return octets.decode(name, _ERROR_HANDLER).removeprefix("\ufeff")


def _guess(octets: bytes) -> tuple[str, bool]:
    if b"\x1b" in octets and _TO_JAPANESE.search(octets) and (text := _decode_declared(octets, "iso2022_jp")):
        return text, True
    if octets.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            return octets.decode("utf-16"), True
        except UnicodeError:
            pass  # not UTF-16 after all: go on guessing
    octets = _without_surrogates(octets)
    try:
        return octets.decode("utf-8").removeprefix("\ufeff"), True
    except UnicodeError:
        if is_windows_1252(octets):
            return _decode_windows_1252(octets), False
        # A character cut in two by a length limit must not spoil all others: only the octets that are no UTF-8
        # are read as Windows-1252.
        return octets.decode("utf-8", _ERROR_HANDLER).removeprefix("\ufeff"), False


def is_windows_1252(octets: bytes) -> bool:
    """Whether it has more octets that are no UTF-8 than characters that are: in "«É»" two are so by chance."""
    return _too_many_strays(_without_surrogates(octets).decode("utf-8", "replace"))


def _without_surrogates(octets: bytes) -> bytes:
    return _CESU_8_PAIR.sub(_in_utf_8, octets) if b"\xed" in octets else octets


def _in_utf_8(pair: re.Match[bytes]) -> bytes:
    _, high, low, _, high2, low2 = pair[0]
    above = (high & 0x0F) << 16 | (low & 0x3F) << 10 | (high2 & 0x0F) << 6 | low2 & 0x3F
    return chr(0x10000 + above).encode()


def _too_many_strays(lossy: str) -> bool:
    """lossy: decoded with U+FFFD in place of each octet that does not fit."""
    stray = lossy.count("\ufffd")
    sound = len(lossy) - len(lossy.encode("ascii", "ignore")) - stray
    return stray > min(sound, _MAX_STRAY_OCTETS)


def _decode_windows_1252(octets: bytes) -> str:
    return codecs.charmap_decode(octets, "strict", _WINDOWS_1252)[0]


def _read_stray_octets(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return _decode_windows_1252(error.object[error.start : error.end]), error.end


_ERROR_HANDLER = "relay.stray-octets-are-windows-1252"
codecs.register_error(_ERROR_HANDLER, _read_stray_octets)
