"""What CONTRIBUTING.md and the README promise of the code itself."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import tomli

import kline_trio
from kline_trio.commands.cli import main
from kline_trio.config import Config

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "kline_trio"
MODULES = sorted(PACKAGE.rglob("*.py"))

VOCABULARY = {
    "candle", "counting", "duration", "errors", "interval", "listing", "program", "quoting",
    "selection", "sharding", "spans",
}  # fmt: skip
MAY_IMPORT: dict[str, set[str]] = {
    "candle": {"errors", "interval"},
    "counting": set(),
    "errors": set(),
    "duration": set(),
    "interval": set(),
    "listing": {"candle"},
    "program": set(),
    "quoting": set(),
    "selection": {"candle", "interval", "listing"},
    "sharding": set(),
    "spans": {"interval"},
    "exchange": VOCABULARY,
    "storage": VOCABULARY,
    "simulator": set(),
    "config": {*VOCABULARY, "exchange", "storage"},
    "lake": {*VOCABULARY, "config", "storage"},
    "reading": {*VOCABULARY, "lake", "storage"},
    "symbols": {*VOCABULARY, "exchange"},
    "recorder": {*VOCABULARY, "exchange", "storage", "config", "symbols"},
    "monitor": {*VOCABULARY, "config", "exchange", "recorder", "storage"},
    "commands": {
        *VOCABULARY, "config", "exchange", "lake", "monitor", "reading", "recorder", "simulator",
        "storage", "symbols",
    },
    "__main__": {"commands"},
    "__init__": {*VOCABULARY, "config", "reading", "recorder", "storage"},
}  # fmt: skip
"""The rooms each room may look into, besides itself: always downwards."""


def room(module: Path) -> str:
    return module.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(module: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            head, _, rest = name.partition(".")
            if head == "kline_trio" and not rest.startswith("__"):
                found.add(rest.split(".")[0])
    return found - {room(module)}


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_downwards(module: Path) -> None:
    assert imported_rooms(module) <= MAY_IMPORT[room(module)]


def test_storage_knows_no_network_and_no_trio() -> None:
    for module in (PACKAGE / "storage").rglob("*.py"):
        text = module.read_text(encoding="utf-8")
        assert not re.search(r"^\s*(import|from) (trio|httpx2|wsproto)", text, re.MULTILINE), module


def test_contributing_and_its_drawing_name_modules_that_are_there() -> None:
    contributing = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:\w+/)*\w+\.py)`", contributing))
    assert len(named) > 10
    drawing = (ROOT / "docs" / "candle.d2").read_text(encoding="utf-8")
    rooms = re.findall(r'"((?:exchange|recorder|storage)/[\w/]+)((?:, \w+)*)', drawing)
    assert len(rooms) > 8
    for first, others in rooms:
        wing = first.rsplit("/", 1)[0]
        named |= {first, *(f"{wing}/{other}" for other in others.split(", ")[1:])}
    for name in sorted(named):
        module = PACKAGE / name.removesuffix(".py")
        assert module.is_dir() or module.with_suffix(".py").exists() or (ROOT / name).exists(), name


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_fits_a_mind(module: Path) -> None:
    assert len(module.read_text(encoding="utf-8").splitlines()) <= 500


def test_nurseries_have_three_homes() -> None:
    homes = {
        str(module.relative_to(PACKAGE))
        for module in MODULES
        if room(module) != "simulator" and "open_nursery(" in module.read_text(encoding="utf-8")
    }
    # In the place of the supervisor.
    names = ("backfill", "doctor", "publish", "record", "serve")
    commands = {f"commands/{name}.py" for name in names}
    recorder = {"recorder/supervisor.py", "recorder/listener.py", "exchange/connection.py"}
    # The monitor's jobs are beside the recorder's: none of them can end it. And a command's pipes,
    # and the reader of a stream, whose end is noticed while nothing is sent.
    monitor = {"monitor/service.py", "monitor/alerts.py", "monitor/http_stream.py"}
    assert homes == recorder | commands | monitor


def test_the_names_of_the_package() -> None:
    assert kline_trio.__all__ == [
        "Candle",
        "Config",
        "ConfigError",
        "DiskError",
        "Filled",
        "KlineTrioError",
        "ReceivedCandle",
        "Series",
        "Source",
        "StoreInUseError",
        "coverage",
        "open_recorder",
        "read",
        "revisions",
        "series",
        "universe",
    ]
    for name in kline_trio.__all__:
        assert getattr(kline_trio, name).__name__ == name
    assert set(kline_trio.__all__) <= set(dir(kline_trio))
    with pytest.raises(AttributeError, match="no attribute 'write'"):
        getattr(kline_trio, "write")  # noqa: B009 - mypy knows that it is not there


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_module_says_what_it_is_for(module: Path) -> None:
    tree = ast.parse(module.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree) or not tree.body


def printed_last(code: str, folder: Path = ROOT) -> str:
    """What a fresh interpreter that runs the code, in a folder, prints at its end."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def test_help_loads_neither_pandas_nor_pyarrow() -> None:
    code = (
        "import sys\n"
        "from kline_trio.commands.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "print([name for name in ('pandas', 'pyarrow', 'trio', 'httpx2') if name in sys.modules])"
    )
    assert printed_last(code) == "[]"


def test_a_recorder_never_loads_pandas(tmp_path: Path) -> None:
    """Half a second of CPU and 40 MB, for months."""
    (tmp_path / "recorder.toml").write_text('[streams.spot]\n1m = ["BTCUSDT"]\n')
    code = (
        "import sys\n"
        "from kline_trio.commands.cli import main\n"
        "assert main(['recorder.toml', '--simulate', '--for', '3s']) == 0\n"
        "print('pandas' in sys.modules)"
    )
    assert printed_last(code, tmp_path) == "False"
    assert (tmp_path / "data-simulated" / ".kline_trio" / "journal.sqlite").exists()


