"""Ogg files without chance: an encoder draws a number for every stream it writes, which would make equal sounds unequal
files.

A file is a sequence of pages: `OggS`, version, flags, position (8 bytes), stream (4), page (4), checksum (4), n, n
sizes, and as many bytes as they add up to. Integers are little-endian. Source: RFC 3533, section 6.
"""

from __future__ import annotations

from typing import IO

from segue.errors import SegueError

STREAM = (1).to_bytes(4, "little")
_MAGIC, _HEADER = b"OggS", 27
_STREAM, _CHECKSUM = slice(14, 18), slice(22, 26)


def _table() -> tuple[int, ...]:
    """What a byte does to the checksum: polynomial 0x04C11DB7, highest bit first."""
    found = []
    for byte in range(256):
        value = byte << 24
        for _ in range(8):
            value = (value << 1 ^ (0x04C11DB7 if value >> 31 else 0)) & 0xFFFFFFFF
        found.append(value)
    return tuple(found)


_TABLE = _table()


def checksum(page: bytes | bytearray) -> int:
    """Of a page whose own checksum is 0."""
    value = 0
    for byte in page:
        value = (value << 8 & 0xFFFFFFFF) ^ _TABLE[value >> 24 ^ byte]
    return value


def renumber(file: IO[bytes]) -> None:
    """Give the one stream of an Ogg file the number 1, in place, page by page.

    Args:
        file: open for reading and writing.

    Raises:
        SegueError: if it is no Ogg file, or breaks off within a page.
    """
    file.seek(0)
    while header := file.read(_HEADER):
        start = file.tell() - len(header)
        sizes = file.read(header[-1]) if len(header) == _HEADER and header.startswith(_MAGIC) else b""
        body = file.read(sum(sizes))
        if len(header) + len(sizes) + len(body) < _HEADER + header[-1] + sum(sizes) or not header.startswith(_MAGIC):
            raise SegueError(f"{getattr(file, 'name', 'sound')}: no whole page of Ogg at byte {start}; write it again")
        page = bytearray(header + sizes + body)
        page[_STREAM], page[_CHECKSUM] = STREAM, bytes(4)
        page[_CHECKSUM] = checksum(page).to_bytes(4, "little")
        file.seek(start)
        file.write(page)
