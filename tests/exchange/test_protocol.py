"""Frames to events: recorded ones, impossible ones, and any text at all."""

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kline_trio.candle import Series
from kline_trio.errors import ProtocolError
from kline_trio.exchange.protocol import (
    CandleClosed,
    CandleForming,
    ContractChanged,
    ErrorReply,
    OtherEvent,
    ServerShutdown,
    SubscriptionReply,
    decode,
    request_text,
    stream_name,
)

RECORDED = Path(__file__).parents[2] / "../shared/data/ws"

SERIES = Series("spot", "BTCUSDT", "1m")
STREAMS = {stream_name(SERIES): SERIES}


def frame(*, envelope: bool = True, event_time_ms: int = 1_700_000_100_003, **k: object) -> str:
    kline = {
        "t": 1_700_000_040_000,
        "T": 1_700_000_099_999,
        "s": "BTCUSDT",
        "i": "1m",
        "f": 1,
        "L": 9,
        "o": "2.0",
        "c": "3.0",
        "h": "4.0",
        "l": "1.0",
        "v": "10",
        "n": 7,
        "x": True,
        "q": "20.5",
        "V": "4",
        "Q": "8.25",
        "B": "0",
        **k,
    }
    event = {"e": "kline", "E": event_time_ms, "s": kline["s"], "k": kline}
    return json.dumps({"stream": "btcusdt@kline_1m", "data": event} if envelope else event)


def recorded_frames(path: Path) -> list[str]:
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("wss")]
    return [line if line.startswith("{") else line.split(": ", 1)[1] for line in lines]


def streams_in(texts: list[str], trade_type: str) -> dict[str, Series]:
    klines = [data["k"] for text in texts if "k" in (data := json.loads(text).get("data", {}))]
    klines += [data["k"] for text in texts if "k" in (data := json.loads(text))]
    found = {Series(trade_type, kline["s"], kline["i"]) for kline in klines}
    return {stream_name(series): series for series in found}


@pytest.mark.parametrize(
    ("name", "closed", "forming"),
    [
        ("spot-2021-08-14.txt", 2, 15),
        ("usdt_futures-2021-04-17.txt", 0, 99),
        ("coin_futures-2021-07-22.txt", 0, 33),
        ("quoted-coin_futures-2026-09-25.txt", 1, 0),
        ("quoted-mixed-2021-2025.txt", 0, 3),
        ("quoted-three-markets-2022-05-29.txt", 0, 5),
        ("quoted-usdt_futures-2026-10-07.json", 0, 1),
        ("quoted-usdt_futures-testnet-2026-09-11.txt", 2, 2),
        ("quoted-control-frames.txt", 0, 0),
    ],
)
def test_recorded_frames_give_every_candle_in_them(name: str, closed: int, forming: int) -> None:
    if not RECORDED.exists():
        pytest.skip(f"no recorded frames at {RECORDED}")
    texts = recorded_frames(RECORDED / name)
    streams = streams_in(texts, "spot")
    kinds = Counter(type(decode(text, streams)) for text in texts)
    assert (kinds[CandleClosed], kinds[CandleForming]) == (closed, forming)


def test_a_closed_candle_keeps_every_number_of_the_frame() -> None:
    event = decode(frame(), STREAMS)
    assert isinstance(event, CandleClosed)
    assert event.series is SERIES
    assert event.event_time_ms == 1_700_000_100_003
    candle = event.candle
    assert (candle.open_time_ms, candle.open, candle.close) == (1_700_000_040_000, 2.0, 3.0)
    assert (candle.volume, candle.quote_volume, candle.trade_num) == (10.0, 20.5, 7)


def test_a_raw_stream_s_frame_has_no_envelope() -> None:
    assert decode(frame(envelope=False), STREAMS) == decode(frame(), STREAMS)


