"""Read a lake's candles with an engine: `python tests/lake/engine_readers.py NAME URL FILE`.

This is a program of its own, which imports nothing of the project, so that an engine can be in
another environment. It writes two Arrow files: all candles, and those of one query. Without the
engine's packages it ends with status 3.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather as feather

NOT_INSTALLED = 3
TABLE = {"trade_type": "spot", "time_interval": "1m", "symbol": "BTCUSDT"}
SINCE = "2024-01-31T00:10:00"
"""The query: BTCUSDT's minutes from here on, in UTC."""
_WHERE = " AND ".join(f"{name} = '{text}'" for name, text in TABLE.items())

Tables = tuple[pa.Table, pa.Table]


def read_by_polars(url: str) -> Tables:
    """Let Polars push the query down to the files."""
    import polars as pl

    candles = pl.scan_delta(url)
    since = pl.lit(SINCE).str.to_datetime("%FT%T", time_unit="us", time_zone="UTC")
    query = candles.filter(
        *(pl.col(name) == text for name, text in TABLE.items()),
        pl.col("candle_begin_time") >= since,
    )
    return candles.collect().to_arrow(), query.collect().to_arrow()


def read_by_duckdb(url: str) -> Tables:
    """Let deltalake's query engine choose the rows, and DuckDB take its stream."""
    from deltalake import DeltaTable, QueryBuilder

    connection = _duckdb()

    def chosen(text: str, rest: str) -> pa.Table:
        rows = QueryBuilder().register("candles", DeltaTable(url)).execute(text)
        connection.register("rows", pa.RecordBatchReader.from_stream(rows))
        found: pa.Table = connection.sql(f"FROM rows {rest}").to_arrow_table()
        return found

    later = f"WHERE candle_begin_time >= TIMESTAMPTZ '{SINCE}Z'"
    return (
        chosen("SELECT * FROM candles", ""),
        chosen(f"SELECT * FROM candles WHERE {_WHERE}", later),
    )


def read_by_duckdb_dataset(url: str) -> Tables:
    """Let DuckDB push the query down to PyArrow."""
    from deltalake import DeltaTable

    connection = _duckdb()
    connection.register("candles", DeltaTable(url).to_pyarrow_dataset())
    return _duckdb_tables(connection, "candles")


def read_by_duckdb_delta(url: str) -> Tables:
    """Let DuckDB's own extension read the table."""
    import duckdb_extension_delta

    [package] = duckdb_extension_delta.__path__
    [extension] = Path(package).rglob("*.duckdb_extension")
    connection = _duckdb()
    connection.execute(f"LOAD '{extension}'")
    return _duckdb_tables(connection, f"delta_scan('{url}')")


def _duckdb() -> Any:  # noqa: ANN401 - it may not be installed
    import duckdb

    connection = duckdb.connect()
    # No test fetches programs from the network.
    connection.execute("SET autoinstall_known_extensions=false; SET TimeZone='UTC'")
    return connection


def _duckdb_tables(connection: Any, candles: str) -> Tables:  # noqa: ANN401
    query = f"FROM {candles} WHERE {_WHERE} AND candle_begin_time >= TIMESTAMPTZ '{SINCE}Z'"
    whole = connection.sql(f"FROM {candles}").to_arrow_table()
    return whole, connection.sql(query).to_arrow_table()


def read_by_dask(url: str) -> Tables:
    """Let Dask read each file as a partition of a frame."""
    import dask_deltatable
    import pandas as pd

    candles = dask_deltatable.read_deltalake(url)
    is_wanted = candles["candle_begin_time"] >= pd.Timestamp(SINCE, tz="UTC")
    for name, text in TABLE.items():
        is_wanted &= candles[name] == text
    whole, query = (pa.Table.from_pandas(one.compute()) for one in (candles, candles[is_wanted]))
    return whole, query


def read_by_daft(url: str) -> Tables:
    """Let Daft read the table with its own reader."""
    import daft

    candles = daft.read_deltalake(url)
    is_wanted = daft.col("candle_begin_time") >= daft.lit(SINCE + "Z").cast(
        daft.DataType.timestamp("us", "UTC")
    )
    for name, text in TABLE.items():
        is_wanted &= daft.col(name) == text
    return candles.to_arrow(), candles.where(is_wanted).to_arrow()


def read_by_daft_on_ray(url: str) -> Tables:
    """Let a cluster of Ray run Daft's queries."""
    import daft
    import ray

    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    daft.set_runner_ray()
    return read_by_daft(url)


def read_by_spark(url: str) -> Tables:
    """Let a client of Spark 4 ask Sail, a server of Spark Connect that reads Delta without jars."""
    from pysail.spark import SparkConnectServer
    from pyspark.sql import SparkSession

    server = SparkConnectServer()
    server.start()
    _, port = server.listening_address
    session = SparkSession.builder.remote(f"sc://localhost:{port}").getOrCreate()
    try:
        candles = session.read.format("delta").load(url)
        query = candles.where(f"{_WHERE} AND candle_begin_time >= TIMESTAMP '{SINCE}Z'")
        return candles.toArrow(), query.toArrow()
    finally:
        session.stop()
        server.stop()


ENGINES: dict[str, Callable[[str], Tables]] = {
    "polars": read_by_polars,
    "duckdb": read_by_duckdb,
    "duckdb-dataset": read_by_duckdb_dataset,
    "duckdb-delta": read_by_duckdb_delta,
    "dask": read_by_dask,
    "daft": read_by_daft,
    "daft-on-ray": read_by_daft_on_ray,
    "spark": read_by_spark,
}


def main(name: str, url: str, out: str) -> int:
    """Write what an engine reads."""
    try:
        tables = ENGINES[name](url)
    except ModuleNotFoundError as error:
        print(error.name)
        return NOT_INSTALLED
    for nth, table in enumerate(tables):
        feather.write_feather(table, f"{out}.{nth}", compression="uncompressed")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
