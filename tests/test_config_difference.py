"""What `reload` prints: each key that differs, as TOML has it, and no secret."""

from pathlib import Path

import pytest

from kline_trio.config import Config
from kline_trio.config.difference import differences

STREAMS = '[streams.spot]\n1m = ["BTCUSDT", "ETHUSDT"]\n'


def read(text: str) -> Config:
    return Config.from_text(text, name="recorder.toml", folder=Path("/x"))


def lines(old: str, new: str) -> list[str]:
    return [str(one) for one in differences(read(old), read(new))]


def test_the_same_file_does_not_differ() -> None:
    assert lines(STREAMS, STREAMS + "[connection]\nstall_seconds = 30\n") == []


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ("[connection]\nstall_seconds = 12.5\n", "connection.stall_seconds: 30 -> 12.5"),
        ('[store]\npath = "b"\n', 'store.path: "/x/data" -> "/x/b"'),
        ('[store]\nlayout = "{trade_type}/{symbol}/{time_interval}.pqt"\n',
         ('store.layout: "{trade_type}_{symbol}_{time_interval}.pqt"'
         ' -> "{trade_type}/{symbol}/{time_interval}.pqt"')),
        ("[history]\nsince = 2024-01-01\n",
         "history.since: not set -> 2024-01-01 00:00:00+00:00"),
        ("[monitor]\nper_symbol = true\n", "monitor.per_symbol: false -> true"),
        ('[monitor]\nallowed_hosts = ["a", "b"]\n',
         'monitor.allowed_hosts: not set -> ["a", "b"]'),
        ('[endpoints]\narchive = "https://example.org"\n',
         'endpoints.archive: "https://data.binance.vision" -> "https://example.org"'),
        ('[endpoints.spot]\nrest = "https://example.org"\n',
         'endpoints.spot.rest: ["https://api.binance.com"] -> ["https://example.org"]'),
        ('[connection]\nproxy = "http://user:hidden@example.org:1"\n',
         "connection.proxy: not set -> a secret"),
        ('[monitor]\nheartbeat_url = "https://example.org/hidden"\n',
         "monitor.heartbeat_url: not set -> a secret"),
    ],
)  # fmt: skip
def test_a_key_is_shown_with_both_values(more: str, line: str) -> None:
    [told] = lines(STREAMS, STREAMS + more)
    assert told == line
    [back] = differences(read(STREAMS + more), read(STREAMS))
    assert f"{back.key}: {back.new} -> {back.old}" == line


def test_one_secret_for_another_is_a_difference() -> None:
    proxies = [f'{STREAMS}[connection]\nproxy = "http://u:{one}@h:1"\n' for one in ("a", "b")]
    assert lines(*proxies) == ["connection.proxy: a secret -> a secret"]


def test_streams_that_come_and_go_are_named_by_their_list() -> None:
    new = '[streams.spot]\n1m = ["BTCUSDT", "SOLUSDT"]\n1h = ["BTCUSDT"]\n'
    assert lines(STREAMS, new) == [
        "streams.spot.1h: nothing -> BTCUSDT",
        "streams.spot.1m: ETHUSDT -> SOLUSDT",
    ]
    many = ", ".join(f'"A{n}USDT"' for n in range(15))
    [told] = lines(new, new.replace('"SOLUSDT"', many).replace('"BTCUSDT", ', '"BTCUSDT",'))
    assert told.endswith("A9USDT and 5 more")
    assert lines(STREAMS, STREAMS.replace('"BTCUSDT", "ETHUSDT"', '"ETHUSDT", "BTCUSDT"')) == []


def test_patterns_and_their_order_count() -> None:
    old = '[streams.spot]\n1m = ["*USDT", "!B*", "*USDC"]\n'
    assert lines(old, old.replace('"!B*", "*USDC"', '"*USDC", "!B*"')) == [
        "streams.spot.1m: these rules -> the same rules in another order"
    ]
    assert lines(old, old.replace('"!B*"', '{ quote = "USDC" }')) == [
        "streams.spot.1m: !B* -> { quote = USDC }"
    ]
