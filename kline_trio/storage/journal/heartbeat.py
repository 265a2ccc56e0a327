"""The heartbeat: which recorder writes the journal, and the last times. Tables of the journal."""

import sqlite3
from collections.abc import Mapping

_TIME = "SELECT exchange_ms FROM exchange_time WHERE trade_type = ?"
_PUT_TIME = "INSERT OR REPLACE INTO exchange_time VALUES (?, ?, ?)"


def put_heartbeat(
    connection: sqlite3.Connection,
    pid: int | None,
    exchange_ms: Mapping[str, int],
    local_ms: int,
) -> None:
    """Write the pid of the recorder, and the times.

    A market's local time stays as it is while its exchange time does: so a reader can see since
    when an exchange is silent.

    Args:
      connection: in a transaction.
      pid: None at the recorder's end.
      exchange_ms: by market, the exchange's time.
      local_ms: the local time, for all markets and for the heartbeat itself.
    """
    connection.execute("UPDATE state SET pid = ?", [pid])
    for trade_type, now_ms in {**exchange_ms, "": local_ms}.items():
        if connection.execute(_TIME, [trade_type]).fetchone() != (now_ms,):
            connection.execute(_PUT_TIME, [trade_type, now_ms, local_ms])


def heartbeat_pid(connection: sqlite3.Connection) -> int | None:
    """Return the pid of the running recorder; None: it ended in an orderly way."""
    return next((pid for (pid,) in connection.execute("SELECT pid FROM state")), None)


def exchange_times(connection: sqlite3.Connection) -> dict[str, tuple[int, int]]:
    """Return each market's last exchange time, and the local time when it was new.

    The market `""` is the recorder itself: its local time is that of the last heartbeat.
    """
    rows = connection.execute("SELECT trade_type, exchange_ms, local_ms FROM exchange_time")
    return {trade_type: (exchange_ms, local_ms) for trade_type, exchange_ms, local_ms in rows}
