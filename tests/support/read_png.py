# SPDX-License-Identifier: Apache-2.0
"""PNG files read by hand, from the specification."""

import struct
import zlib

import numpy as np

CHANNELS = {0: 1, 2: 3, 6: 4}


def pixels(file):
    """The `(h, w, c)` uint8 array of an 8-bit PNG that is not interlaced."""
    assert file[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, place = [], 8
    while place < len(file):
        (length,) = struct.unpack_from(">I", file, place)
        content = file[place + 4 : place + 8 + length]  # the kind, then the data
        assert struct.unpack_from(">I", file, place + 8 + length) == (zlib.crc32(content),)
        chunks.append((content[:4], content[4:]))
        place += 12 + length
    assert [chunks[0][0], chunks[-1]] == [b"IHDR", (b"IEND", b"")]
    width, height, depth, color, *others = struct.unpack(">IIBBBBB", chunks[0][1])
    assert [depth, *others] == [8, 0, 0, 0]
    channels = CHANNELS[color]
    data = zlib.decompress(b"".join(data for kind, data in chunks if kind == b"IDAT"))
    rows, stride = [bytes(width * channels)], width * channels + 1
    assert len(data) == height * stride
    for start in range(0, len(data), stride):
        line = data[start + 1 : start + stride]
        rows.append(_unfiltered(data[start], line, rows[-1], channels))
    return np.frombuffer(b"".join(rows[1:]), np.uint8).reshape(height, width, channels)


def _unfiltered(kind, line, above, channels):
    row = bytearray()
    for i, x in enumerate(line):
        a, c = (row[i - channels], above[i - channels]) if i >= channels else (0, 0)
        b = above[i]
        nearest = min((abs(value - (a + b - c)), k) for k, value in enumerate((a, b, c)))[1]
        row.append((x + (0, a, b, (a + b) // 2, (a, b, c)[nearest])[kind]) % 256)
    return bytes(row)
