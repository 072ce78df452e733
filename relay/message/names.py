# SPDX-License-Identifier: MIT
"""Names of attachments: cleaned, and made up where a part has none (RFC 2183 §2.3). Pure; knows nothing of octets.

The table of extensions is our own: Python's mimetypes reads files of the machine and differs by version.
"""

from __future__ import annotations

import re

_EXTENSIONS = {
    "application/gzip": "gz",
    "application/json": "json",
    "application/msword": "doc",
    "application/ms-tnef": "dat",
    "application/pdf": "pdf",
    "application/pgp-encrypted": "asc",
    "application/pgp-keys": "asc",
    "application/pgp-signature": "asc",
    "application/pkcs7-mime": "p7m",
    "application/pkcs7-signature": "p7s",
    "application/postscript": "ps",
    "application/rtf": "rtf",
    "application/vnd.ms-excel": "xls",
    "application/vnd.ms-powerpoint": "ppt",
    "application/vnd.oasis.opendocument.spreadsheet": "ods",
    "application/vnd.oasis.opendocument.text": "odt",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": "pptx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/x-pkcs7-mime": "p7m",
    "application/x-pkcs7-signature": "p7s",
    "application/x-zip-compressed": "zip",
    "application/xml": "xml",
    "application/zip": "zip",
    "audio/mp4": "m4a",
    "audio/mpeg": "mp3",
    "audio/ogg": "ogg",
    "audio/wav": "wav",
    "audio/x-wav": "wav",
    "image/bmp": "bmp",
    "image/gif": "gif",
    "image/heic": "heic",
    "image/jpeg": "jpg",
    "image/jpg": "jpg",
    "image/pjpeg": "jpg",
    "image/png": "png",
    "image/svg+xml": "svg",
    "image/tiff": "tif",
    "image/webp": "webp",
    "message/global": "eml",
    "message/rfc822": "eml",
    "text/calendar": "ics",
    "text/css": "css",
    "text/csv": "csv",
    "text/directory": "vcf",
    "text/html": "htm",
    "text/markdown": "md",
    "text/rtf": "rtf",
    "text/vcard": "vcf",
    "text/x-vcard": "vcf",
    "text/xml": "xml",
    "video/mp4": "mp4",
    "video/mpeg": "mpg",
    "video/quicktime": "mov",
}
_EXTENSIONS_BY_TYPE = {"text": "txt", "message": "txt"}
_FIXED = {  # the names that mail programs look for, RFC 8551 §3.2.1 and RFC 3156 §5
    "application/pkcs7-mime": "smime.p7m",
    "application/pkcs7-signature": "smime.p7s",
    "application/x-pkcs7-mime": "smime.p7m",
    "application/x-pkcs7-signature": "smime.p7s",
    "application/pgp-signature": "signature.asc",
    "application/ms-tnef": "winmail.dat",
    "application/vnd.ms-tnef": "winmail.dat",
}
_PATH = re.compile(r"[\\/]|[A-Za-z]:[\\/]|\.{1,2}[\\/]")  # how a path begins
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_NOT_IN_NAMES = re.compile(r'[\\/:*?"<>|]+')
_NAMED_CONTENT_ID = re.compile(r"([^@]+\.[A-Za-z0-9]{1,5})(?:@|\Z)")


def clean_name(name: str) -> str:
    """name without control characters, and without directories where it is a path; empty when nothing is left of it.

    A slash alone makes no path: programs write `Invoice 12/2026.pdf`.
    """
    name = _CONTROLS.sub("", name).strip()
    if "\\" in name or _PATH.match(name):
        name = name.replace("\\", "/").rpartition("/")[2].strip()
    return "" if name.strip(".") == "" else name


def made_up_name(media_type: str, content_id: str, number: int) -> str:
    """A name for the attachment of this media type, the number-th of its message: never empty."""
    if media_type in _FIXED:
        return _FIXED[media_type]
    named = _NAMED_CONTENT_ID.match(content_id)
    if named and (name := clean_name(named[1].rpartition("/")[2])):
        return name  # Outlook writes image001.png@01DA2F3C.5E6F7A80
    extension = _EXTENSIONS.get(media_type) or _EXTENSIONS_BY_TYPE.get(media_type.partition("/")[0], "bin")
    return f"attachment-{number}.{extension}"


def message_name(subject: str) -> str:
    """The file name of an attached message with this subject."""
    name = _NOT_IN_NAMES.sub("_", _CONTROLS.sub("", subject)).strip(" .")
    return f"{name[:100].rstrip() or 'message'}.eml"
