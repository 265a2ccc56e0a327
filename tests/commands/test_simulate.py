"""When the built-in exchange of `--simulate` begins."""

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path

import httpx2
import pytest
import trio

from kline_trio.commands.simulate import built_in_exchange
from kline_trio.config import Config
from kline_trio.storage.simulated import simulated_store
from tests.builders import COIN, SPOT
from tests.storage.support import at, make_candle, open_store, receive


@pytest.mark.parametrize(("begin", "minutes"), [(min, 3), (max, 5)])
async def test_it_begins_at_the_end_of_a_stored_series(
    begin: Callable[[Iterable[int]], int], minutes: int, tmp_path: Path
) -> None:
    """Recording begins at the earliest end, a comparison when all stored candles have closed."""
    toml = tmp_path / "recorder.toml"
    toml.write_text(
        '[streams.spot]\n1m = ["BTCUSDT"]\n[streams.coin_futures]\n3m = ["BTCUSD_PERP"]\n'
    )
    store = open_store(simulated_store(toml))
    # The first ends after 5 minutes, the other one after 3.
    store.journal.accept(receive(SPOT, make_candle(at(4))))
    store.journal.accept(receive(COIN, make_candle(at(0))))
    store.close()
    options = argparse.Namespace(config=toml, start=None, seed=0, speed=1.0, replay=None)
    config = Config.from_toml(toml)
    async with built_in_exchange(config, options, begin) as redirect:
        [host] = redirect(config).endpoints["spot"].rest
        answer = await trio.to_thread.run_sync(httpx2.get, f"{host}/api/v3/time")
    now_ms = answer.json()["serverTime"]
    assert at(minutes) <= now_ms < at(minutes) + 30_000
