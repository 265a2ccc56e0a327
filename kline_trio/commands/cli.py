"""The command line: parse it, check the options together, and call the command's function."""

import argparse
import os
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any

from kline_trio import __version__
from kline_trio.commands import argument_types as types
from kline_trio.commands.interrupts import raise_from_now_on
from kline_trio.commands.parser import Parser
from kline_trio.commands.process import exit_status, make_streams_safe
from kline_trio.counting import counted
from kline_trio.errors import ConfigError
from kline_trio.program import program_name

_COMMANDS = ["record", "backfill", "init", "tail", "simulate", "selftest", "check", "status"]
_COMMANDS += ["export", "snapshot", "merge", "relayout", "gaps", "doctor", "reload", "service"]
_COMMANDS += ["token", "serve", "publish", "prune", "restore", "compact", "vacuum"]
_EXCHANGE = ("speed", "seed", "start", "replay")
"""The options of the built-in exchange."""
_MODULES = {"tail": "record", "check_against": "verify"}
_MODULES |= {"status_live": "live", "check_lake": "lake_check"}
_MODULES |= dict.fromkeys(("compact", "vacuum", "lake_status"), "lake")
_MODULES |= dict.fromkeys(("check", "snapshot", "merge", "relayout"), "store")
"""The module of each function whose module has another name."""
_AddParser = Callable[..., argparse.ArgumentParser]

_MOST_SPEED = 1_000_000_000
_MONITOR = "127.0.0.1:8787"
_SERVE = "127.0.0.1:8788"
"""Another port than the monitor's: a recorder may run here."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return the exit status."""
    make_streams_safe()
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words and words[0] not in _COMMANDS and words[0] not in ("-h", "--help", "--version"):
        words.insert(0, "record")
    try:
        if not words:
            raise ConfigError([f"name a file or a command: {_first_words()}"])
        options = _parser().parse_args(words)
        status: int | None = options.run(options)
        # The interpreter's flush at its end would print a traceback on failure.
        sys.stdout.flush()
    except (Exception, KeyboardInterrupt, BaseExceptionGroup) as error:  # noqa: BLE001 - the end
        return exit_status(error, debug="--debug" in words)
    return status or 0


def _first_words() -> str:
    """Return what a user may want who has typed the program's name alone."""
    name = program_name()
    is_there = Path("recorder.toml").is_file()
    first = f"{name} recorder.toml records" if is_there else f"{name} init writes a recorder.toml"
    return f"{first}; {name} --help lists all"


def _config_path(text: str) -> Path:
    path = types.path(text)
    near = get_close_matches(text, _COMMANDS, n=1)
    if near and not path.exists() and path.suffix != ".toml":
        raise argparse.ArgumentTypeError(f"no file {text!r}; did you mean the command {near[0]}?")
    return path


_FLAG: Any = {"action": "store_true"}
_DATE: Any = {"type": types.moment_ms, "metavar": "DATE"}
_TIME: Any = {"dest": "seconds", "type": types.duration, "metavar": "20s"}
_FILE: Any = {"type": os.path.expanduser, "metavar": "FILE"}


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog=program_name(),
        description="Records the closed candlesticks of Binance spot and futures into Parquet.",
        epilog="Without a command: record.",
    )
    parser.add_argument("--version", action="version", version=f"kline_trio {__version__}")
    parser.set_defaults(run=_run_to_its_end)
    commands = parser.add_subparsers(required=True, metavar="command", dest="command")
    for add in (
        _add_recording,
        _add_doctor,
        _add_simulations,
        _add_check,
        _add_status,
        _add_serve,
        _add_export,
        _add_copies,
        _add_lake,
    ):
        add(commands.add_parser)
    _add_service(commands.add_parser)
    return parser


