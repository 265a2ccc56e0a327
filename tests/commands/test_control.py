"""Asking a recorder by its socket: the client, and the commands that are made of it."""

import json
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import attrs
import pytest

from kline_trio.commands import control, fetch
from kline_trio.commands.cli import main
from kline_trio.commands.control import answers, ask
from kline_trio.errors import ConfigError, NoAnswerError, NotRunningError
from kline_trio.monitor.as_json import observation_values
from kline_trio.monitor.control_place import bind_control_socket
from kline_trio.monitor.control_socket import line_of, socket_of
from kline_trio.monitor.health import Verdict
from kline_trio.storage.simulated import is_simulated, mark_as_simulated
from kline_trio.storage.store import Store
from tests.monitor.observations import late, market, statistics
from tests.storage.support import START_MS, minutes, open_store

Line = dict[str, Any]
GOOD = '[streams.spot]\n1m = ["BTCUSDT"]\n'


@attrs.define
class Socket:
    """A control socket whose answers are made up."""

    lines: list[Line | bytes] = attrs.field(factory=list)
    requests: list[Line] = attrs.field(factory=list)
    is_silent: bool = False
    is_rude: bool = False
    """It answers and leaves before it has read anything."""

    def serve(self, listening: socket.socket) -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with closing(connection):
                line = b"" if self.is_rude else connection.makefile("rb").readline()
                if not (line or self.is_rude):
                    continue
                self.requests += [json.loads(line)] if line else []
                if self.is_silent:
                    connection.recv(1)
                for one in self.lines:
                    connection.sendall(one if isinstance(one, bytes) else line_of(one))


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder with a short path: pytest's own can be too long for a socket."""
    with TemporaryDirectory(prefix="k-") as name:
        yield Path(name)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = open_store(tmp_path / "data")
    store.journal.accept(minutes(0, 5))
    yield store
    store.close()


@pytest.fixture
def recorder(store: Store) -> Iterator[Socket]:
    """A recorder of `data`, of which only the socket is there."""
    (store.path.parent / "recorder.toml").write_text(GOOD)
    bound, made = bind_control_socket(store.path, ()), Socket()
    thread = threading.Thread(target=made.serve, args=[bound.socket])
    thread.start()
    yield made
    bound.socket.shutdown(socket.SHUT_RDWR)
    thread.join()
    bound.close()


def answer(verdict: Verdict = Verdict.OK, *, is_simulated: bool = False, series: int = 0) -> Line:
    reason = {"code": "no_data", "verdict": str(verdict), "subject": "spot", "text": "spot: oh\x1b"}
    told = {
        "verdict": str(verdict),
        "ready": verdict is not Verdict.BAD,
        "simulated": is_simulated,
        "since_seconds": 45.0,
        "reasons": [] if verdict is Verdict.OK else [reason],
    }
    found = statistics(markets=(market(pending=3),), late=(late(),) * series)
    return {"answer": observation_values(found, told, (late(),) * series)}


def test_without_a_recorder_there_is_no_answer(tmp_path: Path, store: Store) -> None:
    for folder in (tmp_path, store.path, tmp_path / ("x" * 200)):
        with pytest.raises(NotRunningError, match="no recorder of"):
            ask(folder, request="statistics")
    bound = bind_control_socket(store.path, ())
    bound.socket.close()  # as a kill leaves it
    with pytest.raises(NotRunningError):
        ask(store.path, request="statistics")
    assert socket_of(store.path).exists()


def test_lines_come_one_by_one(store: Store, recorder: Socket) -> None:
    recorder.lines = [{"progress": {"filled": 1}}, {"answer": {"filled": 2}}]
    assert [*answers(store.path, request="fetch")] == recorder.lines
    assert recorder.requests == [{"request": "fetch"}]
    assert ask(store.path, request="fetch") == {"filled": 2}


@pytest.mark.parametrize(
    ("line", "error", "words"),
    [
        (b"hello\n", NoAnswerError, "no line of JSON"),
        (b"[1]\n", NoAnswerError, "no line of JSON"),
        (b"\xff\n", NoAnswerError, "no line of JSON"),
        (b"", NoAnswerError, "ended before it answered"),
        ({"error": "oh"}, NoAnswerError, "oh"),
        ({"error": "oh", "problems": ["a", "b"]}, ConfigError, "a\nb"),
    ],
)
def test_an_answer_that_is_none_is_told(
    line: Line | bytes, error: type[Exception], words: str, store: Store, recorder: Socket
) -> None:
    recorder.lines = [line]
    with pytest.raises(error, match=words):
        ask(store.path, request="reload")


