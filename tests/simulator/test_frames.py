"""Frames, byte for byte as the exchange sends them."""

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kline_trio.simulator.frames import (
    Kline,
    combined,
    decimal_text,
    error_reply,
    kline_event,
    result_reply,
)
from tests.faulty_exchange import Shutdown

from .support import START_MS, Peer, parsed, plain_exchange, real, recorded_frames

if TYPE_CHECKING:
    from pathlib import Path

COUNTS = {
    "coin_futures-2021-07-22.txt": 33,
    "quoted-coin_futures-2026-09-25.txt": 1,
    "quoted-control-frames.txt": 0,
    "quoted-mixed-2021-2025.txt": 3,
    "quoted-three-markets-2022-05-29.txt": 5,
    "quoted-usdt_futures-2026-10-07.json": 1,
    "quoted-usdt_futures-testnet-2026-09-11.txt": 4,
    "spot-2021-08-14.txt": 17,
    "usdt_futures-2021-04-17.txt": 99,
}


def kline_of(k: dict[str, Any]) -> Kline:
    return Kline(
        symbol=k["s"],
        interval=k["i"],
        open_time_ms=k["t"],
        close_time_ms=k["T"],
        first_trade_id=k["f"],
        last_trade_id=k["L"],
        open=k["o"],
        close=k["c"],
        high=k["h"],
        low=k["l"],
        volume=k["v"],
        trade_num=k["n"],
        quote_volume=k["q"],
        taker_buy_volume=k["V"],
        taker_buy_quote_volume=k["Q"],
    )


@pytest.mark.parametrize("name", COUNTS)
def test_recorded_frames_are_rendered_byte_for_byte(name: str) -> None:
    """Every kline frame recorded or quoted comes out the same from its own values.

    USD-M frames exist with blanks inside ``k`` (testnet, 2026-09) and without (production
    recordings of 2021 and a frame quoted in 2026-10): the frame itself says which.
    """
    file: Path = real(f"ws/{name}")[0]
    seen = 0
    for text in recorded_frames(file):
        content = parsed(text)
        event = content.get("data", content)
        if event.get("e") != "kline":
            continue
        seen += 1
        kline = event["k"]
        ours = kline_event(kline_of(kline), event["E"], closed=kline["x"], blanks='", "i"' in text)
        assert (combined(content["stream"], ours) if "stream" in content else ours) == text
    assert seen == COUNTS[name]


def test_replies_read_as_quoted() -> None:
    """Replies have the shape of the quoted real ones, errors nested and never wrapped."""
    quoted = list(recorded_frames(real("ws/quoted-control-frames.txt")[0]))
    streams = ["btcusdt@kline_1m", "ethusdt@markPrice@1s"]
    assert result_reply(None, 1) == quoted[0]
    assert result_reply(streams, 2) == quoted[1]
    assert error_reply(2, "Invalid request: invalid stream", 2) == quoted[4]
    assert result_reply(None, "a-b") == '{"result":null,"id":"a-b"}'


def test_shutdown_has_two_forms() -> None:
    """``serverShutdown`` is bare on raw connections and wrapped on combined ones."""
    raw = f'{{"e":"serverShutdown","E":{START_MS + 5}}}'
    for target, text in (
        ("/ws", raw),
        ("/stream", f'{{"stream":"!serverShutdown","data":{raw}}}'),
    ):
        shutdown = Shutdown(trade_type="spot", at_ms=START_MS + 5)
        assert Peer(plain_exchange(shutdown), "spot", target).until(1) == [text]


@given(st.integers(0, 10**24), st.integers(0, 12))
def test_decimal_text_is_exact(units: int, decimals: int) -> None:
    """Decimal text keeps every digit."""
    text = decimal_text(units, decimals)
    whole, _, part = text.partition(".")
    assert len(part) == decimals
    assert int(whole + part) == units
