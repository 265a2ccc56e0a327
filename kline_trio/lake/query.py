"""Select rows of the lake's tables.

By the query engine in deltalake, which skips files, row groups and pages by their statistics. Not
by `to_pyarrow_dataset`: MERGE writes texts as Arrow's `string_view`, which PyArrow cannot compare
(apache/arrow#49368).
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime

import pyarrow as pa
from deltalake import QueryBuilder

from kline_trio.lake.errors import lake_errors
from kline_trio.lake.location import Location
from kline_trio.lake.merge import literal, moment
from kline_trio.lake.tables import LakeTable


def equal(values: Mapping[str, str]) -> list[str]:
    """Return the conditions that columns have these texts."""
    return [f'"{name}" = {literal(text)}' for name, text in values.items()]


def one_of(name: str, texts: Collection[str]) -> str:
    """Return the condition that a column has one of these texts."""
    return f'"{name}" IN ({", ".join(map(literal, texts))})'


def between(name: str, from_ms: int, to_ms: int) -> list[str]:
    """Return the conditions that a column has a time in [from_ms, to_ms)."""
    first, end = (moment(datetime.fromtimestamp(ms / 1_000, UTC)) for ms in (from_ms, to_ms))
    return [f'"{name}" >= {first}', f'"{name}" < {end}']


def select(
    location: Location,
    table: LakeTable,
    columns: pa.Schema,
    conditions: Sequence[str] = (),
    order: Sequence[str] = (),
) -> pa.Table:
    """Return rows of a table.

    Args:
      location: the lake.
      table: one of its tables.
      columns: to return; times are cast to their types.
      conditions: of SQL, which all rows meet.
      order: the columns to sort by.

    Raises:
      LakeError: the lake cannot be read.
    """
    batches = list(selected(location, table, columns, conditions, order))
    return pa.Table.from_batches(batches, columns)


def selected(
    location: Location,
    table: LakeTable,
    columns: pa.Schema,
    conditions: Sequence[str] = (),
    order: Sequence[str] = (),
    *,
    is_distinct: bool = False,
    newest: str | None = None,
) -> Iterator[pa.RecordBatch]:
    """Give rows of a table in batches, as `select`.

    Args:
      location: as for `select`.
      table: as for `select`.
      columns: as for `select`.
      conditions: as for `select`.
      order: as for `select`.
      is_distinct: give each combination of values once.
      newest: one of the columns, of which each combination of the others comes with the greatest
        value.

    Raises:
      LakeError: the lake cannot be read.
    """
    names = ", ".join(_named(field, is_newest=field.name == newest) for field in columns)
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    by = f" ORDER BY {', '.join(map(_quoted, order))}" if order else ""
    others = ", ".join(_quoted(name) for name in columns.names if name != newest)
    group = f" GROUP BY {others}" if is_distinct or newest else ""
    sql = f"SELECT {names} FROM rows{where}{group}{by}"  # noqa: S608 - all texts are quoted
    for batch in _answer(location, table, sql):
        yield batch.cast(columns)


def counts(
    location: Location, table: LakeTable, name: str, conditions: Sequence[str]
) -> dict[str, int]:
    """Return how many rows that meet some conditions have each text of a column.

    Raises:
      LakeError: the lake cannot be read.
    """
    column = _named(pa.field(name, pa.string()), is_newest=False)
    where = " AND ".join(conditions)
    sql = f"SELECT {column}, count(*) AS rows FROM rows WHERE {where} GROUP BY {_quoted(name)}"  # noqa: S608
    batches = _answer(location, table, sql)
    return {str(row[name]): int(row["rows"]) for batch in batches for row in batch.to_pylist()}


def _answer(location: Location, table: LakeTable, sql: str) -> Iterator[pa.RecordBatch]:
    with lake_errors(f"{location.table_url(table.name)}: cannot be read"):
        found = QueryBuilder().register("rows", table.delta).execute(sql)
        # Through Arrow's C interface: the library's own reader holds Python's lock while it waits
        # for the object store, so all threads of the program would wait.
        yield from pa.RecordBatchReader.from_stream(found)


def _named(field: "pa.Field[pa.DataType]", *, is_newest: bool) -> str:
    name = _quoted(field.name)
    if is_newest:
        return f"max({name}) AS {name}"
    return f"arrow_cast({name}, 'Utf8') AS {name}" if field.type == pa.string() else name


def _quoted(name: str) -> str:
    return f'"{name}"'