def test_a_recorder_that_is_stuck_is_not_waited_for(store: Store, recorder: Socket) -> None:
    recorder.is_silent = True
    began = time.monotonic()
    with pytest.raises(NoAnswerError, match=r"no answer for 0.2 s"):
        ask(store.path, 0.2, request="statistics")
    assert time.monotonic() - began < 5


def test_a_refusal_that_comes_before_the_request_was_read_is_told(
    store: Store, recorder: Socket
) -> None:
    recorder.is_rude, recorder.lines = True, [{"error": "not for you"}]
    for _ in range(20):
        with pytest.raises(NoAnswerError, match="not for you"):
            ask(store.path, request="statistics")


def test_another_users_recorder_is_no_fault_of_the_store(
    store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its folder keeps others out; a researcher may read the candles all the same."""
    monkeypatch.setattr(control, "socket_of", lambda _: forbidden())
    store.journal.beat(os.getpid(), {"spot": START_MS}, 0)
    assert main(["status", str(store.path)]) == 0
    told = capsys.readouterr()
    assert "and answers its own user alone: this is read from the store alone" in told.out
    assert told.err == ""
    assert main(["status", str(store.path), "--live"]) == 1
    assert "can be asked by that user alone" in capsys.readouterr().err


def forbidden() -> Path:
    raise PermissionError


def test_who_does_not_own_the_store_is_not_taken_for_its_recorder(
    store: Store, recorder: Socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "peer_uid", lambda _: os.geteuid() + 1)
    with pytest.raises(NoAnswerError, match="who does not own the store"):
        ask(store.path, request="statistics")
    monkeypatch.undo()
    assert recorder.requests == []


def status(store: Store, *options: str) -> int:
    return main(["status", str(store.path), *options])


@pytest.mark.parametrize(
    ("verdict", "exit_status"), [(Verdict.OK, 0), (Verdict.DEGRADED, 0), (Verdict.BAD, 1)]
)
def test_the_verdict_decides_the_exit_status(
    verdict: Verdict,
    exit_status: int,
    store: Store,
    recorder: Socket,
    capsys: pytest.CaptureFixture[str],
) -> None:
    recorder.lines = [answer(verdict)]
    assert status(store, "--live") == exit_status
    assert status(store) == exit_status
    capsys.readouterr()
    assert status(store, "--live", "--quiet") == exit_status
    told = capsys.readouterr()
    assert told.out == ""
    # A health check keeps its output: why it failed.
    assert told.err == ("bad: spot: oh\\x1b\n" if exit_status else "")


def test_a_recorder_that_answers_stands_before_the_store(
    store: Store, recorder: Socket, capsys: pytest.CaptureFixture[str]
) -> None:
    recorder.lines = [answer(Verdict.BAD, is_simulated=True)]
    assert status(store) == 1
    assert capsys.readouterr().out.splitlines()[:6] == [
        "SIMULATED: the built-in exchange has made these candles up",
        "bad for 45 s: the recorder (pid 7) was asked; it runs for 8 min",
        "bad: spot: oh\\x1b",
        (
            "spot: 2 series, 1 connection that delivers, 20 candles received,"
            " 3 absent and asked for, last data 0 s ago"
        ),
        "store: 4 candles in the journal, 2 files, 84.0 GB free",
        (
            "1 series, last candle 2024-01-31 00:05:00;"
            " of the store, with what the recorder wrote last"
        ),
    ]


def test_the_live_view_names_the_worst_series_first_and_all_if_asked(
    store: Store, recorder: Socket, capsys: pytest.CaptureFixture[str]
) -> None:
    recorder.lines = [answer(series=23)]
    assert status(store, "--live") == 0
    *_, worst, more = capsys.readouterr().out.splitlines()
    assert worst == (
        "spot BTCUSDT-1m: last candle opened 2024-06-30 15:00:00,"
        " 3 candles absent and asked for since 6 min"
    )
    assert more == "and 3 more series that are late (--all shows them)"
    assert status(store, "--live", "--all") == 0
    assert capsys.readouterr().out.count("BTCUSDT-1m") == 23
    assert recorder.requests[-1]["series"]


def test_status_for_programs_says_whom_it_asked(
    store: Store, recorder: Socket, capsys: pytest.CaptureFixture[str]
) -> None:
    recorder.lines = [answer(is_simulated=True)]
    for options in ((), ("--live",)):
        assert status(store, "--json", *options) == 0
        told = json.loads(capsys.readouterr().out)
        assert (told["source"], told["verdict"], told["simulated"]) == ("recorder", "ok", True)
        assert told["statistics"]["process"]["uptime_seconds"] == 500.0


@pytest.mark.parametrize("options", [[], ["--live"], ["--live", "--json"]])
def test_a_recorder_that_gives_no_answer_is_not_healthy(
    options: list[str], store: Store, recorder: Socket, capsys: pytest.CaptureFixture[str]
) -> None:
    recorder.lines = [{"error": "a bug of the recorder"}]
    assert status(store, *options) == 1
    assert "a bug of the recorder" in capsys.readouterr().err


def test_no_recorder_is_3_of_a_configuration_1_of_a_health_check_and_0_of_a_store(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "recorder.toml"
    config.write_text(GOOD)
    assert main(["status", str(config)]) == 3
    assert "this is read from the store alone" in capsys.readouterr().out
    assert main(["status", str(config), "--live", "--quiet"]) == 1
    assert "no recorder of" in capsys.readouterr().err
    assert status(store) == 0
    # A fault of the store wins.
    (store.path / "spot_ETHUSDT_1m.pqt").write_bytes(b"junk")
    assert main(["status", str(config)]) == 1
    capsys.readouterr()
    assert main(["status", str(config), "--live", "--max-age", "5m"]) == 2
    assert "--max-age is measured in the store" in capsys.readouterr().err


def test_a_health_check_reads_a_file_with_a_mistake(
    store: Store, recorder: Socket, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The recorder runs on by the file as it was."""
    config = tmp_path / "recorder.toml"
    config.write_text('[streams.spot]\n1m = ["BTC USDT"]\n[store]\npath = "data"\n')
    recorder.lines = [answer()]
    assert main(["status", str(config), "--live", "--quiet"]) == 0
    for text in ("[store", "store = 1\n", "[store]\npath = 7\n"):
        config.write_text(text)
        assert main(["status", str(config), "--live", "--quiet"]) == 1
        assert "recorder.toml" in capsys.readouterr().err


def test_only_a_simulated_store_is_found_by_its_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, folder = tmp_path / "recorder.toml", tmp_path / "data-simulated"
    config.write_text(GOOD)
    open_store(folder).close()
    assert main(["status", str(config)]) == 3
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert first == f"{tmp_path / 'data'} is not there; this is {folder}, of --simulate"
    assert second.startswith("SIMULATED")
    assert main(["status", str(config), "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["simulated"]
    (tmp_path / "data").mkdir()
    assert main(["status", str(config)]) == 3
    assert "SIMULATED" not in capsys.readouterr().out


def test_the_mark_of_made_up_candles_outlives_another_name(tmp_path: Path) -> None:
    open_store(tmp_path / "data").close()
    assert not is_simulated(tmp_path / "data")
    mark_as_simulated(tmp_path / "data")
    (tmp_path / "data").rename(tmp_path / "other")
    assert is_simulated(tmp_path / "other")


def test_copies_of_made_up_candles_are_marked_too(tmp_path: Path) -> None:
    for name in ("data-simulated", "real"):
        store = open_store(tmp_path / name)
        store.journal.accept(minutes(0, 5))
        store.close()
    made = {name: str(tmp_path / name) for name in ("data-simulated", "real", "a", "b", "c")}
    layout = "{trade_type}/{symbol}/{time_interval}.pqt"
    assert main(["snapshot", made["data-simulated"], made["a"]]) == 0
    assert main(["merge", made["real"], made["a"], "--into", made["b"]]) == 0
    assert main(["relayout", made["real"], "--layout", layout, "--into", made["c"]]) == 0
    assert [is_simulated(Path(made[name])) for name in ("a", "b", "c")] == [True, True, False]


def test_watch_shows_it_again_until_ctrl_c(
    store: Store,
    recorder: Socket,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recorder.lines = [answer(Verdict.BAD)]
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", sleep)
    assert status(store, "--live", "--watch") == 1
    assert capsys.readouterr().out.count("was asked") == 3
    assert min(waits) >= 2
    # On a terminal it begins at the top, and fits.
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("LINES", "4")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    del waits[:]
    assert status(store, "--live", "--watch") == 1
    shown = capsys.readouterr().out.split("\033[H\033[J")[1:]
    assert [len(one.splitlines()) for one in shown] == [3] * 3
    assert max(len(line) for one in shown for line in one.splitlines()) == 40


def test_reload_prints_the_difference(
    recorder: Socket, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "recorder.toml"
    told = {
        "file": str(file),
        "pid": 7,
        "changes": [{"key": "connection.stall_seconds", "old": "30", "new": "20"}],
        "later": ["[store]"],
        "applied": True,
    }
    recorder.lines = [{"answer": told}]
    assert main(["reload", str(file)]) == 0
    assert recorder.requests[-1] == {"request": "reload", "dry_run": False}
    assert capsys.readouterr().out.splitlines() == [
        "connection.stall_seconds: 30 -> 20",
        "from the next start on: [store]",
        "the recorder (pid 7) goes on by it",
    ]
    told |= {"changes": [], "later": [], "applied": False, "file": "/other.toml"}
    assert main(["reload", str(file), "--dry-run"]) == 0
    assert recorder.requests[-1]["dry_run"]
    assert capsys.readouterr().out.splitlines() == [
        "the recorder reads its own file, /other.toml",
        "nothing differs",
        "the recorder (pid 7) was left as it is: --dry-run",
    ]


def test_reload_of_a_file_with_a_mistake_asks_nobody(
    recorder: Socket, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "recorder.toml").write_text(GOOD + "[store]\nmerge = 1\n")
    assert main(["reload", str(tmp_path / "recorder.toml")]) == 2
    assert "merge" in capsys.readouterr().err
    assert recorder.requests == []


def test_reload_without_a_recorder_or_without_its_answer(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    file = tmp_path / "recorder.toml"
    file.write_text(GOOD)
    assert main(["reload", str(file)]) == 1
    assert "nothing to reload" in capsys.readouterr().err
    recorder = request.getfixturevalue("recorder")
    recorder.lines = [{"error": "no"}]
    assert main(["reload", str(file)]) == 69
    assert capsys.readouterr().err == "no\n"


def progress(filled: int, silent_seconds: float = 0.0) -> Line:
    text = f"{filled} candles filled in, 5 still absent"
    found = {"filled": filled, "pending": 5, "silent_seconds": silent_seconds, "text": text}
    return {"progress": found}


@pytest.fixture
def backfill(tmp_path: Path) -> Callable[..., int]:
    return lambda *options: main(["backfill", str(tmp_path / "recorder.toml"), *options])


def test_backfill_beside_a_recorder_lets_that_one_fetch(
    recorder: Socket,
    backfill: Callable[..., int],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fetch, "_LOG_SECONDS", 0.0)
    done = {"answer": {"filled": 9, "pending": 0, "silent_seconds": 0.0, "text": ""}}
    recorder.lines = [progress(1), progress(4), done]
    assert backfill("--since", "2024-01-01") == 0
    assert recorder.requests == [{"request": "fetch", "since_ms": 1_704_067_200_000}]
    assert caplog.messages[2:] == [
        "backfill: 4 candles filled in, 5 still absent",
        "done: 9 candles filled in",
    ]


@pytest.mark.parametrize(
    ("lines", "options", "exit_status", "words"),
    [
        ([progress(1), progress(1, 601.0)], [], 69, "nothing could be asked for 10 minutes"),
        ([progress(1), progress(1, 601.0)], ["--wait"], 69, "the recorder ended"),
        ([progress(1)], [], 69, "the recorder ended; what it fetched stays"),
        ([{"error": "", "problems": ["--since has not come yet"]}], [], 2, "has not come yet"),
        ([{"error": "4 programs wait"}], [], 69, "4 programs wait"),
        ([answer()], ["--until", "2024-01-02"], 75, "leave out --until"),
    ],
)
def test_a_backfill_beside_a_recorder_that_comes_to_nothing_says_why(
    lines: list[Line | bytes],
    options: list[str],
    exit_status: int,
    words: str,
    recorder: Socket,
    backfill: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    recorder.lines = lines
    assert backfill(*options) == exit_status
    assert words in capsys.readouterr().err
    assert logging.getLogger("kline_trio").handlers == []


def test_ctrl_c_ends_the_wait_and_not_the_recorder(
    recorder: Socket,
    backfill: Callable[..., int],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(*_: object, **__: object) -> Iterator[Line]:
        yield progress(3)
        yield progress(4)
        raise KeyboardInterrupt

    monkeypatch.setattr(fetch, "answers", interrupted)
    assert backfill() == 130
    assert caplog.messages[-1] == "stopped waiting: 4 candles filled in; the recorder goes on"
