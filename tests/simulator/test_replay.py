"""Replays: what is in the files comes out, all of it, as it was, and nothing else."""

import gzip
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from kline_trio.simulator import Replay
from kline_trio.simulator.calendar import next_open_ms
from kline_trio.simulator.session import Session
from tests.builders import MINUTE_MS
from tests.faulty_exchange import Drop

from .support import (
    Peer,
    closes,
    klines,
    parsed,
    plain_exchange,
    real,
    recorded_frames,
    request,
)

PATHS = {"spot": "/stream", "usdt_futures": "/market/stream", "coin_futures": "/stream"}
HEADER = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,"
    "taker_buy_quote_volume,ignore"
)
OPEN_MS = 1_735_689_600_000
"""2025-01-01 00:00 UTC, when the spot archive went over to microseconds."""


def archive_rows(*files: Path) -> list[list[str]]:
    """Read archive files in a way of our own."""
    rows: list[list[str]] = []
    for file in files:
        if file.suffix == ".zip":
            with zipfile.ZipFile(file) as archive:
                text = archive.read(archive.namelist()[0]).decode()
        else:
            text = gzip.decompress(file.read_bytes()).decode()
        lines = text.splitlines()
        rows += [line.split(",") for line in lines if not line.startswith("open_time")]
    return rows


def values(kline: dict[str, Any]) -> list[str]:
    """Put a kline as a row of an archive, without close time and the last column."""
    keys = "tohlcvqnVQ"
    return [str(kline[key]) for key in keys]


def row_values(row: Sequence[str]) -> list[str]:
    return [*row[:6], *row[7:11]]


def play(trade_type: str, *files: Path) -> list[str]:
    """Subscribe all streams of the files on one connection and let the replay run to its end."""
    replay = Replay.from_files(files)
    streams = "/".join(sorted(stream for name, stream in replay.expected if name == trade_type))
    exchange = plain_exchange(replay=replay, speed=100_000.0)
    one = Peer(exchange, trade_type, f"{PATHS[trade_type]}?streams={streams}")
    one.gives_pongs = True
    texts = one.until(exchange.local_s(exchange.clock.end_ms))
    assert exchange.finished(one.now_s) is False
    exchange.handed_over(one.session, one.now_s)
    assert exchange.finished(one.now_s)
    return texts


def written(folder: Path, rows: Sequence[str], name: str = "BTCUSDT-1m-2025-01-01.csv") -> Path:
    folder.mkdir(exist_ok=True)
    file = folder / name
    text = "\n".join(rows)
    if name.endswith(".gz"):
        file.write_bytes(gzip.compress(text.encode()))
    elif name.endswith(".zip"):
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr(name.replace(".zip", ".csv"), text)
    else:
        file.write_text(text)
    return file


def made_up_rows(unit: int = 1, count: int = 3) -> list[str]:
    return [
        f"{ms * unit},1.0,3.0,0.5,2.{n},10,{(ms + MINUTE_MS) * unit - 1},20,4,5,9,0"
        for n, ms in enumerate(range(OPEN_MS, OPEN_MS + count * MINUTE_MS, MINUTE_MS))
    ]


# -- archives -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trade_type", "pattern", "count"),
    [
        ("spot", "klines/spot/BTCUSDT-1m-2023-03-24.zip", 1_360),
        ("spot", "klines/spot/SOLUSDT-1m-2023-02-14.zip", 1_439),
        ("spot", "klines/spot/ARBUSDT-1m-2023-07-27.zip", 230),
        ("usdt_futures", "klines/usdt_futures/ETHUSDT-1h-2022-08-24.zip", 24),
        ("usdt_futures", "klines/usdt_futures/BTCUSDT-1m-2022-09-0*.zip", 2_880),
        ("coin_futures", "klines/coin_futures/BTCUSD_PERP-1m-2022-10-24.zip", 1_440),
    ],
)
def test_an_archive_is_replayed_row_by_row(trade_type: str, pattern: str, count: int) -> None:
    """Each row closes once, in order, with the archive's own texts: holes stay holes."""
    files = real(pattern)
    rows = archive_rows(*files)
    assert len(rows) == count
    assert [values(kline) for kline in closes(play(trade_type, *files))] == [
        row_values(row) for row in rows
    ]


