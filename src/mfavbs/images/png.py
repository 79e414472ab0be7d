"""In: a PNG file's bytes, damaged or not. Out: its picture's chunks, and how much is there."""

import struct
import zlib
from typing import NamedTuple

SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Chunks that make the picture; all others (text, profiles, times) may be damaged or huge.
_KEPT = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"eXIf")
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
# (first column, first row, step across, step down) of the seven passes of an interlaced PNG
_ADAM7 = (
    *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)),
    *((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
)


class Header(NamedTuple):
    """What the first chunk says."""

    width: int
    height: int
    bits: int  # of a pixel
    interlaced: bool


def header(png: bytes) -> Header:
    """Read the first chunk."""
    at = png.index(b"IHDR") + 4
    width, height, depth, colour, *_, interlace = struct.unpack(">IIBBBBB", png[at : at + 13])
    return Header(width, height, depth * _CHANNELS.get(colour, 1), interlace == 1)


def essential(png: bytes) -> bytes:
    """The same picture without other chunks, with checksums as they should be."""
    kept = [(kind, data) for kind, data in _chunks(png) if kind in _KEPT]
    return SIGNATURE + b"".join(_chunk(kind, data) for kind, data in [*kept, (b"IEND", b"")])


def rows_present(png: bytes) -> int:
    """How many rows, from the first on, its data hold."""
    about = header(png)
    width, height = about.width, about.height
    expected = 0
    for left, top, across, down in _ADAM7 if about.interlaced else ((0, 0, 1, 1),):
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0 and rows > 0:
            expected += rows * (1 + (columns * about.bits + 7) // 8)
    found, inflate = 0, zlib.decompressobj()
    data = b"".join(data for kind, data in _chunks(png) if kind == b"IDAT")
    try:
        while data and not inflate.eof and found < expected:
            found += len(inflate.decompress(data, 1 << 20))
            data = inflate.unconsumed_tail
    except zlib.error:
        pass  # what was found before the damage counts
    share = min(1.0, found / expected)
    # The last of the passes is the second half of the data and every other row.
    return int(height * (max(0.0, 2 * share - 1) if about.interlaced else share))


def _chunks(png: bytes) -> list[tuple[bytes, bytes]]:
    chunks, at = [], len(SIGNATURE)
    while at + 8 <= len(png):
        length, kind = struct.unpack(">I4s", png[at : at + 8])
        chunks.append((kind, png[at + 8 : at + 8 + length]))
        at += length + 12
    return chunks


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
