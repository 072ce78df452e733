# SPDX-License-Identifier: MIT
"""Charsets: every name that is seen, every way of being wrong, and never a lost or replaced character."""

from __future__ import annotations

import encodings.aliases

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.message.charset import _CODECS, decode_text, find_codec

NO_CHARSETS = [
    *("idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined", "charmap", "rot13", "base64", "hex"),
    *("zip", "bz2", "uu", "quopri", "mbcs", "oem", "", None, "x", "no-such", "é", "a\0b", "u" * 100),
]


@pytest.mark.parametrize(
    ("charset", "codec"),
    [
        ("UTF-8", "utf_8"),
        ("utf8", "utf_8"),
        ("utf8mb4", "utf_8"),
        ("unicode-1-1-utf-7", "utf_7"),
        ("ISO-8859-1", "latin_1"),
        ("iso8859_15", "iso8859_15"),
        ("iso-8859-8-i", "iso8859_8"),
        ("x-sjis", "shift_jis"),
        ("Windows-31J", "cp932"),
        ("ms932", "cp932"),
        ("ks_c_5601-1987", "euc_kr"),
        ("windows-949", "cp949"),
        ("windows-874", "cp874"),
        ("cp-850", "cp850"),
        ("IBM850", "cp850"),
        ("x-gbk", "gbk"),
        ("x-mac-roman", "mac_roman"),
        ("macintosh", "mac_roman"),
        ("x-cp1251", "cp1251"),
        ("KOI8-R", "koi8_r"),
        ("big5-hkscs", "big5hkscs"),
        ("csISO2022JP", "iso2022_jp"),
    ],
)
def test_names(charset: str, codec: str) -> None:
    assert find_codec(charset) == codec


@pytest.mark.parametrize("charset", NO_CHARSETS)
def test_what_is_no_charset_of_mail_is_unknown(charset: str | None) -> None:
    assert find_codec(charset) is None
    assert decode_text(b"caf\xc3\xa9 \\u0041", charset)[0] == "café \\u0041"


def test_every_codec_of_the_table_exists_and_is_text() -> None:
    assert len(_CODECS) > 300
    for codec in set(_CODECS.values()):
        assert isinstance(b"".decode(codec), str)


def test_python_knows_no_text_alias_that_we_do_not() -> None:
    for alias in encodings.aliases.aliases:
        if find_codec(alias) is None:
            with pytest.raises(LookupError):
                b"x".decode(alias)


@pytest.mark.parametrize(
    ("octets", "charset", "text"),
    [
        ("Grüße".encode("latin-1"), "iso-8859-1", "Grüße"),
        (b"\x93x\x94 \x80\x81", "iso-8859-1", "\u201cx\u201d €\x81"),  # what Windows writes under this name
        (b"\x80 \xfe", "iso-8859-9", "€ ş"),
        (b"\x80", "iso-8859-15", "\x80"),  # taken literally
        ("日本".encode("iso2022_jp"), None, "日本"),
        (b"\x1b(B\x1b[m", None, "\x1b(B\x1b[m"),  # of a terminal
        (b"\x93x\x94", "windows-1252", "\u201cx\u201d"),
        ("Привет".encode("koi8-r"), "koi8-r", "Привет"),
        ("日本".encode("shift_jis"), "x-sjis", "日本"),
        ("①㈱".encode("cp932"), "shift_jis", "①㈱"),
        ("鎔镕".encode("gb18030"), "gb2312", "鎔镕"),
        ("똠방".encode("cp949"), "euc-kr", "똠방"),
        ("똠방".encode("cp949"), "ks_c_5601-1987", "똠방"),
        ("着".encode("big5hkscs"), "big5", "着"),
        ("€".encode("cp950"), "big5", "€"),
        ("日本".encode("iso2022_jp"), "iso-2022-jp", "日本"),
        (b"\x1b(I1\x1b(B", "iso-2022-jp", "ｱ"),
        (b"\x1b$B-!\x1b(B", "iso-2022-jp", "①"),
        (b"\xa4", "tis-620", "ค"),
        ("שלום".encode("cp1255"), "iso-8859-8-i", "שלום"),
        ("שָ".encode("cp1255"), "iso-8859-8", "שָ"),
        ("Grüße".encode("utf-7"), "utf-7", "Grüße"),
        (b"\xef\xbb\xbfx", "utf-8", "x"),
        ("xé".encode("utf-16"), "utf-16", "xé"),
        ("xé".encode("utf-16-le"), "utf-16", "xé"),
        ("xé\n".encode("utf-16")[:-1], "utf-16", "xé"),
        ("xé\n".encode("utf-32")[:-1], "utf-32", "xé"),
        ("xé".encode("utf-16-be"), "utf-16", "xé"),
        (b"\xff\xfex\0", "utf-16le", "x"),
        (b"\xff\xfex\0", "utf-16be", "x"),
        ("xé".encode("utf-32"), "utf-32", "xé"),
        ("xé".encode("utf-32-be"), "utf-32", "xé"),
        (b"a\0b", "utf-8", "ab"),
        (b"", None, ""),
        ("é".encode(), None, "é"),
        (b"\xff\xfea\0", None, "a"),
    ],
)
def test_certain(octets: bytes, charset: str | None, text: str) -> None:
    assert decode_text(octets, charset) == (text, True)


