"""Words to values, errors to one line and a status."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kline_trio.commands import argument_types, cli, record, status
from kline_trio.config import Config
from kline_trio.errors import ConfigError, DiskError, StoreInUseError, UnavailableError
from kline_trio.storage.layout import Layout
from kline_trio.storage.simulated import simulated_store
from kline_trio.storage.store import Store
from tests.storage.support import LAYOUTS, child_environment, write_minutes

INSTALL = "kline_trio needs its packages: run  python -m pip install .  in its folder"
ROOT = Path(__file__).parents[2]
STREAMS = '[streams.spot]\n1m = ["BTCUSDT"]\n'


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (ConfigError(["one", "two"]), 2, "one\ntwo\n"),
        (ConfigError(["o\nne\x1b", "two"]), 2, "o\\nne\\x1b\ntwo\n"),
        (UnavailableError("HTTP 407 \x1b[31m\nforged"), 69, "HTTP 407 \\x1b[31m\\nforged\n"),
        (DiskError("/\udcff/\u202e: gone"), 74, "/\\udcff/\\u202e: gone\n"),
        (OSError("\x9b2J"), 70, "a bug in kline_trio: OSError: \\x9b2J at"),
        (StoreInUseError("in use by pid 7"), 75, "in use by pid 7\n"),
        (DiskError("/x: No space left"), 74, "/x: No space left\n"),
        (KeyboardInterrupt(), 130, ""),
        (ExceptionGroup("a", [ExceptionGroup("b", [DiskError("deep")])]), 74, "deep\n"),
        (ValueError("why"), 70, "a bug in kline_trio: ValueError: why at test_cli.py:"),
    ],
)
def test_each_error_has_its_status_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    status: int,
    words: str,
) -> None:
    def fail(_: object) -> None:
        raise error

    monkeypatch.setattr(cli, "_init", fail)
    assert cli.main(["init"]) == status
    told = capsys.readouterr().err
    assert told.startswith(words)
    assert "Traceback" not in told
    assert len(told.splitlines()) <= 2


@pytest.mark.parametrize(
    "text", ["0024-01-01", "0001-01-01T00:00+14:00", "9999-12-31T23:59-14:00", "1969-12-31"]
)
@pytest.mark.parametrize("option", ["--since", "--until", "--start"])
def test_a_time_that_no_candle_can_have_is_refused(
    capsys: pytest.CaptureFixture[str], text: str, option: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(["backfill", "recorder.toml", option, text])
    assert "is no time that a candle can have" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["status"], ["check"]])
def test_output_that_cannot_be_written_is_said_and_is_no_bug(
    tmp_path: Path, command: list[str]
) -> None:
    write_minutes(tmp_path / "data", 3, 1).close()
    if not Path("/dev/full").exists():
        pytest.skip("no full device here")
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "kline_trio", *command, tmp_path / "data"],
            env=child_environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert ended.stderr == "the output could not be written: No space left on device\n"
    assert ended.returncode == 74


def test_a_whole_traceback_cannot_steer_the_terminal_either(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: object) -> None:
        raise ValueError("\x1b[2J" + "x" * 9_000)

    monkeypatch.setattr(cli, "_run_with_config", fail)
    assert cli.main(["tail", "--debug", "recorder.toml"]) == 70
    lines = capsys.readouterr().err.splitlines()
    assert "Traceback" in lines[0]
    assert all(line.isprintable() for line in lines)
    assert len(lines[-1]) < 500


@pytest.mark.parametrize(
    ("text", "seconds"), [("20s", 20), ("5m", 300), ("1.5h", 5_400), ("2d", 172_800), ("7", 7)]
)
def test_durations(text: str, seconds: float) -> None:
    assert argument_types.duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-1s", "1w", "1e3", "nan"])
def test_what_is_no_duration_is_refused(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main([str(tmp_path / "recorder.toml"), f"--for={text}"])
    assert "is no duration, as 20s, 5m or 2h" in capsys.readouterr().err


def test_a_misspelt_command_is_guessed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(["tial"])
    assert "did you mean the command tail?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["recorder.toml", "--simulat"], "unknown option --simulat; did you mean --simulate?"),
        (["--simulat", "recorder.toml"], "unknown option --simulat; did you mean --simulate?"),
        (["tail", "recorder.toml", "--sped=5"], "unknown option --sped; did you mean --speed?"),
        (["status", "--min", "99.9"], "unknown option --min; "),
        (["check", "data", "--xyz"], "unknown option --xyz; python -m kline_trio check --help"),
        (
            ["status", "--jso", "--max-ag", "5m"],
            "unknown option --jso; did you mean --json?; unknown option --max-ag; did you mean",
        ),
        (["--versio"], "unknown option --versio; "),
        (["status", "data", "more"], "unexpected: more"),
        (["selftest", "-x"], "unexpected: -x"),
    ],
)
def test_options_are_not_abbreviated_and_the_nearest_one_is_named(
    words: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(words)
    assert f"error: {problem}" in capsys.readouterr().err


def test_words_after_two_dashes_are_no_options(tmp_path: Path) -> None:
    """As argparse has it."""
    assert cli.main(["init", "--", str(tmp_path / "--simulat")]) == 0


@pytest.mark.parametrize("called", ["kline-trio", "/home/you/.venv/bin/kline-trio"])
def test_usage_and_hints_name_the_command_that_was_called(
    called: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", [called])
    path = tmp_path / "recorder.toml"
    assert cli.main(["init", str(path)]) == 0
    assert capsys.readouterr().out == f"wrote {path}; now: kline-trio {path}\n"
    for words in (["--help"], ["status", "--help"]):
        with pytest.raises(SystemExit, match="0"):
            cli.main(words)
        assert capsys.readouterr().out.startswith("usage: kline-trio ")
    assert cli.main(["check", str(tmp_path), "--against", "rest"]) == 2
    assert "kline-trio check " in capsys.readouterr().err
    write_minutes(tmp_path / "data", 3, 0).close()
    with pytest.raises(ConfigError, match="swap the two: kline-trio relayout"):
        Store.open(tmp_path / "data", Layout(LAYOUTS[1]))


@pytest.mark.parametrize("against", ["rest", "archive"])
def test_a_comparison_says_that_it_needs_a_configuration(
    against: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_minutes(tmp_path / "data", 3, 0).close()
    for path in (tmp_path / "data", tmp_path / "data" / "spot_BTCUSDT_1m.pqt"):
        assert cli.main(["check", str(path), "--against", against]) == 2
        needs = f"--against {against} needs a recorder.toml, since it names series and endpoints"
        command = f"python -m kline_trio check recorder.toml --against {against}"
        assert capsys.readouterr().err == f"{path}: {needs}: {command}\n"


def test_the_hint_names_the_configuration_beside_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "my data" / "store").mkdir(parents=True)
    (tmp_path / "my data" / "recorder.toml").touch()
    monkeypatch.chdir(tmp_path)
    assert cli.main(["check", "my data/store", "--against", "rest"]) == 2
    assert "check 'my data/recorder.toml' --against rest" in capsys.readouterr().err
    assert cli.main(["check", "my data/store", "--simulate"]) == 2
    told = capsys.readouterr().err
    assert "--simulate needs a recorder.toml, since data-simulated lies beside it: " in told


@pytest.mark.parametrize("option", ["--speed=5", "--seed=0", "--start=2024-01-01", "--replay=x"])
def test_options_of_the_built_in_exchange_need_it_and_a_comparison(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "recorder.toml"
    path.write_text(STREAMS, encoding="utf-8")
    assert cli.main(["check", str(path), "--simulate", option]) == 2
    assert "is for comparing: add --against rest or archive" in capsys.readouterr().err
    assert cli.main(["check", str(path), "--against", "rest", option]) == 2
    assert "is for the built-in exchange: add --simulate" in capsys.readouterr().err


def test_a_simulated_store_that_is_not_there_is_no_bug(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "other.toml"
    path.write_text(STREAMS, encoding="utf-8")
    for words in ([], ["--against", "rest"]):
        assert cli.main(["check", str(path), "--simulate", *words]) == 2
        assert f"there is no store {tmp_path / 'data-simulated-other'}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("config", "folder"),
    [
        ("recorder.toml", "data-simulated"),
        ("other.toml", "data-simulated-other"),
        ("my.recorder.toml", "data-simulated-my.recorder"),
        ("recorder", "data-simulated-recorder"),
    ],
)
def test_each_configuration_has_a_simulated_store_of_its_own(
    config: str, folder: str, tmp_path: Path
) -> None:
    assert simulated_store(tmp_path / config) == tmp_path / folder


@pytest.mark.parametrize(
    ("name", "line"),
    [
        (
            "attrs",
            f"{INSTALL} (attrs is missing)",
        ),
        (
            "python_socks.async_.trio",
            f"{INSTALL} (python_socks is missing)",
        ),
        ("_sqlite3", "this Python was built without its module _sqlite3: use another one"),
    ],
)
def test_a_package_that_is_missing_is_no_bug(
    name: str, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: object) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(cli, "_init", fail)
    assert cli.main(["init"]) == 2
    assert capsys.readouterr().err == f"{line}\n"


def test_a_module_of_ours_that_is_missing_is_a_bug(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: object) -> None:
        raise ModuleNotFoundError("No module named 'kline_trio.x'", name="kline_trio.x")

    monkeypatch.setattr(cli, "_init", fail)
    assert cli.main(["init"]) == 70
    assert "a bug in kline_trio: ModuleNotFoundError" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["recorder.toml"],
        ["recorder.toml", "--check"],
        ["backfill", "recorder.toml", "--since", "2024-01-01"],
        ["status"],
        ["check", "data"],
        ["export", "data", "--csv", "-"],
        ["simulate"],
    ],
)
def test_without_installed_packages_one_line_says_how_to_install(
    words: list[str], tmp_path: Path
) -> None:
    """The option -S leaves out what is installed, as in an empty environment."""
    (tmp_path / "recorder.toml").write_text(STREAMS, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-S", "-m", "kline_trio", *words], capture_output=True, text=True,
        check=False, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith(INSTALL)
    assert len(done.stderr.splitlines()) == 1


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--version"])
    assert capsys.readouterr().out == "kline_trio 0.2.0\n"


@pytest.mark.parametrize(
    ("streams", "words"),
    [
        ('1m = ["A", "B"]', "good, 2 series"),
        ('1m = ["A"]\n3m = ["*"]', "good, 1 series, and what 1 list of patterns will match"),
        ('1m = ["*"]\n3m = ["B?"]', "good, 0 series, and what 2 lists of patterns will match"),
    ],
)
def test_check_counts_series_and_patterns(
    streams: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "recorder.toml"
    file.write_text(f"[streams.spot]\n{streams}\n")
    assert cli.main([str(file), "--check"]) == 0
    assert capsys.readouterr().out == f"{file}: {words}\n"


@pytest.mark.parametrize("text", ["", "-1", "101", "nan", "99 %"])
def test_what_is_no_percentage_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(["status", f"--min-complete={text}"])
    assert "is no percentage, as 99.9" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--since=2024-01-31", "--sample=5"])
def test_options_of_a_comparison_need_one(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """But --repair is for stores, too."""
    assert cli.main(["check", str(tmp_path), "--repair", option]) == 2
    assert "add --against rest or archive" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "the system gives no more memory"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "the system gives no more memory"),
        (pa.ArrowMemoryError("malloc of size 64 failed"), "the system gives no more memory"),
        (OSError(errno.EMFILE, "Too many open files"), "too many open files: allow more"),
        (OSError(errno.ENFILE, "Too many open files in system"), "too many open files"),
        (RuntimeError("can't start new thread"), "the system gives no more threads"),
    ],
)
@pytest.mark.parametrize("is_wrapped", [False, True])
def test_want_of_resources_is_no_bug(
    error: Exception,
    words: str,
    *,
    is_wrapped: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(_: object) -> int:
        raise ExceptionGroup("nursery", [error]) if is_wrapped else error

    monkeypatch.setattr(status, "status", fail)
    assert cli.main(["status", "."]) == 71
    told = capsys.readouterr().err
    assert told.startswith(words)
    assert "bug" not in told
    assert len(told.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "words", "whose"),
    [
        (STREAMS, ["--since", "2024-02-01", "--until", "2024-01-01"], "--since"),
        (STREAMS, ["--since", "2024-02-01", "--until", "2024-02-01"], "--since"),
        (STREAMS + '[history]\nsince = "2024-02-01"\n', ["--until", "2024-01-31"], "[history]"),
    ],
)
def test_a_backfill_that_ends_before_it_begins_is_refused(
    text: str, words: list[str], whose: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "recorder.toml"
    path.write_text(text, encoding="utf-8")
    assert cli.main(["backfill", str(path), *words]) == 2
    told = capsys.readouterr().err
    assert "--until is not after" in told
    assert whose in told
    assert not (tmp_path / "data").exists()


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[Config]:
    """The configurations that a recorder was started with; it ends at once."""
    found: list[Config] = []
    monkeypatch.setattr(record, "record", lambda config, _: found.append(config))
    return found


@pytest.mark.parametrize(
    ("words", "address"),
    [
        ([], "127.0.0.1:1"),
        (["--monitor"], "127.0.0.1:8787"),
        (["--monitor", "[::1]:9000"], "[::1]:9000"),
        (["--monitor=localhost:9000"], "localhost:9000"),
    ],
)
def test_the_monitor_of_the_command_line_comes_before_that_of_the_file(
    words: list[str], address: str, tmp_path: Path, recorded: list[Config]
) -> None:
    path = tmp_path / "recorder.toml"
    path.write_text(STREAMS + '[monitor]\naddress = "127.0.0.1:1"\n', encoding="utf-8")
    assert cli.main([str(path), *words]) == 0
    assert [one.monitor.address for one in recorded] == [address]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--monitor", "8787"], "argument --monitor: '8787' is no address such as 127.0.0.1:8787"),
        (["--monitor", "http://x"], "argument --monitor: 'http://x' is no address such as"),
        (["--monitor", "::1:8787"], "an IPv6 address is written in brackets, as [::1]:8787"),
        (["--monitor="], "argument --monitor: '' is no address such as"),
    ],
)
def test_a_wrong_address_of_the_monitor_is_refused_before_anything_starts(
    words: list[str],
    told: str,
    tmp_path: Path,
    recorded: list[Config],
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "recorder.toml"
    path.write_text(STREAMS, encoding="utf-8")
    with pytest.raises(SystemExit, match="2"):
        cli.main([str(path), *words])
    assert told in capsys.readouterr().err
    assert not recorded


def test_a_file_behind_monitor_is_not_taken_for_its_address(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(["--monitor", "recorder.toml"])
    assert "write the file first: recorder.toml --monitor" in capsys.readouterr().err


@pytest.mark.parametrize("check", [["--check"], []])
@pytest.mark.parametrize(
    ("monitor", "told"),
    [
        ("", ["name a token_file, or use 127.0.0.1", "or set insecure_http = true"]),
        ('token_file = "token"\n', ["name tls_cert and tls_key, or set insecure_http = true"]),
        ('token_file = "token"\ninsecure_http = true\n', []),
    ],
)
def test_a_public_address_of_the_command_line_obeys_the_same_rules(
    check: list[str],
    monitor: str,
    told: list[str],
    tmp_path: Path,
    recorded: list[Config],
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "recorder.toml"
    path.write_text(f"{STREAMS}[monitor]\n{monitor}", encoding="utf-8")
    status = cli.main([str(path), "--monitor", "0.0.0.0:8787", *check])
    err = capsys.readouterr().err
    assert status == (2 if told else 0)
    assert len(err.splitlines()) == len(told)
    for line, words in zip(err.splitlines(), told, strict=True):
        assert line.startswith("monitor.address: other machines can reach 0.0.0.0:8787: ")
        assert words in line
    assert len(recorded) == (not told and not check)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("sample", ["0", "-3", "1.5", "many"])
def test_a_sample_of_nothing_is_refused(sample: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(["check", "recorder.toml", "--against", "rest", f"--sample={sample}"])
    assert "is no number from 1 on" in capsys.readouterr().err


def test_every_path_of_the_command_line_expands_a_tilde(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cli.main(["init", "~/recorder.toml"]) == 0
    assert cli.main(["~/recorder.toml", "--check"]) == 0
    write_minutes(tmp_path / "data", 3, 0).close()
    assert cli.main(["status", "~/data"]) == 0
    assert cli.main(["check", "~/data", "--manifest=~/sums"]) == 0
    assert cli.main(["snapshot", "~/data", "~/copy"]) == 0
    assert cli.main(["merge", "~/data", "~/copy", "--into=~/both"]) == 0
    assert cli.main(["relayout", "~/both", "--layout", LAYOUTS[1], "--into=~/other"]) == 0
    found = {path.name for path in tmp_path.iterdir()}
    assert found == {"recorder.toml", "data", "sums", "copy", "both", "other"}
    with pytest.raises(SystemExit, match="2"):
        cli.main(["status", "~nobody-of-that-name/data"])
    assert "~nobody-of-that-name/data: " in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["check", "."],
        ["check", "recorder.toml", "--against", "rest"],
        ["status"],
        ["snapshot", "/", "here"],
        ["snapshot", "here"],
        ["merge", "/", "/", "--into", "here"],
        ["relayout", "/", "--layout", LAYOUTS[1], "--into", "here"],
        ["init"],
        ["recorder.toml"],
        ["backfill", "recorder.toml"],
    ],
)
def test_a_working_folder_that_was_deleted_is_no_bug(
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(SystemExit, match="2"):
        cli.main(words)
    assert "the working folder: No such file or directory; change to" in capsys.readouterr().err
    with pytest.raises(DiskError, match="No such file or directory"):
        Store.open(Path("data"), None)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--speed=1e308", "--speed 1e+308 is not between 0.001 and 1,000,000,000"),
        ("--speed=inf", "--speed inf is not between"),
        ("--speed=nan", "--speed nan is not between"),
        ("--speed=0", "--speed 0.0 is not between"),
    ],
)
def test_a_speed_without_candles_is_refused(
    option: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in (["recorder.toml", "--simulate"], ["simulate"]):
        assert cli.main([*command, option]) == 2
        assert capsys.readouterr().err.startswith(words)


@pytest.mark.parametrize("foreign", [False, True])
def test_a_folder_that_is_no_store_is_named_and_stays_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], *, foreign: bool
) -> None:
    folder, into = tmp_path / "folder", str(tmp_path / "into")
    folder.mkdir()
    if foreign:
        pq.write_table(pa.table({"a": [1]}), folder / "foreign.parquet")
    store = str(tmp_path / "store")
    write_minutes(tmp_path / "store", 3, 0).close()
    for words in (
        ["check", str(folder)],
        ["relayout", str(folder), "--layout", LAYOUTS[1], "--into", into],
        ["merge", store, str(folder), "--into", into],
    ):
        assert cli.main(words) == 2
        assert "there is no store" in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["foreign.parquet"] * foreign
    assert not (tmp_path / "into").exists()


def test_candle_files_alone_are_a_store(tmp_path: Path) -> None:
    write_minutes(tmp_path / "store", 3, 0).close()
    shutil.rmtree(tmp_path / "store" / ".kline_trio")
    assert cli.main(["check", str(tmp_path / "store")]) == 0
    words = ["relayout", str(tmp_path / "store"), "--layout", LAYOUTS[1]]
    assert cli.main([*words, "--into", str(tmp_path / "into")]) == 0


def test_a_manifest_waits_for_no_reader_of_a_pipe(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_minutes(tmp_path / "store", 3, 0).close()
    os.mkfifo(tmp_path / "pipe")
    words = ["check", str(tmp_path / "store"), "--manifest", str(tmp_path / "pipe")]
    assert cli.main(words) == 2
    assert "pipe: cannot be written: No such device or address" in capsys.readouterr().err
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    assert cli.main(words) == 0
    assert b"spot_BTCUSDT_1m.pqt" in os.read(reader, 1_000)
    os.close(reader)


def test_the_name_alone_says_what_to_type_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main([]) == 2
    assert " init writes a recorder.toml; " in capsys.readouterr().err
    (tmp_path / "recorder.toml").touch()
    assert cli.main([]) == 2
    assert " recorder.toml records; " in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [["status"], ["gaps"], ["check"], ["export", "--csv", "-"], ["snapshot"], ["relayout"]],
)
def test_a_store_that_is_not_there_is_not_the_made_up_one(
    words: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    made_up, store = tmp_path / "data-simulated", str(tmp_path / "data")
    rest = {
        "snapshot": [str(tmp_path / "copy")],
        "relayout": ["--layout", LAYOUTS[1], "--into", str(tmp_path / "copy")],
    }.get(words[0], [])
    for is_there in (False, True):
        assert cli.main([words[0], store, *words[1:], *rest]) == 2
        hint = f"{store}; made-up candles are in {made_up}\n"
        assert capsys.readouterr().err.endswith(hint if is_there else f"{store}\n")
        made_up.mkdir(exist_ok=True)
