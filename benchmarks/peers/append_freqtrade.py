"""freqtrade: `_download_pair_history` for each candle, with an exchange that has it ready.

It loads the pair's file, drops the last row, appends, cleans, and stores the file anew.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
from freqtrade.data.history import get_datahandler
from freqtrade.data.history.history_utils import _download_pair_history
from freqtrade.enums import CandleType

from benchmarks.peers.telling import costs_told
from benchmarks.spent import spending

_PAIR = "BTC/USDT"


class _Exchange:
    """What it asks of an exchange."""

    def __init__(self, news: pd.DataFrame) -> None:
        self._news = news

    def get_historic_ohlcv(self, **wanted: Any) -> pd.DataFrame:  # noqa: ANN401
        """The last that it has, the one that was still forming, and the one that forms now."""
        since = pd.Timestamp(wanted["since_ms"], unit="ms", tz="UTC")
        return self._news[self._news["date"] >= since].head(3)


def _frame(history: str) -> pd.DataFrame:
    columns = ["candle_begin_time", "open", "high", "low", "close", "volume"]
    frame = pd.read_parquet(history, columns=columns).reset_index(drop=True)
    return frame.rename(columns={"candle_begin_time": "date"})


def main(history: str, count: str) -> None:
    """Measure both of its formats."""
    whole = _frame(history)
    candles = int(count)
    news = whole.tail(candles + 3)
    found = []
    for form in ("feather", "parquet"):
        with tempfile.TemporaryDirectory() as folder:
            handler = get_datahandler(Path(folder), form)
            handler.ohlcv_store(_PAIR, "1m", whole.iloc[: -candles - 1], CandleType.SPOT)
            exchange: Any = _Exchange(news)
            with spending() as spent:
                for _ in range(candles):
                    done = _download_pair_history(
                        _PAIR,
                        datadir=Path(folder),
                        exchange=exchange,
                        timeframe="1m",
                        data_handler=handler,
                        candle_type=CandleType.SPOT,
                    )
                    assert done
            stored = handler.ohlcv_load(_PAIR, "1m", CandleType.SPOT, fill_missing=False)
            assert len(stored) == len(whole) - 1, f"{len(stored)} of {len(whole) - 1} rows"
        found.append((f"freqtrade, {form}", candles, spent, 1.0))
    costs_told(found)


if __name__ == "__main__":
    main(*sys.argv[1:])
