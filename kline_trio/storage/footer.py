"""Parquet footers: their own checksum, and their parts, so that files can share row groups.

Pages have CRCs, and a footer has none: a flipped bit in it can cut off rows, or give them to
another symbol, in silence. So each file has a seal: an entry among the key-value metadata whose
value is the CRC-32 of the footer with that value zeroed. A file proves itself wherever it is
copied to, and other readers ignore the entry.

pyarrow writes footers only for row groups that it wrote itself. `Footer` joins the footers of two
writers. It parses only where each part begins and ends.

Sources: Thrift's thrift-compact-protocol.md; `FileMetaData` and `RowGroup` in parquet-format's
parquet.thrift.
"""

import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import attrs

from kline_trio.errors import DamagedError

SEAL = "kline_trio_footer_crc32"
UNSEALED = "00000000"
"""The seal's value before `seal`."""

_MARK = SEAL.encode() + bytes([0x18, len(UNSEALED)])
"""The key, and after it Thrift's field header and length of the value (its compact protocol)."""
_TAIL_BYTES = 8
"""The footer's length, and `PAR1`."""

_ROWS, _GROUPS, _ORDINAL = 3, 4, 7
"""The fields' numbers: `num_rows` and `row_groups` of a footer, `ordinal` of a row group."""
_TRUE_OR_FALSE, _BYTE, _I64, _LIST, _STRUCT = (1, 2), 3, 6, 9, 12
"""Types of values."""
_LONG_LIST = 15


def seal(file: IO[bytes]) -> None:
    """Write the seal into the footer of a whole file that was written with `UNSEALED`."""
    footer, start = footer_of(file)
    at = footer.index(_MARK) + len(_MARK)
    file.seek(start + at)
    file.write(b"%08x" % zlib.crc32(footer))


def is_sealed(file: IO[bytes], path: Path) -> bool:
    """Return whether the footer has a seal, which then is right.

    Raises:
      DamagedError: the seal is wrong.
    """
    footer, _ = footer_of(file)
    at = footer.find(_MARK) + len(_MARK)
    if at < len(_MARK):
        return False
    if footer[at : at + len(UNSEALED)] != b"%08x" % zlib.crc32(unsealed(footer)):
        raise DamagedError(f"{path} is damaged: its footer is not what was written")
    return True


def unsealed(footer: bytes) -> bytes:
    """Return a footer as it was before `seal`."""
    at = footer.find(_MARK) + len(_MARK)
    return footer[:at] + UNSEALED.encode() + footer[at + len(UNSEALED) :]


def footer_of(file: IO[bytes]) -> tuple[bytes, int]:
    """Return the footer with its length and magic number, and its offset in the file.

    If the file has no footer, the whole file is returned.
    """
    size_bytes = file.seek(0, 2)
    file.seek(max(0, size_bytes - _TAIL_BYTES))
    length_bytes = int.from_bytes(file.read(4), "little")
    start = max(0, size_bytes - _TAIL_BYTES - length_bytes)
    file.seek(start)
    return file.read(), start


@attrs.frozen
class Footer:
    """The parts of a footer: of the whole file, and of each row group."""

    head: bytes
    """The version, and the columns."""
    rows: int
    groups: tuple[bytes, ...]
    tail: bytes
    """The key-value metadata, and the name of the writer."""

    @classmethod
    def from_bytes(cls, data: bytes) -> "Footer":
        """Parse a footer; bytes that follow it are ignored.

        Raises:
          ValueError: it is no footer as pyarrow writes it.
        """
        try:
            ends = {number: (begin, end) for number, begin, end in _fields(data)}
            (rows_at, _), (groups_at, tail_at) = ends[_ROWS], ends[_GROUPS]
            rows, _ = _number(data, rows_at + 1)
            groups = tuple(data[begin:end] for begin, end in _elements(data, groups_at + 1))
            end = max(end for _, end in ends.values()) + 1
        except (IndexError, KeyError, RecursionError) as error:
            raise ValueError("no footer of a Parquet file") from error
        return cls(data[:rows_at], rows >> 1, groups, data[tail_at:end])

    def with_groups(self, copied: Sequence[bytes], rows: int) -> bytes:
        """Return the footer of a file that begins with other row groups.

        Args:
          copied: their parts of another footer. In both files they have the same offsets.
          rows: how many rows they have.
        """
        first = len(copied)
        groups = [*copied, *(_numbered(one, first + n) for n, one in enumerate(self.groups))]
        if len(groups) < _LONG_LIST:
            count = bytes([len(groups) << 4 | _STRUCT])
        else:
            count = bytes([_LONG_LIST << 4 | _STRUCT]) + _varint(len(groups))
        # Each header names a field by its distance from the one before, which is 1.
        rows_field = bytes([1 << 4 | _I64]) + _varint(rows + self.rows << 1)
        return b"".join((self.head, rows_field, bytes([1 << 4 | _LIST]), count, *groups, self.tail))


def _numbered(group: bytes, ordinal: int) -> bytes:
    """Return the row group with another ordinal, which is its last field if it has one."""
    for number, begin, _ in _fields(group):
        if number == _ORDINAL:
            return group[: begin + 1] + _varint(ordinal << 1) + b"\0"
    return group


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def _fields(data: bytes, at: int = 0) -> Iterator[tuple[int, int, int]]:
    """Give for each field of a struct its number, the offset of its header, and its end."""
    number = 0
    while header := data[at]:
        begin, at = at, at + 1
        number += header >> 4
        if header < 1 << 4:
            zigzag, at = _number(data, at)
            number = zigzag >> 1
        at = _end(data, at, header & 15)
        yield number, begin, at


def _elements(data: bytes, at: int) -> Iterator[tuple[int, int]]:
    """Give where each element of a list begins and ends."""
    length, kind, at = _list(data, at)
    for _ in range(length):
        begin, at = at, _end(data, at, kind)
        yield begin, at


def _list(data: bytes, at: int) -> tuple[int, int, int]:
    """Return the number of a list's elements, their type, and where they begin."""
    header, at = data[at], at + 1
    length, kind = header >> 4, header & 15
    if length == _LONG_LIST:
        length, at = _number(data, at)
    # A boolean takes a byte in a list, and none in a field, whose type is its value.
    return length, _BYTE if kind in _TRUE_OR_FALSE else kind, at


def _number(data: bytes, at: int) -> tuple[int, int]:
    """Return the number at an offset, and where it ends."""
    value = shift = 0
    while (byte := data[at]) & 0x80:
        value |= (byte & 0x7F) << shift
        shift += 7
        at += 1
    return value | byte << shift, at + 1


def _end(data: bytes, at: int, kind: int) -> int:
    """Return where the value ends that begins at an offset."""
    match kind:
        case 1 | 2:
            return at
        case 3:
            return at + 1
        case 4 | 5 | 6:
            return _number(data, at)[1]
        case 7:
            return at + 8
        case 8:
            length, at = _number(data, at)
            return at + length
        case 9 | 10:
            length, kind, at = _list(data, at)
            for _ in range(length):
                at = _end(data, at, kind)
            return at
        case 12:
            for _, _, end in _fields(data, at):
                at = end
            return at + 1
        case _:
            raise ValueError(f"a footer with a field of kind {kind}")
