"""A running recorder reads its configuration anew, as a whole program."""

import signal
from collections.abc import Callable

from tests.end_to_end.expected import ETH, SPOT, Key
from tests.end_to_end.harness import Recorder, StandIn

COIN: Key = ("coin_futures", "BTCUSD_PERP", "1m")


def test_sighup_adds_and_removes_streams_and_an_invalid_file_changes_nothing(
    stand_in: Callable[..., StandIn], recorder: Callable[..., Recorder]
) -> None:
    exchange = stand_in()
    ours = recorder(exchange, SPOT)
    path = ours.folder / "recorder.toml"
    with ours.running() as program:
        program.wait_for("Recorded spot BTCUSDT-1m")

        ours.streams = [SPOT, ETH, COIN]
        ours.configure(exchange)
        program.process.send_signal(signal.SIGHUP)
        program.wait_for("configuration read anew: 2 series added, 0 removed")
        program.wait_for("Recorded spot ETHUSDT-1m")
        program.wait_for("Recorded coin_futures BTCUSD_PERP-1m")

        good = path.read_text(encoding="utf-8")
        path.write_text(good.replace("1m =", "7m ="), encoding="utf-8")
        program.process.send_signal(signal.SIGHUP)
        program.wait_for("the configuration stays as it was")
        program.wait_for("streams.spot.7m")

        ours.streams = [ETH, COIN]
        ours.configure(exchange)
        program.process.send_signal(signal.SIGHUP)
        program.wait_for("configuration read anew: 0 series added, 1 removed")
        recorded = program.count("Recorded spot ETHUSDT-1m")
        program.wait_for("Recorded spot ETHUSDT-1m", times=recorded + 4)
        before = program.count("Recorded spot BTCUSDT-1m")
        program.wait_for("Recorded spot ETHUSDT-1m", times=recorded + 8)
        assert program.count("Recorded spot BTCUSDT-1m") == before
        assert program.count("spot: receiving") == 1, "the connection lives on"
        assert program.end(signal.SIGINT) == 0
    for key in (SPOT, ETH, COIN):
        frame = ours.readable(key)
        assert frame is not None
        assert len(frame) > 0


def test_another_way_to_the_exchange_is_gone_over_to_while_it_records(
    stand_in: Callable[..., StandIn], recorder: Callable[..., Recorder]
) -> None:
    exchange = stand_in()
    ours = recorder(exchange, SPOT)
    with ours.running() as program:
        program.wait_for("Recorded spot BTCUSDT-1m")
        ours.configure(exchange, connection="redundancy = 2")
        program.process.send_signal(signal.SIGHUP)
        program.wait_for("spot: replaced a connection")
        program.wait_for("spot/b: receiving 1 stream")
        seen = program.count("Recorded")
        program.wait_for("Recorded", times=seen + 10)
        assert program.end(signal.SIGINT) == 0
    frame = ours.readable(SPOT)
    assert frame is not None
    gaps = frame.index.to_series().diff().dropna().unique()
    assert len(gaps) == 1, "no minute is missing"