def test_a_close_time_cut_short_is_sent_as_streams_have_it() -> None:
    """The outage of 2023-03-24 left a row that ends after 42 s; its frame ends on the grid.

    The minute after it and 79 more are absent, and stay so.
    """
    (file,) = real("klines/spot/BTCUSDT-1m-2023-03-24.zip")
    odd = [row for row in archive_rows(file) if int(row[6]) != int(row[0]) + 59_999]
    assert len(odd) == 1
    found = closes(play("spot", file))
    assert all(kline["T"] == kline["t"] + 59_999 for kline in found)
    at = [str(kline["t"]) for kline in found].index(odd[0][0])
    assert found[at + 1]["t"] - found[at]["t"] == 81 * MINUTE_MS


def test_a_month_comes_from_a_gzip_file() -> None:
    """A compressed month with header is replayed whole; a minute without trades has no ids."""
    (file,) = real("klines/usdt_futures/FILUSDT-1m-2023-09.csv.gz")
    replay = Replay.from_files([file])
    candles = [frame.kline for frame in replay.frames if frame.closes_ms is not None]
    rows = archive_rows(file)
    assert len(candles) == len(rows) == 43_200
    flat = [candle is not None and candle.first_trade_id == -1 for candle in candles]
    assert flat == [row[8] == "0" for row in rows]
    assert sum(flat) == 41
    assert [(str(c.open_time_ms), c.close, c.volume) for c in candles if c is not None] == [
        (row[0], row[4], row[5]) for row in rows
    ]


def test_candles_form_before_they_close() -> None:
    """Before each close comes one forming frame, which has no trade in it yet."""
    (file,) = real("klines/coin_futures/*.zip")
    frames = klines(play("coin_futures", file))
    for forming, closing in zip(frames[::2], frames[1::2], strict=True):
        assert (forming["x"], closing["x"]) == (False, True)
        assert forming["t"] == closing["t"]
        assert (forming["n"], forming["o"], forming["c"]) == (0, closing["o"], closing["o"])


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".zip"])
@pytest.mark.parametrize("unit", [1, 1_000])
@pytest.mark.parametrize("header", [[], [HEADER]])
def test_all_forms_of_a_file_are_one(
    tmp_path: Path, suffix: str, unit: int, header: list[str]
) -> None:
    """Packed or not, with header or without, in milli- or microseconds: the same candles."""
    rows = header + made_up_rows(unit)
    file = written(tmp_path / "spot", rows, f"BTCUSDT-1m-2025-01-01{suffix}")
    expected = [row_values(row.split(",")) for row in made_up_rows()]
    assert [values(kline) for kline in closes(play("spot", file))] == expected


def test_a_rest_answer_ends_with_a_candle_still_forming() -> None:
    """Of 1,440 rows of a recorded answer, the last one does not close."""
    (file,) = real("klines/spot/rest-ADAEUR-*.json")
    frames = klines(play("spot", file))
    assert len(frames) == 1_440 + 1_439
    assert not frames[-1]["x"]


@pytest.mark.parametrize(
    ("name", "trade_type"),
    [
        ("spot/BTCUSDT-1m-2025-01-01.csv", "spot"),
        ("um/BTCUSDT-1m-2025-01-01.csv", "usdt_futures"),
        ("cm/BTCUSDT-1m-2025-01-01.csv", "coin_futures"),
        ("coin_futures/daily/klines/BTCUSDT-1m-2025-01-01.csv", "coin_futures"),
    ],
)
def test_folders_name_the_market(tmp_path: Path, name: str, trade_type: str) -> None:
    """The nearest folder that is a market's name decides; a prefix overrules it."""
    file = tmp_path / name
    file.parent.mkdir(parents=True)
    written(file.parent, made_up_rows(), file.name)
    assert {frame.trade_type for frame in Replay.from_files([file]).frames} == {trade_type}
    prefixed = Replay.from_files([f"usdt_futures:{file}"])
    assert {frame.trade_type for frame in prefixed.frames} == {"usdt_futures"}


def test_a_month_is_written_mo_in_file_names(tmp_path: Path) -> None:
    """``1mo`` in a name is the stream's ``1M``, and its calendar is that of months."""
    row = made_up_rows()[0]
    file = written(tmp_path / "spot", [row], "BTCUSDT-1mo-2025-01.csv")
    (kline,) = closes(play("spot", file))
    assert (kline["i"], kline["T"]) == ("1M", next_open_ms("1M", OPEN_MS) - 1)


