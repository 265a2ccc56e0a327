"""A checksum of a Parquet file's footer, inside that footer.

Pages have CRCs of their own, and a footer has none: a flipped bit in it can cut off rows, or give
them to another symbol, in silence. Ours has an entry among its key-value metadata whose value is
the CRC-32 of the footer with that value zeroed, so that a file vouches for itself wherever it is
copied to. Other readers pass over it.
"""

import zlib
from pathlib import Path
from typing import IO

from kline_trio.errors import DamagedError

__all__ = ["SEAL", "UNSEALED", "footer_of", "is_sealed", "seal", "unsealed"]

SEAL = "kline_trio_footer_crc32"
UNSEALED = "00000000"
"""The value to be written first."""

_MARK = SEAL.encode() + bytes([0x18, len(UNSEALED)])
"""The key, and after it Thrift's field header and length of the value (its compact protocol)."""
_TAIL_BYTES = 8
"""The footer's length, and `PAR1`."""


def seal(file: IO[bytes]) -> None:
    """Puts the checksum into the footer of a whole file that was written with `UNSEALED`."""
    footer, start = footer_of(file)
    at = footer.index(_MARK) + len(_MARK)
    file.seek(start + at)
    file.write(b"%08x" % zlib.crc32(footer))


def is_sealed(file: IO[bytes], path: Path) -> bool:
    """Whether the footer has a checksum, which then is right.

    Raises:
      DamagedError: it is wrong.
    """
    footer, _ = footer_of(file)
    at = footer.find(_MARK) + len(_MARK)
    if at < len(_MARK):
        return False
    if footer[at : at + len(UNSEALED)] != b"%08x" % zlib.crc32(unsealed(footer)):
        raise DamagedError(f"{path} is damaged: its footer is not what was written")
    return True


def unsealed(footer: bytes) -> bytes:
    """A footer as it was before it was sealed."""
    at = footer.find(_MARK) + len(_MARK)
    return footer[:at] + UNSEALED.encode() + footer[at + len(UNSEALED) :]


def footer_of(file: IO[bytes]) -> tuple[bytes, int]:
    """The footer with its length and magic number, and where it starts; all if there is none."""
    size_bytes = file.seek(0, 2)
    file.seek(max(0, size_bytes - _TAIL_BYTES))
    length_bytes = int.from_bytes(file.read(4), "little")
    start = max(0, size_bytes - _TAIL_BYTES - length_bytes)
    file.seek(start)
    return file.read(), start
