"""The README is followed line by line, in a fresh clone and a fresh environment, by one shell."""

import doctest
import json
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest

from tests.documents import (
    Block,
    Command,
    Shell,
    blocks_of,
    commands_of,
    is_shown,
    newcomers_environment,
    parse_command,
)

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+/")
TYPED = """
import json, pathlib
names = {}
for source in json.loads(pathlib.Path(__file__).with_suffix(".json").read_text()):
    print(">>> ")
    exec(compile(source, "typed", "single"), names)
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone of what is here, with what is not committed yet."""
    source, place = tmp_path / "source", tmp_path / "kline_trio"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if listed.returncode:
        pytest.skip("a clone needs a repository: this folder is none")
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if path.is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes(path.read_bytes())
    git(source, "init", "-q")
    git(source, "add", "--all", "--force")
    git(source, "-c", "user.name=x", "-c", "user.email=x", "commit", "-q", "-m", "all")
    git(tmp_path, "clone", "-q", str(source), str(place))
    return place


def git(folder: Path, *words: str) -> None:
    subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, timeout=60)


def look_at_the_page(written: Callable[[], str]) -> None:
    """Wait until a program names the address of its page, and serves the page there."""
    deadline = time.monotonic() + 90
    while True:
        try:
            [url] = set(ADDRESS.findall(written()))
            with urlopen(url, timeout=60) as answer:
                assert answer.status == 200
                assert b"<html" in answer.read()
        except (OSError, ValueError) as error:
            if time.monotonic() > deadline:
                raise AssertionError(f"no page is served: {written()}") from error
            time.sleep(0.1)
        else:
            assert f"<{url}>" in README.read_text(encoding="utf-8")
            return


def is_free(url: str) -> bool:
    """Return whether nothing listens at an address."""
    address = urlsplit(url)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address.hostname, address.port))
        except OSError:
            return False
    return True


def run_block(shell: Shell, block: Block) -> Iterator[str]:
    """Run the commands of a block, and give the output of each."""
    for command in commands_of(block):
        done = shell.run(command, look_at_the_page)
        assert done.status == command.status, f"{block}: {command.line}\n{done.output}"
        yield done.output


def run_examples(shell: Shell, block: Block, folder: Path) -> None:
    """Run what is typed after `>>>`, and compare the lines that are shown.

    They run without the doctest module of the shell's Python, in one script.
    """
    examples = doctest.DocTestParser().get_examples(block.text)
    (folder / "typed.json").write_text(json.dumps([one.source for one in examples]))
    script = folder / "typed.py"
    script.write_text(TYPED, encoding="utf-8")
    # As an interpreter that was started there, it imports from the folder first.
    done = shell.run(Command(f"PYTHONPATH=$PWD:$PYTHONPATH python {script}"))
    assert done.status == 0, f"{block}: {done.output}"
    outputs = done.output.split(">>> ")[1:]
    for example, output in zip(examples, outputs, strict=True):
        for line in filter(str.strip, example.want.splitlines()):
            assert is_shown(line, output), f"{block}: {line!r} is not in {output}"


@pytest.mark.slow
def test_each_line_of_the_readme_works_as_typed(clone: Path, tmp_path: Path) -> None:
    """It takes about two minutes, most of them waiting, and downloads nothing."""
    for url in set(ADDRESS.findall(README.read_text(encoding="utf-8"))):
        if not is_free(url):
            pytest.skip(f"the README serves the page at {url}, where something else listens")
    output = ""
    environment = newcomers_environment(tmp_path / "newcomer")
    with Shell(clone, environment, tmp_path / "output") as shell:
        for block in blocks_of(clone / "README.md"):
            if block.reason is not None:
                continue
            if block.language == "sh":
                output += "".join(run_block(shell, block))
            elif block.language == "python":
                assert ">>>" in block.text, f"{block}: a program needs a test of its own"
                run_examples(shell, block, tmp_path)
            elif not block.language:
                for line in block.text.splitlines():
                    assert line == "..." or is_shown(line, output), f"{block}: {line}\n{output}"
        # The environment of the first line serves all others.
        where = shell.run(Command("command -v kline-trio"))
        assert where.output.strip() == str(clone / ".venv" / "bin" / "kline-trio")


def test_what_cannot_run_here_can_be_typed(
    record_property: Callable[[str, object], None],
) -> None:
    """Syntax, commands and options are checked; the blocks are counted at the end of the tests."""
    blocks = blocks_of(README)
    for block in blocks:
        if block.language == "sh":
            for command in commands_of(block):
                parse_command(command.line)
        elif block.language == "python" and ">>>" not in block.text:
            compile(block.text, str(block), "exec")
    left_out = [block for block in blocks if block.reason is not None]
    assert all(block.language in ("sh", "python") for block in left_out)
    for block in left_out:
        record_property("cannot run here", f"{block}: {block.reason}")


def test_nothing_but_blocks_is_to_be_typed_with_an_ellipsis() -> None:
    text = README.read_text(encoding="utf-8")
    assert "--layout ..." not in text
    assert "kline-trio[" not in text, "the package is not published: no index has it"
    assert "python -m kline_trio" not in text, "kline-trio is the documented command"
