"""A running recorder goes over to another configuration, in virtual time."""

import logging
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest
import trio
import trio.testing

from kline_trio.candle import Series
from kline_trio.commands import record
from kline_trio.config import Config
from kline_trio.errors import ConfigError
from kline_trio.exchange.protocol import stream_name
from kline_trio.monitor.systemd import Notifier
from kline_trio.recorder.supervisor import open_recorder
from kline_trio.storage.journal.ledger import State
from tests.builders import START_MS, truth
from tests.faulty_exchange import FaultyExchange
from tests.recorder.test_completing import ledger
from tests.recorder.test_supervisor import stored
from tests.virtual import joined

MINUTE_MS = 60_000
BTC, ETH, BNB, SOL = (Series("spot", f"{base}USDT", "1m") for base in ("BTC", "ETH", "BNB", "SOL"))
COIN = Series("coin_futures", "BTCUSD_PERP", "1m")
ARCHIVE = "https://archive.test"
GOOD = '[streams.spot]\n1m = ["BTCUSDT"]\n'


def config_of(folder: Path, *series: Series, more: str = "") -> Config:
    text = "".join(
        f"[streams.{trade_type}]\n1m = [{', '.join(names)}]\n"
        for trade_type in ("spot", "coin_futures")
        if (names := [f'"{one.symbol}"' for one in series if one.trade_type == trade_type])
    )
    return Config.from_text(text + more, name="recorder.toml", folder=folder)


def subscriptions(exchange: FaultyExchange) -> dict[tuple[str, int, str], int]:
    """Since when each stream is subscribed, by market, connection and name."""
    return {
        (session.market.trade_type, exchange.connection(session).number, name): since_ms
        for session in exchange._sessions
        for name, since_ms in session.streams.items()
    }