@pytest.mark.parametrize(
    ("text", "event"),
    [
        ('{"result":null,"id":1}', SubscriptionReply(1)),
        ('{"result":null,"id":"a"}', SubscriptionReply("a")),
        (
            '{"error":{"code":2,"msg":"Invalid request"},"id":2}',
            ErrorReply(2, 2, "Invalid request"),
        ),
        ('{"error":{"code":4,"msg":"Too many"}}', ErrorReply(None, 4, "Too many")),
        ('{"code":3,"msg":"Invalid JSON","id":null}', ErrorReply(None, 3, "Invalid JSON")),
        ('{"e":"serverShutdown","E":1}', ServerShutdown()),
        ('{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1}}', ServerShutdown()),
        (
            '{"stream":"a@depth","data":{"e":"depthUpdate","E":1,"s":"A"}}',
            OtherEvent(),
        ),
        ('{"stream":"a@bookTicker","data":{"u":1,"s":"A"}}', OtherEvent()),
        ("{}", OtherEvent()),
    ],
)
def test_every_other_kind_of_frame_is_told_apart(text: str, event: object) -> None:
    assert decode(text, STREAMS) == event


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not JSON"),
        ("[1]", "another shape"),
        ("\ud800", "not JSON"),
        ('{"e":"kline","E":1,"s":"BTCUSDT"}', "without its candle"),
        ('{"stream":"btcusdt@kline_1m","data":[]}', "another shape"),
        (frame(o=2.0), "another shape"),
        (frame(x="true"), "another shape"),
        (frame(n=1.5), "another shape"),
        (frame(i="3m"), "disagree"),
        (frame(s="ETHUSDT"), "disagree"),
        (frame(s="ETHUSDT", envelope=False), "not asked for"),
        (frame(s="../x", envelope=False), "not asked for"),
        (frame(s="btcusdt"), "not asked for"),
        (frame(t=1_700_000_040_001), "grid"),
        (frame(T=1_700_000_100_000), "another interval"),
        (frame(T=1_700_000_040_999), "another interval"),
        (frame(T="1700000099999"), "another shape"),
        (frame(event_time_ms=1_700_000_039_999), "closed before it began"),
        (frame(event_time_ms=1_700_000_160_000), "long after its end"),
        (frame(event_time_ms=2_000_000_000_000), "long after its end"),
        (frame(t=0, T=59_999), "long after its end"),
        (frame(t=1_700_000_160_000, T=1_700_000_219_999), "before it began"),
        (frame(l="2.5"), "low above"),
        (frame(h="2.5"), "high below"),
        (frame(v="NaN"), "plain decimal"),
        (frame(c="9" * 400), "plain decimal"),
    ],
)
def test_a_frame_that_cannot_be_true_says_why(text: str, reason: str) -> None:
    with pytest.raises(ProtocolError, match=reason):
        decode(text, STREAMS)


def test_a_candle_may_be_told_a_minute_after_its_close_or_an_interval_if_that_is_longer() -> None:
    assert isinstance(decode(frame(event_time_ms=1_700_000_159_999), STREAMS), CandleClosed)
    hour = Series("spot", "BTCUSDT", "1h")
    text = frame(
        envelope=False, i="1h", t=1_699_999_200_000, T=1_700_002_799_999,
        event_time_ms=1_700_006_399_999,
    )  # fmt: skip
    assert isinstance(decode(text, {stream_name(hour): hour}), CandleClosed)


def test_a_candle_that_an_outage_cut_short_is_one() -> None:
    assert isinstance(decode(frame(T=1_700_000_072_123), STREAMS), CandleClosed)


# The keys and values of the example on the "Contract Info Stream" pages.
CONTRACT = {
    "e": "contractInfo", "E": 1_669_647_330_375, "s": "APTUSD_PERP", "ps": "APTUSD",
    "ct": "PERPETUAL", "dt": 4_133_404_800_000, "ot": 1_666_594_800_000, "cs": "TRADING",
    "bks": [{"bs": 1, "bnf": 0, "bnc": 5000, "mmr": 0.01, "cf": 0, "mi": 21, "ma": 50}],
}  # fmt: skip