def _add_recording(add: _AddParser) -> None:
    record = add("record", help="record what recorder.toml names")
    backfill = add("backfill", help="fill gaps without recording, and end")
    init = add("init", help="write a commented recorder.toml")
    tail = add("tail", help="print closed candles as they come; stores nothing")
    for command in (record, backfill, tail):
        command.add_argument("config", type=_config_path, metavar="recorder.toml")
        command.set_defaults(run=_run_with_config)
    record.add_argument("--check", **_FLAG, help="check the file, and stop")
    what = "serve the page, metrics and health (default address: 127.0.0.1:8787)"
    address: Any = {"nargs": "?", "const": _MONITOR, "metavar": "ADDRESS", "type": types.address}
    record.add_argument("--monitor", **address, help=what)
    backfill.add_argument("--since", **_DATE, help="fetch from this time on, ISO 8601, UTC")
    backfill.add_argument("--until", **_DATE, help="fetch up to this time, ISO 8601, UTC")
    what = "go on, also after ten minutes without any answer"
    backfill.add_argument("--wait", **_FLAG, help=what)
    backfill.set_defaults(seconds=None)
    init.add_argument("config", type=types.path, nargs="?", default="recorder.toml")
    init.set_defaults(run=_init)
    what = "which candles have log lines of their own (default: all, if few close in a minute)"
    modes = ("always", "summary", "never")
    record.add_argument("--log-candles", choices=modes, default="auto", help=what)
    for command in (record, backfill):
        what = "log as text or as JSON, an object a line"
        command.add_argument("--log-format", choices=("text", "json"), default="text", help=what)
        command.add_argument("--quiet", **_FLAG, help="log warnings and errors only")
    for command in (record, tail):
        command.add_argument("--for", **_TIME, help="stop after this time")
    for command in (record, backfill, tail):
        _add_simulate(
            command, "record from the built-in exchange, into data-simulated beside the file"
        )


def _add_doctor(add: _AddParser) -> None:
    status = "Exit status: 0 if nothing is worse than a warning, 1 if there is an error, 2 if"
    doctor = add(
        "doctor",
        help="check configuration, network, exchange and disk; change nothing",
        epilog=f"{status} recorder.toml cannot be read. It ends within 40 s.",
    )
    doctor.add_argument("config", type=_config_path, metavar="recorder.toml")
    what = "for programs: an array of check, subject, verdict, message and advice"
    doctor.add_argument("--json", **_FLAG, help=what)


def _add_simulations(add: _AddParser) -> None:
    simulate = add("simulate", help="serve the built-in exchange alone")
    _add_exchange(simulate)
    simulate.add_argument("--for", **_TIME)
    simulate.set_defaults(run=_simulate)
    what = "record from a faulty built-in exchange for a minute, and check the store"
    selftest = add("selftest", help=what)
    selftest.add_argument(
        "--minutes", type=types.minutes, default=1.0, help="how long (default: 1)"
    )
    selftest.add_argument("--seed", type=int, default=1, help="of the faults and their times")


