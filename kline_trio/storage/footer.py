"""A Parquet footer in its parts, so that row groups of one file can stand in another (pure).

pyarrow writes a footer for what it has written itself, and no other. Here the footers of two
writers become one; of what they say, only where it begins and ends is looked at.

Sources: Thrift's thrift-compact-protocol.md; `FileMetaData` and `RowGroup` in parquet-format's
parquet.thrift.
"""

from collections.abc import Iterator, Sequence

import attrs

__all__ = ["Footer"]

_ROWS, _GROUPS, _ORDINAL = 3, 4, 7
"""The fields' numbers: `num_rows` and `row_groups` of a footer, `ordinal` of a row group."""
_TRUE_OR_FALSE, _BYTE, _I64, _LIST, _STRUCT = (1, 2), 3, 6, 9, 12
"""Kinds of values."""
_LONG_LIST = 15


@attrs.frozen
class Footer:
    """What a footer says of the whole file, and of each row group."""

    head: bytes
    """The version, and the columns."""
    rows: int
    groups: tuple[bytes, ...]
    tail: bytes
    """The key-value metadata, and who wrote it."""

    @classmethod
    def from_bytes(cls, data: bytes) -> "Footer":
        """Takes a footer apart; what comes after it is passed over.

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

    def with_groups(self, kept: Sequence[bytes], rows: int) -> bytes:
        """The footer of a file in which these row groups come first.

        Args:
          kept: of another file, and at the same places in this one.
          rows: how many rows they have.
        """
        groups = [*kept, *(_numbered(one, len(kept) + n) for n, one in enumerate(self.groups))]
        return b"".join(
            (
                self.head,
                _field(_I64),
                _varint(rows + self.rows << 1),
                _field(_LIST),
                _list_of_structs(len(groups)),
                *groups,
                self.tail,
            )
        )


def _numbered(group: bytes, ordinal: int) -> bytes:
    """The row group as that of another place; its number is the last that is said of it."""
    for number, begin, _ in _fields(group):
        if number == _ORDINAL:
            return group[: begin + 1] + _varint(ordinal << 1) + b"\0"
    return group


def _field(kind: int) -> bytes:
    """The header of a field that follows on the one before."""
    return bytes([1 << 4 | kind])


def _list_of_structs(length: int) -> bytes:
    if length < _LONG_LIST:
        return bytes([length << 4 | _STRUCT])
    return bytes([_LONG_LIST << 4 | _STRUCT]) + _varint(length)


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def _fields(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Gives of a struct each field's number, where its header begins, and where it ends."""
    at = number = 0
    while header := data[at]:
        begin, at = at, at + 1
        number += header >> 4
        if header < 1 << 4:
            told, at = _number(data, at)
            number = told >> 1
        at = _end(data, at, header & 15)
        yield number, begin, at


def _elements(data: bytes, at: int) -> Iterator[tuple[int, int]]:
    """Gives where each element of a list begins and ends."""
    length, kind, at = _list(data, at)
    for _ in range(length):
        begin, at = at, _end(data, at, kind)
        yield begin, at


def _list(data: bytes, at: int) -> tuple[int, int, int]:
    """How many elements a list has, of which kind, and where they begin."""
    header, at = data[at], at + 1
    length, kind = header >> 4, header & 15
    if length == _LONG_LIST:
        length, at = _number(data, at)
    # What is true or false takes a byte in a list, and none in a field, whose kind says all.
    return length, _BYTE if kind in _TRUE_OR_FALSE else kind, at


def _number(data: bytes, at: int) -> tuple[int, int]:
    """The number there, and where it ends."""
    value = shift = 0
    while (byte := data[at]) & 0x80:
        value |= (byte & 0x7F) << shift
        shift += 7
        at += 1
    return value | byte << shift, at + 1


def _end(data: bytes, at: int, kind: int) -> int:
    """Where a value ends that begins there."""
    match kind:
        case 1 | 2:
            return at
        case 3:
            return at + 1
        case 4 | 5 | 6:
            while data[at] & 0x80:
                at += 1
            return at + 1
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
            while header := data[at]:
                at += 1
                if header < 1 << 4:
                    _, at = _number(data, at)
                at = _end(data, at, header & 15)
            return at + 1
        case _:
            raise ValueError(f"a footer with a field of kind {kind}")