@pytest.mark.parametrize(
    ("st_", "trade_type"), [({}, None), ({"st": 1}, "usdt_futures"), ({"st": 2}, "coin_futures"),
    ({"st": 3}, None)],
)  # fmt: skip
@pytest.mark.parametrize("envelope", [True, False])
def test_a_contract_is_told_with_its_product(
    st_: dict[str, int], trade_type: str | None, envelope: bool
) -> None:
    event = CONTRACT | st_
    text = json.dumps({"stream": "!contractInfo", "data": event} if envelope else event)
    assert decode(text, STREAMS) == ContractChanged(trade_type)


def test_a_contract_event_needs_no_more_than_a_symbol_and_a_status() -> None:
    least = {"e": "contractInfo", "E": 1, "s": "龙虾USDT", "cs": "TOMORROWS_WORD"}
    event = decode(json.dumps(least), STREAMS)
    assert event == ContractChanged(None)


@pytest.mark.parametrize(
    "changes",
    [{"s": ""}, {"s": None}, {"cs": 1}, {"cs": None}, {"ct": 5}, {"dt": -1}, {"ot": 1.5},
     {"E": None}, {"st": "1"}, {"dt": 10**18}],
)  # fmt: skip
def test_a_contract_event_of_another_shape_says_so(changes: dict[str, object]) -> None:
    with pytest.raises(ProtocolError, match="another shape"):
        decode(json.dumps(CONTRACT | changes), STREAMS)


@pytest.mark.parametrize("status", [b"\xff", b"\\ud800", b"\\x"])
def test_a_contract_event_that_is_no_text_is_no_json(status: bytes) -> None:
    """What the first look passes over, the second reads."""
    text = b'{"e":"contractInfo","E":1,"s":"A","cs":"%b"}' % status
    with pytest.raises(ProtocolError, match="not JSON"):
        decode(text, STREAMS)


@given(
    st.text()
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "stream",
                        "data",
                        "e",
                        "E",
                        "s",
                        "k",
                        "t",
                        "i",
                        "o",
                        "x",
                        "id",
                        "result",
                        "error",
                        "cs",
                        "st",
                    ]
                ),
                inner,
            )
        ),
        max_leaves=20,
    ).map(json.dumps)
)
def test_any_text_is_an_event_or_a_protocol_error(text: str) -> None:
    try:
        decode(text, STREAMS)
    except ProtocolError as error:
        assert len(str(error)) < 300  # noqa: PT017 - an event is as good


@given(
    st.dictionaries(
        st.sampled_from(list("tTsifLochlvnxqVQB")),
        st.none() | st.integers() | st.text(max_size=5) | st.booleans(),
        max_size=4,
    )
)
def test_a_kline_with_any_of_its_fields_replaced_gives_a_true_candle_or_an_error(
    changes: dict[str, object],
) -> None:
    try:
        event = decode(frame(**changes), STREAMS)  # type: ignore[arg-type]
    except ProtocolError:
        return
    assert isinstance(event, CandleClosed | CandleForming)
    if isinstance(event, CandleClosed):
        candle = event.candle
        assert candle.low <= min(candle.open, candle.close)
        assert candle.high >= max(candle.open, candle.close)
        assert candle.open_time_ms % 60_000 == 0


def test_stream_names_are_lower_case_but_for_the_interval_and_other_scripts() -> None:
    assert stream_name(Series("spot", "BTCUSDT", "1M")) == "btcusdt@kline_1M"
    assert stream_name(Series("usdt_futures", "币安人生USDT", "1m")) == "币安人生usdt@kline_1m"
    request = json.loads(request_text("SUBSCRIBE", ["币安人生usdt@kline_1m"], 7))
    assert request == {"method": "SUBSCRIBE", "params": ["币安人生usdt@kline_1m"], "id": 7}
    request = json.loads(request_text("UNSUBSCRIBE", ["btcusdt@kline_1M"], 8))
    assert request == {"method": "UNSUBSCRIBE", "params": ["btcusdt@kline_1M"], "id": 8}


def test_a_frame_nested_without_end_is_no_json() -> None:
    """A parser that gives up on brackets must not take the recorder with it."""
    for text in ('{"zz":' + "[" * 5_000 + "]" * 5_000 + "}", '{"stream":"a","data":' + "[" * 5_000):
        with pytest.raises(ProtocolError, match="not JSON"):
            decode(text, STREAMS)
