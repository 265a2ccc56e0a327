"""Run a block of Python from the documentation: `python -m tests.docs.snippet KIND FILE`.

`body` runs it inside an async function, where `await` may stand; `within` runs it while a recorder
records, too. `session` runs the lines behind `>>>`, and compares their output loosely: without
numbers, and with one blank for several.
"""

import ast
import contextlib
import doctest
import inspect
import io
import re
import sys
from pathlib import Path
from typing import Any

import attrs
import trio

import kline_trio

CONFIG = "recorder.toml"


def names() -> dict[str, Any]:
    """Return what a block may use without saying where it comes from."""
    config = kline_trio.Config.from_toml(CONFIG)
    return {"kline_trio": kline_trio, "config": config, "another": attrs.evolve(config)}


async def run_body(source: str, given: dict[str, Any]) -> None:
    """Run a block that may await."""
    code = compile(source, "<block>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    result = eval(code, given)
    if inspect.isawaitable(result):
        await result


async def run_within(source: str, given: dict[str, Any]) -> None:
    """Run a block that uses `recorder`."""
    async with kline_trio.open_recorder(given["config"]) as recorder:
        await run_body(source, given | {"recorder": recorder})


def run_session(source: str, given: dict[str, Any]) -> None:
    """Run the examples of a block, and compare what they print."""
    examples = doctest.DocTestParser().get_examples(source)
    assert examples
    for example in examples:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(example.source, "<block>", "single"), given)
        if example.want and shape(example.want) != shape(printed.getvalue()):
            raise AssertionError(
                f"{example.source}is shown with\n{example.want}and printed\n{printed.getvalue()}"
            )


def shape(text: str) -> list[str]:
    """Return the lines of an output without its numbers, and with one blank for several."""
    without = re.sub(r"[-+]?\d[\d.,:e+-]*", "#", text)
    return [" ".join(line.split()) for line in without.strip().splitlines()]


def main(kind: str, path: str) -> None:
    """Run a block of a kind."""
    source = Path(path).read_text(encoding="utf-8")
    if kind == "session":
        run_session(source, names())
    else:
        trio.run(run_within if kind == "within" else run_body, source, names())


if __name__ == "__main__":
    main(*sys.argv[1:])