async def test_streams_come_and_go_and_the_others_are_not_touched(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    """No other stream is subscribed anew, and no connection closed: whoever is missing a candle
    would have nobody to bring it.
    """
    exchange = FaultyExchange(start_ms=START_MS)
    async with (
        joined(exchange) as environment,
        open_recorder(config_of(tmp_path, BTC, ETH, BNB), environment) as recorder,
    ):
        await trio.sleep(10)
        before = subscriptions(exchange)
        assert {name for _, _, name in before} == {*map(stream_name, (BTC, ETH, BNB))}
        recorder.reconfigure(config_of(tmp_path, BTC, BNB, SOL, COIN))
        assert recorder.series == (BTC, BNB, SOL, COIN)
        await trio.sleep(20)
        after = subscriptions(exchange)
        staying = [("spot", 1, stream_name(one)) for one in (BTC, BNB)]
        assert {one: after[one] for one in staying} == {one: before[one] for one in staying}
        new = [("spot", 1, stream_name(SOL)), ("coin_futures", 1, stream_name(COIN))]
        assert set(after) == {*staying, *new}
        # Within a second of ours, which is a minute of the exchange.
        assert max(after.values()) <= START_MS + 11.5 * MINUTE_MS
        recorder.reconfigure(config_of(tmp_path, BTC, ETH, BNB))
        await trio.sleep(20)
        again = subscriptions(exchange)
        assert {one: again[one] for one in staying} == {one: before[one] for one in staying}
        assert {name for _, _, name in again} == {*map(stream_name, (BTC, ETH, BNB))}
    assert exchange.statistics["spot"].opened == 1
    assert exchange.statistics["coin_futures"].opened == 1
    for one in (BTC, BNB):
        assert stored(tmp_path, one)[:48] == truth(
            exchange, one, START_MS, START_MS + 48 * MINUTE_MS
        )
        assert ledger(tmp_path, one) == []
    assert {one.state for one in ledger(tmp_path, ETH)} == {State.FILLED}


async def test_what_is_new_in_the_connection_table_brings_new_connections_without_a_hole(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    exchange = FaultyExchange(start_ms=START_MS)
    more = "[connection]\nredundancy = 2\n"
    async with (
        joined(exchange) as environment,
        open_recorder(config_of(tmp_path, BTC, COIN), environment) as recorder,
    ):
        await trio.sleep(10)
        recorder.reconfigure(config_of(tmp_path, BTC, COIN, more=more))
        await trio.sleep(50)
        assert [one.number for one in exchange.connections("spot")] == [2, 3]
        assert [one.number for one in exchange.connections("coin_futures")] == [2, 3]
    for one in (BTC, COIN):
        assert stored(tmp_path, one)[:58] == truth(
            exchange, one, START_MS, START_MS + 58 * MINUTE_MS
        )
        assert ledger(tmp_path, one) == []


async def test_what_counts_from_the_next_start_on_is_named_and_changes_nothing_now(
    autojump_clock: trio.testing.MockClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    exchange = FaultyExchange(start_ms=START_MS)
    config = config_of(tmp_path, BTC)
    elsewhere = attrs.evolve(
        config,
        store=attrs.evolve(config.store, path=tmp_path / "elsewhere"),
        archive=ARCHIVE,
    )
    async with joined(exchange) as environment, open_recorder(config, environment) as recorder:
        await trio.sleep(10)
        recorder.reconfigure(elsewhere)
        await trio.sleep(20)
        warning = "what is new in [store], [endpoints] for REST and archive counts from the next"
        assert caplog.messages.count(f"{warning} start on") == 1
        recorder.reconfigure(config)
        assert sum("next start" in line for line in caplog.messages) == 1, "nothing is left to say"
    assert exchange.statistics["spot"].opened == 1
    assert stored(tmp_path, BTC)[:28] == truth(exchange, BTC, START_MS, START_MS + 28 * MINUTE_MS)
    assert not (tmp_path / "elsewhere").exists()


async def test_a_change_that_is_undone_is_not_named_again(
    autojump_clock: trio.testing.MockClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is left that needs a new start."""
    config = config_of(tmp_path, BTC)
    elsewhere = attrs.evolve(
        config, store=attrs.evolve(config.store, path=tmp_path / "elsewhere"), archive=ARCHIVE
    )
    async with (
        joined(FaultyExchange(start_ms=START_MS)) as environment,
        open_recorder(config, environment) as recorder,
    ):
        for new in (elsewhere, config, attrs.evolve(config, archive=ARCHIVE), elsewhere):
            recorder.reconfigure(new)
            await trio.sleep(1)
    named = [line for line in caplog.messages if "counts from the next start on" in line]
    both, hosts = "[store], [endpoints] for REST and archive", "[endpoints] for REST and archive"
    assert named == [
        f"what is new in {what} counts from the next start on" for what in (both, hosts, both)
    ]


@pytest.mark.parametrize(
    ("write", "why"),
    [
        (lambda path: path.write_text(GOOD.replace("1m", "7m")), "streams.spot.7m"),
        (lambda path: path.write_text(GOOD + "[connection]\nca_fil = 1\n"), "connection.ca_fil"),
        (lambda path: path.write_text("[streams.spot"), "recorder.toml:"),
        (lambda path: path.write_bytes(b"\xff\xfe"), "not UTF-8 text"),
        (lambda path: path.unlink(), "cannot be read: No such file"),
        (
            lambda path: path.write_text(GOOD + '[connection]\nca_file = "absent.pem"\n'),
            "absent.pem",
        ),
        (
            lambda path: (
                path.write_text(GOOD + '[connection]\nca_file = "garbage.pem"\n'),
                path.with_name("garbage.pem").write_text("no certificate"),
            ),
            "garbage.pem",
        ),
        (lambda path: path.write_text(GOOD + '[connection]\nproxy = "gopher://x"\n'), "proxy"),
    ],
)
async def test_a_file_that_is_no_good_changes_nothing_and_the_log_says_why(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    write: Callable[[Path], object],
    why: str,
) -> None:
    """In real time, for the file is read in a thread; nothing else of it waits."""
    path = tmp_path / "recorder.toml"
    path.write_text(GOOD)
    caplog.set_level(logging.INFO, "kline_trio")
    exchange = FaultyExchange(start_ms=START_MS)
    with trio.fail_after(30):
        async with (
            joined(exchange) as environment,
            open_recorder(Config.from_toml(path), environment) as recorder,
        ):
            await anext(recorder.candles())
            before = subscriptions(exchange)
            config = recorder._recording.config
            write(path)
            reloader = record.Reloader(path, config, None, recorder.reconfigure, Notifier(None))
            with pytest.raises(ConfigError):
                await reloader.reload(is_dry_run=False)
            assert recorder._recording.config is config
            assert [*recorder.series] == [BTC]
            path.write_text(GOOD.replace('"BTCUSDT"', '"BTCUSDT", "ETHUSDT"'))
            await reloader.reload(is_dry_run=False)
            assert [*recorder.series] == [BTC, ETH]
            await trio.sleep(0.2)
            after = subscriptions(exchange)
            assert {one: after[one] for one in before} == before
    said = [one for one in caplog.records if one.levelno == logging.ERROR]
    assert said[0].getMessage().startswith("the configuration stays as it was: ")
    assert why in said[0].getMessage()
    assert "configuration read anew: 1 series added, 0 removed" in caplog.messages
    assert exchange.statistics["spot"].opened == 1


async def test_an_address_of_the_command_line_that_the_new_file_forbids_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """`--monitor 0.0.0.0:8787`, and the file loses its token: this must not end the recorder."""
    path = tmp_path / "recorder.toml"
    path.write_text(GOOD + '[monitor]\ntoken_file = "token"\ninsecure_http = true\n')
    first = Config.from_toml(path).with_monitor("0.0.0.0:8787")
    applied: list[Config] = []
    public, own = (
        record.Reloader(path, first, address, applied.append, Notifier(None))
        for address in ("0.0.0.0:8787", None)
    )
    await public.reload(is_dry_run=False)
    [new] = applied
    assert new.monitor.address == "0.0.0.0:8787"
    path.write_text(GOOD)
    with pytest.raises(ConfigError):
        await public.reload(is_dry_run=False)
    assert applied == [new]
    await own.reload(is_dry_run=False)
    assert len(applied) == 2
    reached = (
        "the configuration stays as it was: monitor.address: other machines can reach 0.0.0.0:8787:"
        " name"
    )
    assert caplog.messages == [
        f"{reached} a token_file, or use 127.0.0.1",
        f"{reached} tls_cert and tls_key, or set insecure_http = true",
    ]


def reloader_of(path: Path, applied: list[Config]) -> record.Reloader:
    """Return a reloader of a file that is watched."""
    return record.Reloader(path, Config.from_toml(path), None, applied.append, Notifier(None))


async def until(condition: Callable[[], bool]) -> None:
    """Wait in real time: the file is looked at in a thread."""
    with trio.fail_after(20):
        while not condition():  # noqa: ASYNC110 - what happens in other threads has no event
            await trio.sleep(0.01)


async def test_a_saved_file_is_read_once_if_that_is_wanted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "_SAVED_SECONDS", 0.02)
    caplog.set_level(logging.INFO, "kline_trio")
    path = tmp_path / "recorder.toml"
    path.write_text(GOOD)
    applied: list[Config] = []
    reloader = reloader_of(path, applied)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reloader.watch_file)
        await trio.sleep(0.2)
        path.write_text(GOOD + "# saved\n")
        await trio.sleep(0.2)
        assert not applied, "it was not wanted"
        watched = GOOD + "[monitor]\nreload_on_save = true\n"
        path.write_text(watched)
        await reloader.reload(is_dry_run=False)
        await trio.sleep(0.2)
        assert len(applied) == 1, "it was read by request"
        path.write_text(watched + "silent_seconds = 7\n")
        await until(lambda: len(applied) == 2)
        assert applied[-1].monitor.silent_seconds == 7
        path.write_text(watched + "silent = 7\n")
        await until(lambda: "stays as it was" in caplog.text)
        path.unlink()
        await trio.sleep(0.2)
        path.write_text(watched + "silent_seconds = 8\n")
        await until(lambda: len(applied) == 3)
        await trio.sleep(0.2)
        nursery.cancel_scope.cancel()
    assert len(applied) == 3
    assert caplog.text.count("was saved: reading") == 3
    assert caplog.text.count("stays as it was") == 1


async def test_a_saved_file_lets_nobody_in_and_runs_no_other_command(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "_SAVED_SECONDS", 0.02)
    path = tmp_path / "recorder.toml"
    watched = GOOD + "[monitor]\nreload_on_save = true\n"
    path.write_text(watched)
    applied: list[Config] = []
    reloader = reloader_of(path, applied)
    wanted = (
        'address = "127.0.0.1:1"\ntoken_file = "t"\ntoken_variable = "T"\non_change = ["reboot"]\n'
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reloader.watch_file)
        await trio.sleep(0.1)
        path.write_text(watched + wanted + "free_days = 3\n")
        await until(lambda: len(applied) == 1)
        nursery.cancel_scope.cancel()
    found = applied[0].monitor
    assert (found.address, found.token_file, found.token_variable, found.on_change) == (
        None, None, None, ()
    )  # fmt: skip
    assert found.free_days == 3
    assert "monitor.address, monitor.token_file, monitor.token_variable, monitor.on_change" in (
        caplog.text
    )
    await reloader.reload(is_dry_run=False)
    assert applied[1].monitor.on_change == ("reboot",)