# -- recorded frames ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trade_type", "name"),
    [
        ("spot", "spot-2021-08-14.txt"),
        ("usdt_futures", "usdt_futures-2021-04-17.txt"),
        ("coin_futures", "coin_futures-2021-07-22.txt"),
        ("usdt_futures", "quoted-usdt_futures-testnet-2026-09-11.txt"),
        ("coin_futures", "quoted-coin_futures-2026-09-25.txt"),
    ],
)
def test_recorded_frames_come_to_the_letter(trade_type: str, name: str) -> None:
    """Every kline frame of the file is sent, in its order, and not a blank is changed."""
    (file,) = real(f"ws/{name}")
    frames = [text for text in recorded_frames(file) if '"e":"kline"' in text]
    bare = [f.partition('"data":')[2][:-1] if f.startswith('{"stream"') else f for f in frames]
    sent = play(trade_type, file)
    assert [text.partition('"data":')[2][:-1] for text in sent] == bare
    assert frames


def test_other_streams_of_a_recording_are_sent_to_who_asks() -> None:
    """Trades and depth are in the timeline too, for a client that subscribes them."""
    (file,) = real("ws/spot-2021-08-14.txt")
    replay = Replay.from_files([file])
    stream = "ftmusdt@depth@100ms"
    exchange = plain_exchange(replay=replay)
    one = Peer(exchange, "spot", f"/stream?streams={stream}")
    for _, kline_stream in replay.expected:
        one.ask(request("SUBSCRIBE", kline_stream))
        one.now_s += 1
    exchange.start(one.now_s)
    wanted = [text for text in recorded_frames(file) if text.startswith(f'{{"stream":"{stream}"')]
    assert [t for t in one.until(60) if parsed(t)["stream"] == stream] == wanted


def test_replies_in_a_recording_are_left_out() -> None:
    """Replies to other people's requests belong to no stream; they are counted."""
    (file,) = real("ws/quoted-usdt_futures-testnet-2026-09-11.txt")
    assert all(frame.stream for frame in Replay.from_files([file]).frames)


def test_an_event_that_is_a_list_is_replayed(tmp_path: Path) -> None:
    """Whole-market streams carry a list; the replay bears them."""
    file = tmp_path / "recorded-spot.txt"
    ticker = '1700000000.5: {"stream":"!miniTicker@arr","data":[{"e":"24hrMiniTicker"}]}'
    kline = next(recorded_frames(real("ws/quoted-three-markets-2022-05-29.txt")[0]))
    file.write_text(f"{ticker}\n1700000001: {kline}\n")
    replay = Replay.from_files([file])
    assert [frame.due_ms for frame in replay.frames] == [1_700_000_000_500, 1_700_000_001_000]
    assert replay.frames[0].text == '[{"e":"24hrMiniTicker"}]'


@pytest.mark.parametrize(
    ("host", "trade_type"),
    [
        ("stream.binance.com:9443", "spot"),
        ("data-stream.binance.vision", "spot"),
        ("fstream.binance.com", "usdt_futures"),
        ("demo-fstream.binance.com", "usdt_futures"),
        ("dstream.binance.com", "coin_futures"),
    ],
)
def test_the_url_of_a_recording_names_the_market(
    tmp_path: Path, host: str, trade_type: str
) -> None:
    """A recording's first line says where it was made."""
    file = tmp_path / "recorded.txt"
    kline = next(recorded_frames(real("ws/quoted-three-markets-2022-05-29.txt")[0]))
    file.write_text(f"wss://{host}/stream?streams=x <-> 1\n1700000001: {kline}\n")
    assert Replay.from_files([file]).frames[0].trade_type == trade_type


# -- the clock of a replay ------------------------------------------------------------------


def test_the_clock_waits_for_all_streams_and_stops_at_the_end(tmp_path: Path) -> None:
    """Nothing is sent before the last stream is subscribed; after the last frame time stands."""
    file = written(tmp_path / "spot", made_up_rows())
    expected = {"spot": ["btcusdt@kline_1m"], "usdt_futures": ["ethusdt@kline_1m"]}
    exchange = plain_exchange(replay=Replay.from_files([file], expected))
    one = Peer(exchange, "spot", "/stream?streams=btcusdt@kline_1m")
    one.gives_pongs = True
    assert one.until(100) == []
    assert exchange.now_ms(100) == exchange.now_ms(0)
    exchange.connect("usdt_futures", "/market/stream?streams=ethusdt@kline_1m", 100.0)
    assert len(closes(one.until(1_000))) == 3
    end_ms = OPEN_MS + 3 * MINUTE_MS + 3
    assert exchange.now_ms(1_000) == exchange.now_ms(10**6) == end_ms
    assert one.until(5_000) == []


