"""Merge rows into the lake's candles: each key once, the row of the higher rank stays."""

from collections.abc import Callable
from datetime import datetime

import pyarrow as pa
from deltalake import ColumnProperties, DeltaTable, WriterProperties

from kline_trio.lake.location import Location
from kline_trio.lake.schema import CANDLES, KEY, PARTITIONS, VALUES, wins
from kline_trio.lake.tables import committed
from kline_trio.storage.table import BEGIN, END

_PLAIN = ColumnProperties(dictionary_enabled=False)
_DELTA = ColumnProperties(dictionary_enabled=False, encoding="DELTA_BINARY_PACKED")
_WRITER = WriterProperties(
    compression="ZSTD",
    compression_level=3,
    # As compaction writes them. Dictionaries of prices, the default, take a third more CPU for a
    # third more bytes.
    column_properties={
        **dict.fromkeys(VALUES, _PLAIN),
        **dict.fromkeys((BEGIN, END, "trade_num", "revision"), _DELTA),
    },
)


def merge_rows(location: Location, rows: pa.Table, pause: Callable[[int], None]) -> tuple[int, int]:
    """Merge rows into the table of candles, which is made if it is not there.

    An absent key is inserted. A present one is updated if the new row ranks higher. So the same
    rows may be merged again, by any recorder and in any order, and the table is the same.

    Args:
      location: the lake.
      rows: with the columns of `CANDLES`; each key once.
      pause: waits before the n-th retry, after a commit of another recorder came in between.

    Returns:
      how many rows were inserted, and how many updated.

    Raises:
      LakeError: the lake cannot be read or written; or other commits came in between too often.
    """
    if not rows.num_rows:
        return 0, 0
    condition = match(rows)
    return committed(location, "candles", pause, lambda delta: _merged(delta, rows, condition))


def _merged(delta: DeltaTable, rows: pa.Table, condition: str) -> tuple[int, int]:
    values = {name: f"new.{name}" for name in CANDLES.names}
    found = (
        delta.merge(
            rows,
            condition,
            source_alias="new",
            target_alias="old",
            writer_properties=_WRITER,
        )
        .when_matched_update(values, predicate=wins("new", "old"))
        .when_not_matched_insert(values)
        .execute()
    )
    return int(found["num_target_rows_inserted"]), int(found["num_target_rows_updated"])


def match(rows: pa.Table) -> str:
    """Return the condition that a row of the lake has the key of a new one.

    It names the partitions, times and symbols of the new rows as literals: only the files that may
    hold them are read, and only commits of such files count as conflicts.
    """
    keys = " AND ".join(f"old.{name} = new.{name}" for name in KEY)
    return f"({' OR '.join(_bounds(rows))}) AND {keys}"


def _bounds(rows: pa.Table) -> list[str]:
    grouped = rows.group_by(PARTITIONS).aggregate(
        [(BEGIN, "min"), (BEGIN, "max"), ("symbol", "min"), ("symbol", "max")]
    )
    found = []
    for one in grouped.to_pylist():
        where = [f"old.{name} = {literal(one[name])}" for name in PARTITIONS]
        low, high = (moment(one[f"{BEGIN}_{end}"]) for end in ("min", "max"))
        where += [f"old.{BEGIN} >= {low}", f"old.{BEGIN} <= {high}"]
        where += [f"old.symbol >= {literal(one['symbol_min'])}"]
        where += [f"old.symbol <= {literal(one['symbol_max'])}"]
        found.append(f"({' AND '.join(where)})")
    return found


def literal(text: str) -> str:
    """Return a text as SQL spells it."""
    return "'" + text.replace("'", "''") + "'"


def moment(time: datetime) -> str:
    """Return a time with a zone as SQL spells it, in the type of the column."""
    return f"arrow_cast('{time:%Y-%m-%dT%H:%M:%S.%f}', 'Timestamp(Microsecond, Some(\"UTC\"))')"
