"""Open the lake's tables, make them, and refuse what is not ours."""

import re
from collections.abc import Callable
from typing import Any, TypeVar

import attrs
import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Schema
from deltalake.exceptions import TableNotFoundError

from kline_trio.lake.errors import ConflictError, ForeignLakeError, LakeError, lake_errors
from kline_trio.lake.location import Location
from kline_trio.lake.proof import require_conditions
from kline_trio.lake.schema import FORMAT, TABLES

MOST_TRIES = 20
"""Of one commit."""
_Result = TypeVar("_Result")
_FORMAT_KEY = "kline_trio.format"
_PROPERTIES = {
    _FORMAT_KEY: str(FORMAT),
    # A year of hourly commits: the log is read from the last checkpoint on.
    "delta.checkpointInterval": "20",
    "delta.logRetentionDuration": "interval 7 days",
    "delta.deletedFileRetentionDuration": "interval 7 days",
}
_WHOLE = re.compile(r"[0-9]{1,9}", re.ASCII)


@attrs.frozen
class LakeTable:
    """One of the lake's tables at its newest version."""

    name: str
    delta: DeltaTable

    @property
    def id(self) -> str:
        """The id that the table got when it was made."""
        return str(self.delta.metadata().id)


def open_table(location: Location, name: str) -> LakeTable | None:
    """Return one of the lake's tables at its newest version; None: the lake has none yet.

    Raises:
      ForeignLakeError: another program made what is there, or a newer kline_trio.
      LakeError: the lake cannot be read.
    """
    url = location.table_url(name)
    with lake_errors(f"{url}: cannot be opened"):
        try:
            delta = DeltaTable(url, storage_options=location.table_options())
        except TableNotFoundError:
            return None
    _check(url, name, delta)
    return LakeTable(name, delta)


def made_table(location: Location, name: str) -> LakeTable:
    """Return one of the lake's tables; make it if the lake has none yet.

    Raises:
      ForeignLakeError: as `open_table`; or the folder holds other files; or the object store
        ignores the conditions of a write, which is tried once in the life of a process.
      LakeError: the lake cannot be read or written.
    """
    table = open_table(location, name)
    if table is None:
        _refuse_other_files(location, name)
    # Not before: the proof writes, and that must be to no place of somebody else, nor make a
    # bucket, as some servers do at the first write.
    require_conditions(location)
    if table is None:
        columns, partitions = TABLES[name]
        url = location.table_url(name)
        try:
            with lake_errors(f"{url}: cannot be made"):
                DeltaTable.create(
                    url,
                    columns,
                    partition_by=partitions,
                    name=f"kline_trio {name}",
                    configuration=_PROPERTIES,
                    storage_options=location.table_options(),
                    # Otherwise deltalake commits to the table that another recorder has made
                    # meanwhile, and that has another id and other properties from then on.
                    commit_properties=CommitProperties(max_commit_retries=0),
                    raise_if_key_not_exists=False,
                )
        except LakeError:
            # Another recorder may have made it in the same moment.
            if (table := open_table(location, name)) is None:
                raise
        else:
            table = open_table(location, name)
    if table is None:
        raise ConflictError(f"{location.table_url(name)}: was made, and is gone again")
    return _with_all_columns(location, table)


def committed(
    location: Location,
    name: str,
    pause: Callable[[int], None],
    commit: Callable[[DeltaTable], _Result],
) -> _Result:
    """Commit to one of the lake's tables, which is made if it is not there; return the result.

    If another program commits in between, load the table again and repeat the job.

    Args:
      location: the lake.
      name: of the table.
      pause: waits before the n-th retry.
      commit: reads the table and commits to it; it may be run several times.

    Raises:
      LakeError: the lake cannot be read or written; or other commits came in between too often.
    """
    url = location.table_url(name)
    for tried in range(1, MOST_TRIES + 1):
        table = made_table(location, name)
        try:
            with lake_errors(f"{url}: cannot be written"):
                return commit(table.delta)
        except ConflictError:
            if tried == MOST_TRIES:
                raise
            pause(tried)
    raise AssertionError("unreachable")


def _refuse_other_files(location: Location, name: str) -> None:
    import obstore

    url = location.table_url(name)
    with lake_errors(f"{url}: cannot be listed"):
        found = obstore.list(location.objects(), f"{name}/", chunk_size=10).collect()
    # A table that another recorder makes at this moment has its log first.
    if any("/_delta_log/" not in f"/{one['path']}" for one in found):
        raise ForeignLakeError(f"{url}: holds other files already: name another place for the lake")


def _check(url: str, name: str, delta: DeltaTable) -> None:
    version: str | None = delta.metadata().configuration.get(_FORMAT_KEY)
    if version is None or not _WHOLE.fullmatch(version):
        raise ForeignLakeError(f"{url}: is a Delta table that kline_trio did not make")
    if int(version) > FORMAT:
        raise ForeignLakeError(
            f"{url}: was written by a newer kline_trio (format {version}, this one knows {FORMAT}):"
            " upgrade kline_trio"
        )
    wanted, partitions = TABLES[name]
    columns = {field.name: field.type for field in _columns_of(delta)}
    wrong = [
        field.name
        for field in wanted
        if field.name in columns and columns[field.name] != field.type
    ]
    if wrong or delta.metadata().partition_columns != partitions:
        what = f"column {wrong[0]}" if wrong else "partitions"
        raise ForeignLakeError(f"{url}: has another {what} than kline_trio writes")


def _columns_of(delta: DeltaTable) -> pa.Schema:
    columns: Any = delta.schema().to_arrow()
    return pa.schema(columns)


def _with_all_columns(location: Location, table: LakeTable) -> LakeTable:
    """Add the columns that an earlier version did not have; old rows have nulls there."""
    wanted, _ = TABLES[table.name]
    present = set(_columns_of(table.delta).names)
    added = pa.schema([field for field in wanted if field.name not in present])
    if not added.names:
        return table
    url = location.table_url(table.name)
    refused = None
    try:
        with lake_errors(f"{url}: new columns cannot be added"):
            table.delta.alter.add_columns(list(Schema.from_arrow(added).fields))
    except LakeError as error:
        # Another recorder may have added them in the same moment.
        refused = error
    again = open_table(location, table.name)
    if again is None:
        raise ConflictError(f"{url}: is gone")
    if refused is not None and not set(added.names) <= set(_columns_of(again.delta).names):
        raise refused
    return again
