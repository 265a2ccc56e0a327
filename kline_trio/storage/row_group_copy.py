"""Copy the row groups that a merge does not change into the new file, byte for byte.

Reading and writing them again would give the same bytes, for a hundred times the work.
"""

import zlib
from pathlib import Path
from typing import IO

import attrs
import pyarrow as pa
import pyarrow.parquet as pq

from kline_trio.errors import DamagedError
from kline_trio.storage.files import bounds_ms, chunks, crc32_on, damage, open_parquet, owner_of
from kline_trio.storage.footer import Footer, footer_of, unsealed
from kline_trio.storage.journal.manifest import FileEntry
from kline_trio.storage.table import BEGIN

_MAGIC = b"PAR1"
"""The first bytes of a file, and the last."""


class NotAsWrittenError(Exception):
    """The copied bytes are not what a merge wrote: read and write the file as a whole."""


@attrs.frozen
class CopiedPrefix:
    """The beginning of a file that is copied as it is."""

    groups: tuple[bytes, ...]
    """The footer's parts about its row groups."""
    rows: int
    size_bytes: int
    last_ms: int
    """The last candle's open time."""
    whole_crc32: int
    """The CRC of the whole old file, as it was written."""

    def copy(self, path: Path, to: pa.NativeFile) -> int:
        """Copy the prefix of the old file behind the `_MAGIC` that a writer begins with.

        The bytes are verified while they are copied. Only the rest of the file, which is short, is
        read for its CRC alone.

        Returns:
          the CRC of the prefix.

        Raises:
          NotAsWrittenError: the file is not what was written; discard what was copied.
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
        """Return the CRC of a whole file that begins with the prefix.

        Args:
          path: the file.
          crc32: of the prefix.

        Raises:
          DamagedError: the file begins with something else.
          OSError: the disk refused.
        """
        with path.open("rb") as file:
            if crc32_on(file, self.size_bytes) != crc32:
                raise DamagedError(f"{path} is damaged: it is not what was copied")
            return crc32_on(file, crc32=crc32)


NOTHING = CopiedPrefix((), 0, 0, -1, 0)


def copyable_prefix(
    known: FileEntry, path: Path, before_ms: int, full_rows: int, empty: Footer
) -> CopiedPrefix:
    """Return the row groups that no new candle changes, by the footer alone.

    `CopiedPrefix.copy` verifies the bytes.

    Of a file that another version of pyarrow wrote, nothing is copied: it is read and written as a
    whole, so that a file's bytes follow from its rows alone.

    Args:
      known: the manifest's entry of the file.
      path: the file.
      before_ms: the open time of the first new candle.
      full_rows: the number of rows of a full row group.
      empty: the footer of a file of this series without rows.

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
    if (footer.head, footer.tail) != (empty.head, empty.tail):
        return NOTHING
    return CopiedPrefix(footer.groups[:count], count * full_rows, size_bytes, last_ms, known.crc32)


def _count(file: pq.ParquetFile, before_ms: int, full_rows: int) -> int:
    for group in range(file.num_row_groups):
        is_full = file.metadata.row_group(group).num_rows == full_rows
        if not is_full or bounds_ms(file, group, BEGIN)[1] >= before_ms:
            return group
    return file.num_row_groups


def _size_bytes(file: pq.ParquetFile, groups: int) -> int:
    """Return where the first row groups end; without dictionaries a column chunk is its pages."""
    if not groups:
        return 0
    group = file.metadata.row_group(groups - 1)
    last = group.column(group.num_columns - 1)
    return int(last.data_page_offset + last.total_compressed_size)


def add_copied_groups(file: IO[bytes], copied: CopiedPrefix) -> None:
    """Add the copied row groups to the footer of a whole file."""
    data, start = footer_of(file)
    footer = Footer.from_bytes(data).with_groups(copied.groups, copied.rows)
    file.seek(start)
    file.truncate()
    file.write(footer + len(footer).to_bytes(4, "little") + _MAGIC)
