"""The columns of the lake's tables, and which of two rows for one candle wins (pure).

Times are microseconds in UTC, since Delta has no others. A reader sees the columns of the files,
with the three names of the series before them and three columns about the row behind them.
"""

from collections.abc import Iterable

import pyarrow as pa

from kline_trio.storage.table import BEGIN, END

FORMAT = 1
"""The version of these columns and their meaning; each table's properties have it."""

TIME = pa.timestamp("us", "UTC")
SERIES = ("trade_type", "symbol", "time_interval")
PARTITIONS = ["trade_type", "time_interval", "month"]
"""Of the candles. A month of a market and an interval is one folder."""
KEY = ("trade_type", "time_interval", "month", "symbol", BEGIN)

VALUES = (
    "open", "high", "low", "close", "volume", "quote_volume", "trade_num",
    "taker_buy_base_asset_volume", "taker_buy_quote_asset_volume",
)  # fmt: skip


def _columns(columns: Iterable[tuple[str, pa.DataType]]) -> pa.Schema:
    return pa.schema([pa.field(name, kind) for name, kind in columns])


CANDLES = _columns(
    [
        *((name, pa.string()) for name in SERIES),
        ("month", pa.string()),
        (BEGIN, TIME),
        *((name, pa.int64() if name == "trade_num" else pa.float64()) for name in VALUES),
        (END, TIME),
        ("source", pa.string()),
        ("revision", pa.int32()),
    ]
)
"""`month` is that of the begin, as `2026-11`. `source` is where the values come from: `stream`,
`rest`, `archive` or `repair`. `revision` is how often a recorder has replaced the values."""

GAPS = _columns(
    [
        ("recorder", pa.string()),
        *((name, pa.string()) for name in SERIES),
        *((name, TIME) for name in ("from", "to", "first_seen")),
        *((name, pa.string()) for name in ("reason", "state")),
        ("asked", pa.int64()),
        ("filled_by", pa.string()),
    ]
)
"""The coverage of each recorder, as `kline_trio.coverage` gives it."""

ACCOUNTS = _columns(
    [
        ("recorder", pa.string()),
        *((name, pa.string()) for name in SERIES),
        *((name, TIME) for name in ("first", "watermark", "retired")),
    ]
)
"""Up to where each recorder has accounted for each series: every due candle that opens in
[first, watermark) is in the lake, or in that recorder's coverage. `retired` is null as long as the
series is recorded."""

REVISIONS = _columns(
    [
        ("recorder", pa.string()),
        ("number", pa.int64()),
        *((name, pa.string()) for name in SERIES),
        (BEGIN, TIME),
        ("origin", pa.string()),
        ("is_newer_kept", pa.bool_()),
        *(
            (f"{age}_{name}", pa.int64() if name == "trade_num" else pa.float64())
            for age in ("older", "newer")
            for name in VALUES
        ),
    ]
)
"""Candles of which a recorder saw two values. `number` counts the revisions of a recorder."""

_TEXTS = ("trade_type", "symbol", "status", "contract_type", "base", "quote", "margin", "tick_size")
UNIVERSE = _columns(
    [
        ("recorder", pa.string()),
        ("time", TIME),
        *((name, pa.string()) for name in _TEXTS),
        *((name, TIME) for name in ("onboard_date", "delivery_date")),
    ]
)
"""What each recorder saw the markets list, as `kline_trio.universe` is made of."""

TABLES: dict[str, tuple[pa.Schema, list[str]]] = {
    "candles": (CANDLES, PARTITIONS),
    "coverage": (GAPS, ["recorder"]),
    "accounts": (ACCOUNTS, ["recorder"]),
    "revisions": (REVISIONS, ["recorder"]),
    "universe": (UNIVERSE, ["recorder"]),
}
"""The columns and the partitions of each table, by the name of its folder in the lake."""

_SOURCES = ("archive", "rest", "stream", "repair")
"""From the weakest on."""
_RANK: tuple[str, ...] = ("trade_num", "volume", "quote_volume", "taker_buy_base_asset_volume")
_RANK += ("taker_buy_quote_asset_volume", "close", "high", "low", "open")


def rank(row: dict[str, object]) -> tuple[object, ...]:
    """Return a value that is greater for the row of a candle that wins.

    The row that was replaced more often wins: so the present value of a store wins over all that
    it published before. Then the source decides, a repair before the stream before REST before an
    archive. Rows that are equal so far differ only if two recorders received different values: then
    the greater number of trades wins, which is the later state of the candle, and last the greater
    values, so that every recorder decides alike.
    """
    source = str(row["source"])
    level = _SOURCES.index(source) if source in _SOURCES else 0
    return (row["revision"], level, *(row[name] for name in _RANK))


def wins(new: str, old: str) -> str:
    """Return the condition of SQL that a row `new` of a candle ranks higher than a row `old`."""

    def level(row: str) -> str:
        cases = " ".join(f"WHEN '{name}' THEN {n}" for n, name in enumerate(_SOURCES))
        return f"(CASE {row}.source {cases} ELSE 0 END)"

    pairs = [(f"{new}.revision", f"{old}.revision"), (level(new), level(old))]
    pairs += [(f"{new}.{name}", f"{old}.{name}") for name in _RANK]
    condition = "FALSE"
    for mine, theirs in reversed(pairs):
        condition = f"({mine} > {theirs} OR ({mine} = {theirs} AND {condition}))"
    return condition
