"""recorder.toml: what is taken, and every problem named at once."""

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kline_trio.candle import Series
from kline_trio.config import CompletenessConfig, Config
from kline_trio.errors import ConfigError
from kline_trio.storage.layout import DEFAULT_LAYOUT
from tests.builders import SPOT

STREAMS = '[streams.spot]\n1m = ["BTCUSDT"]\n'


def config(text: str, folder: Path = Path("/there")) -> Config:
    return Config.from_text(text, name="recorder.toml", folder=folder)


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        config(text)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return caught.value.problems


def test_streams_alone_are_enough() -> None:
    found = config(STREAMS)
    assert found.streams == (SPOT,)
    assert found.store.path == Path("/there/data")
    assert (found.store.merge_seconds, found.store.drain_seconds) == (60, 10)
    assert (found.connection.connect_seconds, found.connection.stall_seconds) == (10, 30)
    assert found.endpoints["usdt_futures"].websocket == ("wss://fstream.binance.com/market/stream",)
    assert found.endpoints["coin_futures"].rest == ("https://dapi.binance.com",)


def test_markets_come_in_their_order_and_symbols_as_written() -> None:
    found = config(
        '[streams.coin_futures]\n3m = ["ETHUSD_PERP", "BTCUSD_PERP"]\n'
        '[streams.spot]\n1h = ["B"]\n1s = ["A"]\n'
    )
    assert [str(one) for one in found.streams] == [
        "spot B-1h",
        "spot A-1s",
        "coin_futures ETHUSD_PERP-3m",
        "coin_futures BTCUSD_PERP-3m",
    ]


def test_the_former_name_of_a_key_is_still_read() -> None:
    former, now = (
        config(f"{STREAMS}[connection]\nread_{word}_seconds = 0.5\n") for word in ("rest", "pause")
    )
    assert former == now
    assert now.connection.read_pause_seconds == 0.5
    [problem] = problems(STREAMS + "[connection]\nread_rest_seconds = 2\n")
    assert problem.startswith("recorder.toml: connection.read_rest_seconds: a number of seconds")
    assert problem.endswith("(line 4)")
    [problem] = problems(
        STREAMS + "[connection]\nread_pause_seconds = 0.1\nread_rest_seconds = 0.1\n"
    )
    assert "the former name of read_pause_seconds, which is there too" in problem
    [problem] = problems(STREAMS + "[connection]\nread_paus_seconds = 1\n")
    assert 'unknown key; did you mean "read_pause_seconds"?' in problem


def test_symbols_are_taken_in_any_case_and_script() -> None:
    found = config('[streams.usdt_futures]\n1mo = ["btcUsdt", "币安人生usdt"]\n')
    assert [one.symbol for one in found.streams] == ["BTCUSDT", "币安人生USDT"]
    assert {one.time_interval for one in found.streams} == {"1M"}


def test_all_that_can_be_set_is_set() -> None:
    found = config(
        STREAMS + '[store]\npath = "/x"\nlayout = "{trade_type}_{symbol}_{time_interval}.parquet"\n'
        "merge_seconds = 0\ndrain_seconds = 1.5\n"
        '[endpoints.spot]\nwebsocket = ["ws://127.0.0.1:1/stream", "wss://b:9443/stream/"]\n'
        'rest = "http://[::1]:2"\n'
        "[connection]\nconnect_seconds = 1\nstall_seconds = 0.5\n"
        "[completeness]\ngrace_seconds = 0\nattempts = 2\nattempt_seconds = 0.5\n"
        '[rest]\nweight_share = 1\n[history]\nsince = "2024-01-01"\n'
        '[endpoints]\narchive = "http://127.0.0.1:5/"\n'
    )
    assert found.completeness == CompletenessConfig(
        grace_seconds=0, attempts=2, attempt_seconds=0.5
    )
    assert found.rest.weight_share == 1
    assert found.history.since == datetime(2024, 1, 1, tzinfo=UTC)
    assert found.archive == "http://127.0.0.1:5"
    assert found.store.path == Path("/x")
    assert (found.store.merge_seconds, found.store.drain_seconds) == (0, 1.5)
    assert found.endpoints["spot"].websocket == (
        "ws://127.0.0.1:1/stream",
        "wss://b:9443/stream",
    )
    assert found.endpoints["spot"].rest == ("http://[::1]:2",)
    assert (found.connection.connect_seconds, found.connection.stall_seconds) == (1, 0.5)


