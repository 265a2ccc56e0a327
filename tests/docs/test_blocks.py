"""Every block of README and docs runs, or carries the reason why it cannot run here."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
import tomli

from kline_trio.commands import cli
from tests.docs.blocks import (
    PAGES,
    ROOT,
    Block,
    blocks_of,
    commands_in,
    inline_code,
    inline_commands,
)
from tests.docs.rehearsal import Rehearsal

BLOCKS = [block for page in PAGES for block in blocks_of(page)]
RUN = [
    block
    for block in BLOCKS
    # Those of the README run in an environment that its first line makes: tests/test_readme.py.
    if block.language in ("sh", "python") and not block.reason and block.page != "README.md"
]
PAGES_THAT_RUN = sorted({block.page for block in RUN})
OPTIONS_OF_OTHERS = {
    # pytest, promtool, docker, podman, and the project's own tools.
    "--build-arg", "--cov-branch", "--days", "--format", "--health-cmd", "--quick", "--seeds",
    "--python", "--cov", "--log-opt", "--archive", "--only", "--streams", "--count", "--every",
    "--inputs",
}  # fmt: skip


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a simulated store."""
    folder = tmp_path_factory.mktemp("recorded")
    shutil.copy(ROOT / "recorder.toml", folder)
    words = ["-m", "kline_trio", "recorder.toml", "--simulate", "--for", "8s", "--quiet"]
    done = subprocess.run([sys.executable, *words], cwd=folder, check=False, timeout=120)
    assert done.returncode == 0
    return folder


@pytest.mark.parametrize("page", PAGES_THAT_RUN)
def test_the_blocks_of_a_page_run(page: str, recorded: Path, tmp_path: Path) -> None:
    rehearsal = Rehearsal.of(tmp_path, recorded)
    for block in RUN:
        if block.page == page:
            try:
                rehearsal.run(block)
            except AssertionError as error:
                pytest.fail(f"{block}: {error}")


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_block_is_well_formed(block: Block) -> None:
    match block.language:
        case "sh":
            done = subprocess.run(["bash", "-n", "-c", block.text], check=False)
            assert done.returncode == 0
            for words in commands_in(block.text):
                parse(words)
        case "python" if ">>>" not in block.text:
            compile(block.text, str(block), "exec", flags=0x2000)
        case "python":
            assert not block.reason
        case "toml":
            tomli.loads(block.text)  # tests/test_standard.py makes a configuration of it
        case "json":
            json.loads(block.text)
        case "js":
            node = shutil.which("node")
            if node is None:
                pytest.skip("there is no Node.js to check it")
            subprocess.run([node, "--check", "-"], input=block.text.encode(), check=True)
        case "" | "text":
            shown = re.findall(r"^\$ (.*)$", block.text, re.MULTILINE)
            for words in commands_in("\n".join(shown)):
                parse(words)
        case _:
            pytest.fail(f"{block}: nothing checks a block of {block.language!r}")


def parse(words: list[str]) -> None:
    """Parse the words of a call with the program's own parser, as `main` does."""
    if words[0] not in cli._COMMANDS and words[0] not in ("--help", "--version"):
        words = ["record", *words]
    try:
        cli._parser().parse_args(words)
    except SystemExit as end:
        assert end.code == 0, words  # noqa: PT017 - stderr says why


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_command_in_a_sentence_can_be_parsed(page: Path) -> None:
    for words in inline_commands(page):
        parse(words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_an_option_in_a_sentence_is_there(page: Path) -> None:
    known = set(OPTIONS_OF_OTHERS)
    for action in cli._parser()._actions:
        for parser in (action.choices or {}).values() if isinstance(action.choices, dict) else ():
            known |= {name for one in parser._actions for name in one.option_strings}
    for code in inline_code(page):
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", code):
            assert option in known, code


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_tool_of_the_repository_that_is_named_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"python -m ((?:tests|benchmarks)[\w.]*)", text):
        assert find_spec(name), name
    for name in re.findall(r"python -m benchmarks ([a-z_]+)", text):
        assert find_spec(f"benchmarks.{name}"), name


def test_the_blocks_that_do_not_run_are_counted(
    record_property: Callable[[str, object], None],
) -> None:
    """The end of the tests lists them."""
    marked = [block for block in BLOCKS if block.reason and block.page != "README.md"]
    for block in marked:
        record_property("cannot run here", f"{block}: {block.reason}")
    assert len(marked) < len(RUN)
