"""Row groups that a merge leaves alone: they go into the new file byte for byte.

To read and write them again would give the same bytes, for a hundred times the work.
"""

import zlib
from pathlib import Path
from typing import IO

import attrs
import pyarrow as pa
import pyarrow.parquet as pq

from kline_trio.errors import DamagedError
from kline_trio.storage.files import bounds_ms, chunks, crc32_on, damage, open_parquet, owner_of
from kline_trio.storage.footer import Footer
from kline_trio.storage.footer_crc import footer_of, unsealed
from kline_trio.storage.journal.manifest import FileEntry
from kline_trio.storage.table import BEGIN

__all__ = ["NOTHING", "CopiedPrefix", "NotAsWrittenError", "join", "keep"]

_MAGIC = b"PAR1"
"""A file begins with it, and ends."""


class NotAsWrittenError(Exception):
    """What was copied is not byte for byte what a merge wrote: read and write the file whole."""


@attrs.frozen
class CopiedPrefix:
    """The beginning of a file that stays as it is."""

    groups: tuple[bytes, ...]
    """What the footer says of its row groups."""
    rows: int
    size_bytes: int
    last_ms: int
    """The last candle's open time."""
    whole_crc32: int
    """The CRC of the whole file, as it was written."""

    def copy(self, path: Path, to: pa.NativeFile) -> int:
        """Copies it behind the `_MAGIC` that a writer has begun with; gives its CRC.

        The bytes are verified while they are copied. Only the rest of the file, which is short, is
        read for its CRC alone.

        Raises:
          NotAsWrittenError: the file is not what was written; what was copied is worthless.
          OSError: the disk refused.
        """
        try:
            with damage(path), path.open("rb") as source:
                crc32 = crc32_on(source, len(_MAGIC))
                for chunk in chunks(source, self.size_bytes - len(_MAGIC)):
                    to.write(chunk)
                    crc32 = zlib.crc32(chunk, crc32)
                whole = crc32_on(source, crc32=crc32)
        except (DamagedError, FileNotFoundError) as error:
            raise NotAsWrittenError(str(error)) from error
        if whole != self.whole_crc32:
            raise NotAsWrittenError(f"{path} is not what was written")
        return crc32

    def crc32_of(self, path: Path, crc32: int) -> int:
        """The CRC of a whole file that begins like this.

        Args:
          path: the file.
          crc32: of the beginning.

        Raises:
          DamagedError: it does not.
          OSError: the disk refused.
        """
        with path.open("rb") as file:
            if crc32_on(file, self.size_bytes) != crc32:
                raise DamagedError(f"{path} is damaged: it is not what was copied")
            return crc32_on(file, crc32=crc32)


NOTHING = CopiedPrefix((), 0, 0, -1, 0)


def keep(
    known: FileEntry, path: Path, before_ms: int, full_rows: int, like: Footer
) -> CopiedPrefix:
    """Return the row groups that no new candle changes, going by the footer.

    `CopiedPrefix.copy` verifies the bytes.

    Nothing is kept of a file that another version of pyarrow wrote: that one is read and written
    as a whole, so that a file's bytes follow from its rows alone.

    Args:
      known: what was written.
      path: where it stands.
      before_ms: the first of the new candles.
      full_rows: what a row group has to which no rows are added any more.
      like: how the footers of such files look.

    Raises:
      OSError: the disk refused.
    """
    try:
        with open_parquet(path) as file:
            if owner_of(file, path) != known.series:
                return NOTHING
            count = _count(file, before_ms, full_rows)
            last_ms = bounds_ms(file, count - 1, BEGIN)[1] if count else -1
            size_bytes = _size_bytes(file, count)
        if not count:
            return NOTHING
        with damage(path), path.open("rb") as source:
            footer = Footer.from_bytes(unsealed(footer_of(source)[0]))
    except (DamagedError, FileNotFoundError):
        return NOTHING
    if (footer.head, footer.tail) != (like.head, like.tail):
        return NOTHING
    return CopiedPrefix(footer.groups[:count], count * full_rows, size_bytes, last_ms, known.crc32)


def _count(file: pq.ParquetFile, before_ms: int, full_rows: int) -> int:
    for group in range(file.num_row_groups):
        is_full = file.metadata.row_group(group).num_rows == full_rows
        if not is_full or bounds_ms(file, group, BEGIN)[1] >= before_ms:
            return group
    return file.num_row_groups


def _size_bytes(file: pq.ParquetFile, groups: int) -> int:
    """Where so many row groups end; without dictionaries each chunk of a column is its pages."""
    if not groups:
        return 0
    group = file.metadata.row_group(groups - 1)
    last = group.column(group.num_columns - 1)
    return int(last.data_page_offset + last.total_compressed_size)


def join(file: IO[bytes], kept: CopiedPrefix) -> None:
    """Lets the footer of a whole file tell of the row groups that were copied, too."""
    data, start = footer_of(file)
    footer = Footer.from_bytes(data).with_groups(kept.groups, kept.rows)
    file.seek(start)
    file.truncate()
    file.write(footer + len(footer).to_bytes(4, "little") + _MAGIC)