@pytest.mark.parametrize(
    "since", ['"2024-01-01"', "2024-01-01", "2024-01-01T00:00:00Z", '"2024-01-01T01:00+01:00"']
)
def test_a_beginning_is_a_date_or_a_time(since: str) -> None:
    found = config(STREAMS + f"[history]\nsince = {since}\n")
    assert found.history.since == datetime(2024, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[history]\nsince = 2024", 'history.since: a date is wanted, as "2024-01-01", not 2024'),
        ('[history]\nsince = "soon"', "history.since: a date is wanted"),
        ('[history]\nsince = "1969-01-01"', "history.since: 1969-01-01 is no time"),
        ("[rest]\nweight_share = 0", "rest.weight_share: a share above 0"),
        ("[rest]\nweight_share = 1.5", "rest.weight_share: a share above 0"),
        ("[completeness]\nattempts = 0", "completeness.attempts: a number from 1 on"),
        (
            "[completeness]\ngrace_seconds = -1",
            "completeness.grace_seconds: a number of seconds from 0 to 31,536,000 is wanted, not -",
        ),
        ('[endpoints]\narchive = "http://example.com"', "endpoints.archive: "),
        ('[endpoints]\narchive = ["http://127.0.0.1", "http://127.0.0.1"]', "endpoints.archive: "),
    ],
)
def test_what_completes_a_store_is_looked_over_too(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config(STREAMS + text)
    assert words in caught.value.problems[0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "recorder.toml: streams: nothing to record"),
        ("[streams.spot]\n", "nothing to record"),
        ("[streams.spot]\n1m = []\n", "streams.spot.1m: an empty list"),
        ('[streams.spot]\n1m = "BTCUSDT"\n', "streams.spot.1m: a list of symbols is wanted"),
        ('[streams.spot]\n7m = ["A"]\n', "streams.spot.7m: unknown interval; one of 1s 1m 3m"),
        ('[streams.coin_futures]\n1s = ["A"]\n', "coin_futures has no candles of 1s"),
        ('[streams.spot]\n1m = ["A", "a"]\n', "streams.spot.1m: 'A' is there twice"),
        ('[streams.spot]\n1M = ["A"]\n1mo = ["A"]\n', "streams.spot.1mo: 'A' is there twice"),
        ("[streams.spot]\n1m = [7]\n", "7: a text in quotes is wanted"),
        ('[streams.spto]\n1m = ["A"]\n', 'streams.spto: unknown key; did you mean "spot"?'),
        ("streams = 5\n", "streams: a table is wanted, not 5"),
        ("streams.spot = 5\n", "streams.spot: lists of symbols are wanted"),
        (STREAMS + "[sotre]\n", 'sotre: unknown key; did you mean "store"?'),
        (STREAMS + "[store]\nzzz = 1\n", "store.zzz: unknown key; one of path layout"),
        (STREAMS + "[store]\npath = 5\n", "store.path: a text in quotes is wanted, not 5"),
        (STREAMS + '[store]\npath = ""\n', "store.path: a path is wanted"),
        (STREAMS + '[store]\nlayout = "x.pqt"\n', "store.layout: "),
        (
            STREAMS + f'[store]\nlayout = "{"x" * 300}_{DEFAULT_LAYOUT}"\n',
            "a part of the path has up to 482 bytes of UTF-8",
        ),
        (
            STREAMS + "[store]\nmerge_seconds = true\n",
            "a number of seconds from 0 to 31,536,000 is wanted, not True",
        ),
        (
            STREAMS + "[store]\nmerge_seconds = -1\n",
            "a number of seconds from 0 to 31,536,000 is wanted, not -1",
        ),
        (
            STREAMS + "[store]\ndrain_seconds = nan\n",
            "a number of seconds from 0 to 31,536,000 is wanted, not nan",
        ),
        (
            STREAMS + "[connection]\nstall_seconds = 0\n",
            "a number of seconds above 0, up to 31,536,000, is wanted, not 0",
        ),
        (
            STREAMS + "[connection]\nread_pause_seconds = 2\n",
            "seconds from 0 to 1 is wanted, not 2",
        ),
        (STREAMS + "[connection]\nredundancy = 5\n", "a number from 1 to 4 is wanted, not 5"),
        (STREAMS + "[connection]\nmax_age_hours = 24\n", "from 0.1 to below 24 is wanted, not 24"),
        (
            STREAMS + "[connection]\nstall_seconds = inf\n",
            "a number of seconds above 0, up to 31,536,000, is wanted, not inf",
        ),
        (STREAMS + '[endpoints.spot]\nrest = "ftp://a"\n', "'ftp://a' is no https:// address"),
        (STREAMS + '[endpoints.spot]\nrest = "https://"\n', "is no https:// address"),
        (STREAMS + '[endpoints.spot]\nrest = "http://a.com"\n', "only goes to this machine itself"),
        (STREAMS + '[endpoints.spot]\nwebsocket = "ws://1.2.3.4"\n', "only goes to this machine"),
        (STREAMS + '[endpoints.spot]\nwebsocket = "wss://a:99999"\n', "endpoints.spot.websocket: "),
        (STREAMS + "[endpoints.spot]\nwebsocket = []\n", "an empty list: name a host"),
        (
            STREAMS + '[endpoints.spot]\nrest = "https://api.binance.com/api/v3"\n',
            "only scheme and host are wanted, as 'https://api.binance.com', without /api/v3",
        ),
        (STREAMS + '[endpoints.usdt_futures]\nrest = ["https://a", "https://b/fapi/"]\n', "/fapi"),
        (STREAMS + '[endpoints.coin_futures]\nrest = "https://a?x=1"\n', "without ?x=1"),
        (STREAMS + '[endpoints]\narchive = "https://a/data/spot"\n', "without /data/spot"),
        (STREAMS + '[endpoints.spot]\nwebsocket = "wss://a:9443"\n', "as in wss://a:9443/stream"),
        (STREAMS + '[endpoints.spot]\nwebsocket = "wss://a/"\n', "'wss://a' has no path"),
        (STREAMS + '[endpoints.spot]\nwebsocket = "wss://a?x=1"\n', "has no path"),
        (STREAMS + '[endpoints.spot]\nwebsocket = "wss://a/ws/b@kline_1m"\n', "names streams"),
        (STREAMS + '[endpoints.spot]\nwebsocket = "wss://a/stream#"\n', "an address has no #"),
        (STREAMS + '[endpoints.spot]\nwebsocket = "wss://a/stream#x"\n', "an address has no #"),
        (STREAMS + '[endpoints.spot]\nrest = "https://a?"\n', "as 'https://a', without ?"),
        (STREAMS + '[endpoints.spot]\nrest = "https://a#"\n', "as 'https://a', without #"),
        (
            STREAMS + '[endpoints.spot]\nwebsocket = "wss://a/stream?streams=b@kline_1m"\n',
            "names streams",
        ),
        ("[streams.spot\n", "recorder.toml: Expected ']'"),
        ("a = " + "[" * 5_000, "recorder.toml: nested too deeply"),
        ("a = " + "1" * 5_000, "recorder.toml: "),
        (STREAMS + '[store]\npath = "~no-such-user-here/x"\n', "store.path: "),
        (STREAMS + '[endpoints.spot]\nrest = "https://a..b"\n', "endpoints.spot.rest: "),
        (STREAMS + "[history]\nsince = 9999-12-31T23:59:59-14:00\n", "no time that a candle"),
        (STREAMS + "[history]\nsince = 0001-01-01T00:00:00+14:00\n", "no time that a candle"),
        (STREAMS + '[history]\nsince = "0024-01-01"\n', "no time that a candle"),
        (STREAMS + '[endpoints.spot]\nrest = "https://x.com/strëam"\n', "is not plain ASCII"),
        (STREAMS + '[endpoints.spot]\nrest = "https://x.com/a b"\n', "is not plain ASCII"),
    ],
)
def test_what_cannot_be_used_is_named(text: str, words: str) -> None:
    [problem] = problems(text)
    assert words in problem