@pytest.mark.parametrize(
    ("octets", "charset", "text"),
    [
        (b"caf\xe9 \x93x\x94", None, "café \u201cx\u201d"),
        (b"caf\xe9", "us-ascii", "café"),
        ("«CAFÉ», déjà".encode("cp1252"), None, "«CAFÉ», déjà"),  # É» is ɻ in UTF-8
        ("café".encode(), "us-ascii", "café"),
        ("café".encode(), "x-unknown", "café"),
        (b"caf\xe9 \x81\x93", "utf-8", "café \x81\u201c"),
        ("日本語の件名".encode()[:-1], "utf-8", "日本語の件å\u0090"),
        (b"Gr\xc3\xbc\xff\xc3\x9f", "utf-8", "Grüÿß"),
        ("Grüße".encode(), "gb2312x", "Grüße"),
        (b"+2AA-x", "utf-7", "+2AA-x"),
        (b"\xff\xff\xff", "euc-jp", "ÿÿÿ"),
        ("Grüße".encode(), "euc-jp", "Grüße"),
        ("中文主题测试".encode("gbk")[:-1], "gb2312", "中文主题测Ê"),
        ("中文主題測試".encode("big5")[:-1], "big5", "中文主題測\xb8"),
        ("これはテストです".encode("shift_jis")[:-1], "shift_jis", "これはテストで\u201a"),
        ("日本語の件名".encode("iso2022_jp")[:-4], "iso-2022-jp", "日本語の件L"),
        ("한국어".encode("iso2022_kr") + b"\xff", "iso-2022-kr", "한국어ÿ"),
        ("한국어".encode("iso2022_kr")[:-2], "iso-2022-kr", "한국>"),
        ("中文主题".encode("hz")[:-3], "hz-gb-2312", "中文主L"),
        ("Привет".encode("cp1251") + b"\x98", "windows-1251", "Привет\u02dc"),
        ("Привет \ud83d".encode("utf-16-le", "surrogatepass"), "utf-16le", "Привет =Ø"),
        (b"It is 7-bit text\r\n", "utf-16", "It is 7-bit text\r\n"),
        (b"Hello\r\n", "utf-16", "Hello\r\n"),
        ("日本".encode("iso2022_jp"), "us-ascii", "日本"),
        ("\ud83d\ude00 ü".encode("utf-8", "surrogatepass"), "utf-8", "😀 ü"),  # CESU-8, as Java and Oracle write it
    ],
)
def test_guessed(octets: bytes, charset: str | None, text: str) -> None:
    assert decode_text(octets, charset) == (text, False)


def test_ascii_is_certain_under_an_unknown_name() -> None:
    assert decode_text(b"cafe", "x-unknown") == ("cafe", True)


def test_a_text_of_stray_octets_is_read_whole() -> None:
    octets = "é".encode("latin-1") * 200_000 + "é".encode()
    assert decode_text(octets, None) == ("é" * 200_000 + "Ã©", False)


@given(octets=st.binary(max_size=200), charset=st.sampled_from([*sorted(set(_CODECS.values())), *NO_CHARSETS]))
@example(octets=b"+2AA-", charset="utf_7")
@example(octets=b"\xff\xfe\x00\xd8", charset=None)
def test_always_text_that_can_be_written(octets: bytes, charset: str | None) -> None:
    text, _ = decode_text(octets, charset)
    assert "\0" not in text
    text.encode("utf-8")  # no lone surrogate
    if find_codec(charset) is None:
        assert text.count("\ufffd") == octets.decode("utf-8", "ignore").count("\ufffd") or octets[:2] in (
            b"\xff\xfe",
            b"\xfe\xff",
        )


@given(text=st.text(st.characters(exclude_characters="\0\ufeff", exclude_categories=["Cs"])), charset=st.sampled_from(
    ["utf-8", "utf-16", "utf-32", "gb18030", None]))  # fmt: skip
def test_what_was_encoded_comes_back(text: str, charset: str | None) -> None:
    assert decode_text(text.encode(charset or "utf-8"), charset) == (text, True)
