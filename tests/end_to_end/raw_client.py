"""A bare client that notes every closed candle, to know what an exchange really sent.

It is written on the `websockets` package, and nothing of kline_trio is imported here.
"""

import json
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from websockets.sync.client import ClientConnection, connect

from tests.end_to_end.expected import Key
from tests.stand_in_candles import Row, stream_name

__all__ = ["RawClient"]


class RawClient:
    """One connection a market; it listens as soon as it is made, until it is closed."""

    def __init__(self, endpoints: Mapping[str, Mapping[str, str]], streams: Sequence[Key]) -> None:
        self._closes: dict[Key, list[Row]] = {}
        self._lock = threading.Lock()
        self._listeners: list[threading.Thread] = []
        with ExitStack() as opened:
            for trade_type in dict.fromkeys(key[0] for key in streams):
                names = [stream_name(key[1], key[2]) for key in streams if key[0] == trade_type]
                url = f"{endpoints[trade_type]['websocket']}?streams={'/'.join(names)}"
                connection = opened.enter_context(connect(url, proxy=None, compression=None))
                listener = threading.Thread(target=self._listen, args=(trade_type, connection))
                listener.start()
                self._listeners.append(listener)
            self._connections = opened.pop_all()

    def _listen(self, trade_type: str, connection: ClientConnection) -> None:
        for text in connection:
            told = json.loads(text)["data"]["k"]
            if told["x"]:
                row = Row(**{name: told[name] for name in Row.__dataclass_fields__})
                with self._lock:
                    self._closes.setdefault((trade_type, told["s"], told["i"]), []).append(row)

    def closes(self) -> dict[Key, list[Row]]:
        """What has come so far, in its order."""
        with self._lock:
            return {key: list(rows) for key, rows in self._closes.items()}

    def close(self) -> None:
        """Hang up."""
        self._connections.close()
        for listener in self._listeners:
            listener.join()