@pytest.mark.parametrize(
    "line",
    [
        '[endpoints.spot]\nrest = "https://me:secret@a"',
        '[endpoints.spot]\nrest = "https://secret@a/x"',
        '[endpoints.spot]\nrest = "https://mé:secret@a"',
        '[endpoints.spot]\nwebsocket = "wss://me:secret@a/stream"',
        '[endpoints]\narchive = "https://me:secret@a?"',
    ],
)
def test_an_address_with_a_password_is_refused_and_not_shown(line: str) -> None:
    """The log names addresses."""
    [problem] = problems(f"{STREAMS}{line}\n")
    assert "an address without a user or a password is wanted" in problem
    assert "secret" not in problem


@pytest.mark.parametrize(
    "symbol", ["../x", "a/b", "..", ".", "", " ", "a\\\\b", "a\\u0000b", "A B"]
)
def test_a_symbol_cannot_leave_the_folder(symbol: str) -> None:
    [problem] = problems(f'[streams.spot]\n1m = ["{symbol}"]\n')
    assert problem.startswith("recorder.toml: streams.spot.1m: ")


def test_every_problem_comes_with_its_line() -> None:
    found = problems(
        "[streams.spot]\n"
        '7m = ["BTCUSDT"]\n'
        "# a comment\n"
        "1m = [\n"
        '  "BTCUSDT",\n'
        '  "../x",\n'
        "]\n"
        "[store]\n"
        "merge_second = 5\n"
    )
    assert len(found) == 3
    assert "streams.spot.7m" in found[0]
    assert found[0].endswith("(line 2)")
    assert "'../x'" in found[1]
    assert found[1].endswith("(line 7)")
    assert 'did you mean "merge_seconds"?' in found[2]
    assert found[2].endswith("(line 9)")