@pytest.mark.parametrize("lake", ["", '[lake]\nurl = "lake"\npublish_seconds = 1\n'])
def test_a_recorder_never_loads_the_packages_of_lakes(tmp_path: Path, lake: str) -> None:
    """With a lake, the process that publishes loads them: 100 MB, and their threads."""
    project = tomli.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extra = [re.split(r"[><=]", one)[0] for one in project["optional-dependencies"]["lake"]]
    assert "deltalake" in extra
    (tmp_path / "recorder.toml").write_text('[streams.spot]\n1m = ["BTCUSDT"]\n' + lake)
    code = (
        "import sys\n"
        "from kline_trio.commands.cli import main\n"
        "assert main(['recorder.toml', '--simulate', '--for', '8s']) == 0\n"
        f"names = {(*extra, 'arro3', 'boto3', 'kline_trio.lake')!r}\n"
        "print([name for name in sys.modules if name.startswith(names)])"
    )
    assert printed_last(code, tmp_path) == "[]"
    assert (tmp_path / "lake-simulated" / "candles").exists() is bool(lake)


def test_rows_of_archives_never_load_pandas() -> None:
    """Nor does an archive without any: a recorder fetches the past too."""
    code = (
        "import sys\n"
        "from kline_trio.candle import Series\n"
        "from kline_trio.interval import Span\n"
        "from kline_trio.storage import archive_rows, table\n"
        "series, day = Series('spot', 'BTCUSDT', '1m'), Span(0, 86_400_000)\n"
        "row = b'0,1,1,1,1,1,59999,1,1,1,1,0\\n'\n"
        "assert archive_rows.read_csv(row, series, day).table.num_rows == 1\n"
        "empty = archive_rows.read_csv(b'', series, day).table\n"
        "begins = table.values_of(empty['candle_begin_time'])\n"
        "assert list(table.runs_of(series, begins)) == []\n"
        "print('pandas' in sys.modules)"
    )
    assert printed_last(code) == "False"


def blocks(page: Path, language: str) -> list[str]:
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def test_the_readme_has_two_commands_that_do_all() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    run, test = re.findall(r"^python3 -m venv .*$", text, re.MULTILINE)
    assert run.endswith(" && kline-trio recorder.toml --simulate --for 20s")
    assert test.endswith(" && pytest -q")
    for command in (run, test):
        assert command.startswith("python3 -m venv .venv && . .venv/bin/activate && pip install ")


def test_the_readmes_commands_exist(capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    words = set(re.findall(r"kline-trio ([a-z]+)\b(?!\.toml)", text))
    assert {"status", "serve", "check", "gaps", "export", "snapshot", "service", "init"} <= words
    helps = ""
    for word in ("record", *words):
        with pytest.raises(SystemExit) as end:
            main([word, "--help"])
        assert end.value.code == 0, word
        helps += capsys.readouterr().out
    for option in set(re.findall(r"`(--[a-z]+)", text)) | {"--for", "--check"}:
        assert option in helps


def test_recorder_toml_shows_the_defaults(tmp_path: Path) -> None:
    shown = (ROOT / "recorder.toml").read_text(encoding="utf-8")
    theirs = Config.from_text(shown, name="recorder.toml", folder=tmp_path)
    [streams, _] = shown.split("# All that follows")
    assert theirs == Config.from_text(streams, name="recorder.toml", folder=tmp_path)


CONFIGURATIONS = [
    pytest.param(block, id=f"{page.name}, {number}")
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    for number, block in enumerate(blocks(page, "toml"), 1)
]


@pytest.mark.parametrize("block", CONFIGURATIONS)
def test_a_configuration_that_is_shown_can_be_used(tmp_path: Path, block: str) -> None:
    """As it stands; one that is only about something else, below the least of streams."""
    file = tmp_path / "recorder.toml"
    streams = "" if "[streams." in block else '[streams.spot]\n1m = ["BTCUSDT"]\n\n'
    file.write_text(streams + block, encoding="utf-8")
    config = Config.from_toml(file)
    assert config.streams or config.patterns


def test_init_writes_the_recorder_toml_of_the_repository() -> None:
    assert (PACKAGE / "recorder.toml").read_bytes() == (ROOT / "recorder.toml").read_bytes()


def test_links_lead_somewhere() -> None:
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        text = page.read_text(encoding="utf-8")
        for link in re.findall(r'(?:\]\(|\b(?:src|srcset)=")([^)#"]+)', text):
            assert link.startswith("https://") or (page.parent / link).exists(), (page, link)


def test_every_dependency_is_used_and_explained() -> None:
    project = tomli.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    text = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    code = "".join(module.read_text(encoding="utf-8") for module in MODULES)
    for requirement in project["dependencies"]:
        name = re.split(r"[><=]", requirement)[0]
        assert re.search(rf"^\|[^|]*\b{name}\b[^|]*\|", text, re.MULTILINE), name
        assert re.search(rf"(import|from) {name.replace('-', '_')}\b", code), name


def test_no_path_of_a_machine_is_in_the_project() -> None:
    listed = subprocess.run(
        ["git", "ls-files"], capture_output=True, text=True, check=False, cwd=ROOT
    ).stdout.split("\n")
    for name in filter(None, listed):
        if (ROOT / name).is_file():
            assert b"/".join((b"", b"work", b"")) not in (ROOT / name).read_bytes(), name