def _add_simulate(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--simulate", **_FLAG, help=what)
    _add_exchange(parser)


def _add_exchange(parser: argparse.ArgumentParser) -> None:
    built_in = parser.add_argument_group("the built-in exchange")
    built_in.add_argument("--speed", type=float, help="how fast its clock runs (default: 60)")
    built_in.add_argument("--seed", type=int, help="of its made-up prices")
    start = {**_DATE, "metavar": "TIME"}
    built_in.add_argument("--start", **start, help="where its clock starts, ISO 8601, UTC")
    what = "archive files, or recorded frames, instead of made-up candles"
    built_in.add_argument("--replay", nargs="+", **_FILE, help=what)
    parser.add_argument("--debug", **_FLAG, help="log more, and show whole tracebacks")


def _add_check(add: _AddParser) -> None:
    check = add("check", help="check a store, a folder, a file or a lake")
    what = (
        "a store, a folder, a file, the recorder.toml of a store, or a lake as s3://bucket/klines"
    )
    check.add_argument("path", type=types.place, help=what)
    what = "write SHA-256 sums of the candle files, for `sha256sum -c`"
    check.add_argument("--manifest", nargs="?", const="-", **_FILE, help=what)
    what = "compare the series of a recorder.toml or of a lake with the exchange's candles of now"
    check.add_argument("--against", choices=("rest", "archive"), help=what)
    check.add_argument("--since", **_DATE, help="compare from this time on")
    check.add_argument(
        "--sample", type=types.count, metavar="N", help="of about N candles a series"
    )
    what = "add missing gaps to the ledger; with --against, take the exchange's values"
    check.add_argument("--repair", **_FLAG, help=what)
    _add_simulate(check, "check data-simulated, and compare it with the built-in exchange")
    check.set_defaults(run=_check)


def _add_status(add: _AddParser) -> None:
    status = add("status", help="print how a recorder does, and how complete each series is")
    _add_store(status, types.place, ", or a lake")
    what = "of a lake: count what this store, or that of a recorder.toml, has not published yet"
    status.add_argument("--local", type=types.path, metavar="STORE", help=what)
    status.add_argument("--all", **_FLAG, help="print all series, and not the worst 20 alone")
    status.add_argument("--watch", **_FLAG, help="print it again each few seconds, until Ctrl-C")
    what = "ask the running recorder only, in a tenth of a second: exit 0 if it is healthy, else 1"
    status.add_argument("--live", **_FLAG, help=what)
    status.add_argument("--quiet", **_FLAG, help="print problems only")
    status.add_argument("--json", **_FLAG, help="for programs")
    what = "exit 1 if a last candle is further behind than this and its interval"
    status.add_argument("--max-age", type=types.duration, metavar="5m", help=what)
    what = "exit 1 if a series, or all together, have less than this percentage"
    status.add_argument("--min-complete", type=types.percent, metavar="99.9", help=what)
    status.set_defaults(run=_status)

    what = "list the candles that are or were absent, with reason, state and what filled them"
    gaps = add("gaps", help=what)
    _add_store(gaps)
    form = gaps.add_mutually_exclusive_group()
    form.add_argument("--csv", **_FLAG, help="as a table for other programs")
    form.add_argument("--json", **_FLAG, help="for programs")

    reload = add("reload", help="let the running recorder read its recorder.toml again")
    what = "the file of that recorder (default: recorder.toml)"
    reload.add_argument("config", type=_config_path, nargs="?", default="recorder.toml", help=what)
    reload.add_argument("--dry-run", **_FLAG, help="only print what would change")


def _add_serve(add: _AddParser) -> None:
    serve = add("serve", help="show a store on a web page, read only; no recorder has to run")
    _add_store(serve)
    what = f"where (default: {_SERVE})"
    serve.add_argument(
        "--address", type=types.address, default=_SERVE, metavar="ADDRESS", help=what
    )
    what = "a file with the token that readers must show; other machines than this one need it"
    serve.add_argument("--token-file", type=types.path, metavar="FILE", help=what)
    serve.add_argument("--for", **_TIME, help="stop after this time")
    serve.add_argument("--debug", **_FLAG, help="log more, and show whole tracebacks")
    serve.set_defaults(run=_serve)


def _add_export(add: _AddParser) -> None:
    export = add("export", help="write candles as CSV")
    what = "a store, the recorder.toml of one, or a lake as s3://bucket/klines"
    export.add_argument("store", type=types.place, metavar="STORE", help=what)
    export.add_argument("--csv", **_FILE, required=True, help="the file to write; - for stdout")
    _add_names(export)
    export.add_argument("--start", **_DATE, help="the first open time, ISO 8601, UTC")
    export.add_argument("--end", **_DATE, help="the end of the open times, exclusive")
    export.add_argument("--force", **_FLAG, help="replace the file if it is there")


def _add_names(parser: argparse.ArgumentParser) -> None:
    several: Any = {"nargs": "+", "action": "extend", "metavar": "NAME", "default": []}
    parser.add_argument("--market", **several, help="only these: spot usdt_futures coin_futures")
    parser.add_argument("--symbol", **several, help="only these, as BTCUSDT ETHUSDT")
    parser.add_argument("--interval", **several, help="only these, as 1m 1h")


def _add_copies(add: _AddParser) -> None:
    what = "copy a store as it is now, by hard links if the disk has them"
    snapshot = add("snapshot", help=what)
    _add_store(snapshot)
    snapshot.add_argument("into", type=types.path, metavar="DIR")

    merge = add("merge", help="merge two stores into a new one")
    merge.add_argument("stores", type=types.path, nargs=2, metavar="STORE")
    merge.add_argument("--layout", help="path template of its files (default: as theirs)")

    relayout = add("relayout", help="write a copy of a store in another layout")
    relayout.add_argument("stores", type=types.path, nargs=1, metavar="STORE")
    relayout.add_argument("--layout", required=True)
    for command in (merge, relayout):
        command.add_argument("--into", type=types.path, required=True, metavar="DIR")


def _add_lake(add: _AddParser) -> None:
    publish = add("publish", help="bring all candles of a store to its lake now, and end")
    publish.add_argument("config", type=_config_path, metavar="recorder.toml")
    what = "publish data-simulated, to the lake's address with -simulated behind it"
    publish.add_argument("--simulate", **_FLAG, help=what)
    what = "remove old months from a store, once they were read back from its lake"
    prune = add("prune", help=what)
    prune.add_argument("config", type=_config_path, metavar="recorder.toml")
    what = "read everything back, print what would be removed, and change nothing"
    prune.add_argument("--dry-run", **_FLAG, help=what)
    prune.add_argument("--simulate", **_FLAG, help="prune data-simulated")
    for command in (publish, prune):
        command.set_defaults(run=_run_with_config, seconds=None, speed=None)
        command.add_argument("--quiet", **_FLAG, help="log warnings and errors only")
        command.add_argument("--debug", **_FLAG, help="log more, and show whole tracebacks")

    compact = add("compact", help="rewrite a lake's candles into few sorted files")
    vacuum = add("vacuum", help="remove the files that no version of a lake needs any more")
    restore = add("restore", help="make a store of a lake, as on a new machine")
    for command in (compact, vacuum, restore):
        what = "s3://bucket/klines, a folder, or a recorder.toml with [lake]"
        command.add_argument("lake", type=types.place, metavar="LAKE", help=what)
        command.add_argument("--debug", **_FLAG, help="show whole tracebacks")
    what = "keep what was replaced for this time, of 24h at least (default: 7d)"
    vacuum.add_argument("--retention", type=types.duration, metavar="7d", help=what)
    vacuum.add_argument("--dry-run", **_FLAG, help="only print what would be removed")
    what = "the new store (default: that of the recorder.toml)"
    restore.add_argument("--into", type=types.path, metavar="DIR", help=what)
    what = "path template of its files (default: as the recorder.toml says)"
    restore.add_argument("--layout", help=what)
    _add_names(restore)
    restore.add_argument("--since", **_DATE, help="the first open time, ISO 8601, UTC")


def _add_service(add: _AddParser) -> None:
    service = add("service", help="print a unit for systemd that records what recorder.toml names")
    service.add_argument("config", type=_config_path, metavar="recorder.toml")
    service.add_argument("--launchd", **_FLAG, help="a property list for macOS instead")
    what = "for whom it runs (default: the owner of the store or the file)"
    service.add_argument("--user", metavar="NAME", help=what)

    token = add("token", help="write a random token for readers of the monitor into a new file")
    token.add_argument("file", type=types.path, metavar="FILE")


def _add_store(parser: argparse.ArgumentParser, kind: Any = types.path, more: str = "") -> None:  # noqa: ANN401
    what = f"a store, or the recorder.toml of one (default: recorder.toml){more}"
    parser.add_argument("store", type=kind, nargs="?", default="recorder.toml", help=what)


def _check_exchange(options: argparse.Namespace) -> None:
    """Refuse options of the built-in exchange without --simulate, and an impossible speed."""
    for name in _EXCHANGE:
        given = getattr(options, name, None) is not None
        if given and not getattr(options, "simulate", True):
            raise ConfigError([f"--{name} is for the built-in exchange: add --simulate"])
    if options.speed is not None and not 0.001 <= options.speed <= _MOST_SPEED:
        raise ConfigError([f"--speed {options.speed} is not between 0.001 and {_MOST_SPEED:,}"])


def _run_with_config(options: argparse.Namespace) -> None:
    """Run record, backfill or tail. Read the file before trio is loaded: `--check` is fast."""
    from kline_trio.config import Config

    _check_exchange(options)
    config = Config.from_toml(options.config)
    if options.command == "backfill":
        _check_period(config.history.since_ms, options)
    elif options.command == "record":
        config = config.with_monitor(options.monitor)
        if options.check:
            lists = len(config.patterns)
            named = counted(lists, "list of patterns", "lists of patterns")
            matches = f", and what {named} will match"
            found = f"{len(config.streams):,} series{matches if lists else ''}"
            print(f"{options.config}: good, {found}")
            return
        # SIGHUP must not end the process before `record` handles it, half a second later.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    _loaded(options.command)(config, options)


def _check_period(since_ms: int | None, options: argparse.Namespace) -> None:
    since_ms = since_ms if options.since is None else options.since
    if None not in (since_ms, options.until) and options.until <= since_ms:
        whose = "--since" if options.since is not None else "the since of [history]"
        raise ConfigError([f"--until is not after {whose}: there is nothing to fetch"])


def _serve(options: argparse.Namespace) -> None:
    _loaded("serve")(options)


def _simulate(options: argparse.Namespace) -> None:
    _check_exchange(options)
    _loaded("simulate")(options)


def _check(options: argparse.Namespace) -> int | None:
    for name in ("since", "sample", *_EXCHANGE):
        if getattr(options, name) is not None and not options.against:
            raise ConfigError([f"--{name} is for comparing: add --against rest or archive"])
    _check_exchange(options)
    from kline_trio.reading.address import lake_url

    if (url := lake_url(options.path)) is not None:
        check_lake = _loaded("check_lake")
        raise_from_now_on()
        return check_lake(url, options)
    options.config = options.path
    if options.simulate:
        _require_config(options, "--simulate", "data-simulated lies beside it")
    if not options.against:
        return _run_to_its_end(options)
    _require_config(options, f"--against {options.against}", "it names series and endpoints")
    from kline_trio.config import Config

    check_against = _loaded("check_against")
    raise_from_now_on()
    return check_against(Config.from_toml(options.path), options)


def _status(options: argparse.Namespace) -> int | None:
    from kline_trio.reading.address import lake_url

    if lake_url(options.store) is not None:
        for name in ("all", "watch", "live", "max-age", "min-complete"):
            if getattr(options, name.replace("-", "_")) not in (None, False):
                raise ConfigError([f"--{name} is about a store, and {options.store} is a lake"])
        return _loaded("lake_status")(options)
    for name in ("max_age", "min_complete"):
        if options.live and getattr(options, name) is not None:
            option = name.replace("_", "-")
            raise ConfigError([f"--{option} is measured in the store: leave out --live"])
    function = _loaded("status_live" if options.live else "status")
    raise_from_now_on()
    return function(options)


def _require_config(options: argparse.Namespace, option: str, why: str) -> None:
    """Refuse a store or a candle file where a recorder.toml is needed."""
    path: Path = options.path
    if not path.is_dir() and path.suffix not in (".pqt", ".parquet"):
        return
    # A store mostly lies beside its configuration.
    beside = path.absolute().parent / "recorder.toml"
    config = shlex.quote(os.path.relpath(beside) if beside.is_file() else "recorder.toml")
    command = f"{program_name()} check {config} {option}"
    raise ConfigError([f"{path}: {option} needs a recorder.toml, since {why}: {command}"])


def _run_to_its_end(options: argparse.Namespace) -> int | None:
    """Run a command without signal handlers: Ctrl-C interrupts it anywhere."""
    function = _loaded(options.command)
    raise_from_now_on()
    return function(options)


def _loaded(name: str) -> Callable[..., int | None]:
    """Import the function of a command only now: `--help` is fast."""
    module = import_module(f"kline_trio.commands.{_MODULES.get(name, name)}")
    function: Callable[..., int | None] = getattr(module, name)
    return function


def _init(options: argparse.Namespace) -> None:
    from importlib.resources import files

    raise_from_now_on()
    text = files("kline_trio").joinpath("recorder.toml").read_bytes()
    try:
        with options.config.open("xb") as file:
            file.write(text)
    except FileExistsError:
        now = f"now: {program_name()} {options.config}"
        raise ConfigError(
            [f"{options.config} is there already; it stays as it is; {now}"]
        ) from None
    except OSError as error:
        raise ConfigError([f"{options.config}: cannot be written: {error.strerror}"]) from None
    print(f"wrote {options.config}; now: {program_name()} {options.config}")