def test_a_file_is_read_with_its_folder(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(STREAMS + '[store]\npath = "sub"\n', encoding="utf-8")
    assert Config.from_toml(file).store.path == tmp_path / "sub"
    assert Config.from_toml(str(file)) == Config.from_toml(file)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read: No such file"):
        Config.from_toml(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory; name a recorder"):
        Config.from_toml(tmp_path)
    (tmp_path / "bad.toml").write_bytes(b"# \xff\n")
    with pytest.raises(ConfigError, match=r"bad\.toml: not UTF-8 text \(byte 2\)"):
        Config.from_toml(tmp_path / "bad.toml")


def test_a_name_that_is_too_long_is_a_problem_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="name too long"):
        Config.from_toml(tmp_path / f"{'x' * 300}.toml")


def rules(text: str) -> list[str]:
    """The rules of the one selection that a list under spot 1m makes, as they are shown."""
    found = config(f"[streams.spot]\n1m = {text}\n")
    assert found.streams == ()
    [selection] = found.patterns
    assert (selection.trade_type, selection.time_interval) == ("spot", "1m")
    return [str(rule) for rule in selection.rules]


def test_a_list_with_a_pattern_is_a_selection_with_all_that_it_holds() -> None:
    assert rules('["*usdt", "!*DOWNUSDT", "btcEur"]') == ["*USDT", "!*DOWNUSDT", "BTCEUR"]
    assert rules('["币安?Usdt*"]') == ["币安?USDT*"]
    assert rules('{ quote = "usdt" }') == ["{ quote = USDT }"]
    assert rules('["ETHBTC", { base = ["BTC", "牛来"], quote = "USDT" }, "!A*"]') == [
        "ETHBTC", "{ quote = USDT, base = BTC or 牛来 }", "!A*",
    ]  # fmt: skip


def test_names_and_patterns_are_kept_apart() -> None:
    found = config(
        '[streams.usdt_futures]\n1m = ["BTCUSDT", "*_26*"]\n1mo = ["ETHUSDT"]\n'
        "[streams.usdt_futures.3m]\n"
        'contract = ["PERPETUAL", "tomorrows_KIND"]\nmargin = "USDC"\n'
        '[streams.spot]\n1m = ["*"]\n'
    )
    assert found.streams == (Series("usdt_futures", "ETHUSDT", "1M"),)
    assert [str(one) for one in found.patterns] == [
        "spot *-1m",
        "usdt_futures BTCUSDT *_26*-1m",
        "usdt_futures { contract = PERPETUAL or TOMORROWS_KIND, margin = USDC }-3m",
    ]


@pytest.mark.parametrize(
    ("symbols", "words"),
    [
        ('["!A*"]', "spot.1m: only exclusions: begin with what they are taken out of"),
        ('["!A", "!B?"]', "only exclusions"),
        ('["!A", "B*"]', "'!A' stands before all that it could be taken out of"),
        ('["A*", "!B", "A*", "A*"]', "A* is there twice"),
        ('["!"]', "'!': a symbol or a pattern is wanted"),
        ('["A*", "!!A"]', "'!!A': a symbol holds only letters, digits and _; in a pattern, also"),
        ('["[AB]*"]', "'[AB]*': a symbol holds only letters"),
        ('["../*"]', "'../*': a symbol holds only letters"),
        ('["A *"]', "'A *': a symbol holds only letters"),
        (f'["{"A" * 41}*"]', "a symbol has 1 to 40 characters"),
        ('"*USDT"', "streams.spot.1m: a list of symbols is wanted"),
        ("{}", "streams.spot.1m: an empty table: say what is wanted, as { quote = ... }"),
        ("[{}]", "streams.spot.1m: an empty table"),
        ('{ qoute = "USDT" }', 'streams.spot.1m.qoute: unknown key; did you mean "quote"?'),
        ('[{ qoute = "USDT" }]', '1m: { qoute }: qoute: unknown key; did you mean "quote"?'),
        ('{ zzz = "USDT" }', "1m.zzz: unknown key; one of quote base contract margin"),
        ("{ quote = 7 }", "1m.quote: a text in quotes is wanted, not 7"),
        ("{ quote = [] }", "1m.quote: an empty list: name one"),
        ('{ quote = "" }', "1m.quote: '' is no whole name"),
        ('{ quote = ["USD*"] }', "1m.quote: 'USD*' is no whole name, as USDT or PERPETUAL"),
        ('{ contract = "PERPETUAL" }', "1m.contract: spot has none: that is of futures"),
        ('["A", { margin = "USDT" }]', "1m: { margin }: margin: spot has none"),
    ],
)
def test_what_selects_nothing_is_named(symbols: str, words: str) -> None:
    [problem] = problems(f"[streams.spot]\n1m = {symbols}\n")
    assert words in problem
    assert problem.endswith("(line 2)")


def test_problems_of_patterns_come_all_at_once_with_their_lines() -> None:
    found = problems(
        "[streams.spot]\n"
        '1m = ["*", "a/*", { quote = 1, kind = "x" }]\n'
        '7m = ["*"]\n'
        "[streams.usdt_futures.1m]\n"
        'quote = "USDT"\n'
        'contarct = "PERPETUAL"\n'
        'margin = "*"\n'
        "[streams.coin_futures]\n"
        '1m = ["!*"]\n'
    )
    assert [(one.split(": ")[1], one[-9:]) for one in found] == [
        ("streams.spot.1m", " (line 2)"),
        ("streams.spot.1m", " (line 2)"),
        ("streams.spot.1m", " (line 2)"),
        ("streams.spot.7m", " (line 3)"),
        ("streams.usdt_futures.1m.contarct", " (line 6)"),
        ("streams.usdt_futures.1m.margin", " (line 7)"),
        ("streams.coin_futures.1m", " (line 9)"),
    ]


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_a_pipe_or_a_device_is_refused_at_once(
    make: Callable[[Path], None], tmp_path: Path
) -> None:
    """To read it would take for ever, and no signal could end that."""
    make(tmp_path / "recorder.toml")
    with pytest.raises(ConfigError, match=r"recorder\.toml: cannot be read: it is no file, but"):
        Config.from_toml(tmp_path / "recorder.toml")


def test_a_file_beyond_all_measure_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "recorder.toml").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(ConfigError, match="cannot be read: longer than 16,777,216 bytes"):
        Config.from_toml(tmp_path / "recorder.toml")


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    path = tmp_path / "recorder.toml"
    path.write_bytes(b"\xef\xbb\xbf" + STREAMS.replace("\n", "\r\n").encode())
    assert Config.from_toml(path).streams
    path.write_bytes(b"\xef\xbb\xbf[sotre]\n" + STREAMS.encode())
    with pytest.raises(ConfigError, match=r'did you mean "store"\? \(line 1\)'):
        Config.from_toml(path)
