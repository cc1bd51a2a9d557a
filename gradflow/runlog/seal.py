"""A checksum of all bytes of a file, within it, for tables and weights.

Parquet's own are of its pages, and leave out headers and footer: here it stands between the last page and the footer,
to which no reader looks. Safetensors have none: here it is in the metadata.
"""

import zlib

_MARK = b"gradflow crc32: "
_BYTES = 4  # of the checksum, little-endian
FIELD = "crc32"
"""In the metadata of weights; 00000000 until they are sealed."""

_DIGITS = 8
_TAIL = 8  # bytes at the end of every Parquet file: the length of the footer, and PAR1


class BrokenSeal(ValueError):
    """Some bytes are not those that were written."""


def sealed(content: bytes) -> bytes:
    """A Parquet file with the checksum of all its bytes."""
    end = _footer(content)
    checksum = zlib.crc32(content).to_bytes(_BYTES, "little")
    return b"".join([content[:end], _MARK, checksum, content[end:]])


def check_seal(content: bytes) -> None:
    """Raise where a file is not what was sealed; one without a seal, as in older logs, passes.

    Raises:
        BrokenSeal: it is not.
    """
    start = content.rfind(_MARK, max(0, _footer(content) - len(_MARK) - _BYTES))
    if start < 0:
        return
    end = start + len(_MARK) + _BYTES
    whole = memoryview(content)
    checksum = zlib.crc32(whole[end:], zlib.crc32(whole[:start]))
    _compare(content[end - _BYTES : end], checksum.to_bytes(_BYTES, "little"))


def sealed_weights(content: bytes) -> bytes:
    """Safetensors, whose metadata have :data:`FIELD`, with the checksum there."""
    start = _digits(content)
    return b"%b%08x%b" % (content[:start], zlib.crc32(content), content[start + _DIGITS :])


def check_weights(content: bytes) -> None:
    """As :func:`check_seal`, of safetensors.

    Raises:
        BrokenSeal: they are not what was sealed.
    """
    start = _digits(content)
    if start >= 0:
        before = content[:start] + b"0" * _DIGITS + content[start + _DIGITS :]
        _compare(content[start : start + _DIGITS], b"%08x" % zlib.crc32(before))


def _compare(stated: bytes, found: bytes) -> None:
    if stated != found:
        raise BrokenSeal("its checksum is that of other bytes: some have changed since they were written")


def _digits(content: bytes) -> int:
    """Where the checksum of safetensors stands in their header, -1 if nowhere."""
    mark = f'"{FIELD}":"'.encode()
    place = content.find(mark, 0, 8 + int.from_bytes(content[:8], "little"))
    return place + len(mark) if place >= 0 else -1


def _footer(content: bytes) -> int:
    """Where the footer begins."""
    return len(content) - _TAIL - int.from_bytes(content[-_TAIL : -_TAIL // 2], "little")