def test_the_clock_leaps_over_what_is_in_no_file(tmp_path: Path) -> None:
    """A year between two files takes no longer than two seconds."""
    one = written(tmp_path / "spot", made_up_rows())
    later = [row.replace(str(OPEN_MS)[:5], "17672", 1) for row in made_up_rows(count=1)]
    other = written(tmp_path / "spot", later, "BTCUSDT-1m-2026-01-01.csv")
    replay = Replay.from_files([one, other])
    exchange = plain_exchange(replay=replay)
    peer = Peer(exchange, "spot", "/stream?streams=btcusdt@kline_1m")
    peer.gives_pongs = True
    assert len(closes(peer.until(5 * 60))) == 4
    assert len(replay.leaps) == 1


def test_who_comes_back_has_missed_what_was_sent(tmp_path: Path) -> None:
    """Nothing is sent again after a drop, as on real connections."""
    file = written(tmp_path / "spot", made_up_rows())
    drop = Drop(trade_type="spot", at_ms=OPEN_MS + 70_000)
    exchange = plain_exchange(drop, replay=Replay.from_files([file]))
    target = "/stream?streams=btcusdt@kline_1m"
    one = Peer(exchange, "spot", target)
    one.gives_pongs = True
    assert len(closes(one.until(100))) == 1
    assert one.session.close is not None
    exchange.disconnect(one.session, 100)
    session = exchange.connect("spot", target, 130.0)
    assert isinstance(session, Session)
    one.session, one.now_s = session, 130.0
    assert [kline["c"] for kline in closes(one.until(400))] == ["2.2"]


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    for pipe in (tmp_path / "spot.txt", tmp_path / "BTCUSDT-1m-2025-01-01.csv"):
        os.mkfifo(pipe)
        with pytest.raises(ValueError, match="cannot be replayed: it is no file"):
            Replay.from_files([pipe])


# -- bad files ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("spot/BTCUSDT-1m-2025-01-01.zip", b"no zip at all"),
        ("spot/BTCUSDT-1m-2025-01-01.csv.gz", b"no gzip at all"),
        ("spot/BTCUSDT-1m-2025-01-01.csv.gz", gzip.compress(b"1,2,3" * 100, mtime=0)[:-12]),
        ("spot/BTCUSDT-1m-2025-01-01.csv", b"1735689600000,1,2,3"),
        ("spot/BTCUSDT-1m-2025-01-01.csv", b"1735689600000,1,2,3,4,5,6,7,many,9,10,0"),
        ("spot/BTCUSDT-1m-2025-01-01.csv", b'1735689600000,"1,2,3,4,5,6,7,8,9,10,0'),
        ("spot/BTCUSDT-1m-2025-01-01.csv", b"\xff\xfe\x00"),
        ("spot/BTCUSDT-1m-2025-01-01.csv", b""),
        ("spot/BTCUSDT-1m-2025-01-01.csv", HEADER.encode()),
        ("spot/BTCUSDT-1m-2025-01-01.json", b'{"code":-1121}'),
        ("spot/BTCUSDT-1m-2025-01-01.json", b"[[1]]"),
        ("spot/BTCUSDT-7m-2025-01-01.csv", b"1735689600000,1,2,3,4,5,6,7,8,9,10,0"),
        ("elsewhere/BTCUSDT-1m-2025-01-01.csv", b"1735689600000,1,2,3,4,5,6,7,8,9,10,0"),
        ("spot/renamed.zip", b"PK\x03\x04\xff\xff"),
        ("spot/recorded.txt", b"hello\n"),
        ("spot/recorded.txt", b"[1]\n"),
        ("spot/recorded.txt", b'{"e":"kline","k":{"x":true}}\n'),
        ("spot/recorded.txt", b'{"result":null,"id":1}\n'),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    """Whatever is wrong with a file, one error says which it is."""
    file = tmp_path / name
    file.parent.mkdir()
    file.write_bytes(content)
    with pytest.raises(ValueError, match=str(file)):
        Replay.from_files([file])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """A file that is not there is the system's error, which has its name."""
    with pytest.raises(FileNotFoundError, match="BTCUSDT-1m"):
        Replay.from_files([tmp_path / "spot" / "BTCUSDT-1m-2025-01-01.zip"])


def test_no_files_are_nothing_to_replay() -> None:
    """A replay of nothing is refused."""
    with pytest.raises(ValueError, match="nothing to replay"):
        Replay.from_files([])
