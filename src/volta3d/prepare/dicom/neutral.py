"""A DICOM file of a few numbers: explicit little endian, nothing in it that isn't given here.

Written by hand because a slice has thirty elements of known type (PS3.5 section 7.1.2, PS3.10).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

Element = tuple[int, str, bytes]

LONG = {"OB", "OW"}
UNDEFINED = 0xFFFFFFFF
ITEM, END = struct.pack("<HHI", 0xFFFE, 0xE000, 0), struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
PIXELS = 0x7FE00010
TRANSFER_SYNTAX = 0x00020010


def dicom_file(elements: Iterable[Element], syntax: str) -> bytes:
    """The bytes of a file; ``elements`` are (tag, value representation, value), pixels last."""
    body = b"".join(encode(*e) for e in elements)
    meta = encode(0x00020001, "OB", b"\0\1") + encode(TRANSFER_SYNTAX, "UI", text(syntax))
    length = encode(0x00020000, "UL", struct.pack("<I", len(meta)))
    return bytes(128) + b"DICM" + length + meta + body


def encode(tag: int, kind: str, value: bytes) -> bytes:
    """One element, padded to an even length."""
    value += (b"\0" if kind in ("UI", "OB", "OW") else b" ") * (len(value) % 2)
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + kind.encode()
    if kind in LONG:
        return head + struct.pack("<HI", 0, len(value)) + value
    return head + struct.pack("<H", len(value)) + value


def packed_pixels(packed: bytes) -> bytes:
    """The pixel element of one compressed frame, as a single fragment (PS3.5 section A.4)."""
    packed += b"\0" * (len(packed) % 2)
    head = struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OB", 0, UNDEFINED)
    return head + ITEM + struct.pack("<HHI", 0xFFFE, 0xE000, len(packed)) + packed + END


def text(value: object) -> bytes:
    """A string value."""
    return str(value).encode("ascii")


def whole(value: int) -> bytes:
    """An unsigned short."""
    return struct.pack("<H", value)
