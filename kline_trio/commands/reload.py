"""The command `reload`: let the running recorder read its recorder.toml again."""

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kline_trio.commands.control import ask
from kline_trio.commands.output import show_problems
from kline_trio.config import Config
from kline_trio.errors import NotRunningError
from kline_trio.quoting import one_line
from kline_trio.storage.simulated import simulated_store

_RELOAD_SECONDS = 30.0
"""The recorder reads the file, and what it names, from a disk that may be busy."""


def reload(options: argparse.Namespace) -> int:
    """Let the recorder go on by recorder.toml as it is now, and print what differs.

    With `--dry-run`, only print. Return 1 if no recorder runs.

    Raises:
      ConfigError: the file has mistakes; nothing was changed.
      NoAnswerError: a recorder runs, and does not answer.
    """
    config = Config.from_toml(options.config)
    for store in (config.store.path, simulated_store(options.config)):
        try:
            answer = ask(store, _RELOAD_SECONDS, request="reload", dry_run=options.dry_run)
        except NotRunningError:
            continue
        for line in _lines(answer, options.config):
            print(one_line(line))
        return 0
    where = f"no recorder of {config.store.path} runs"
    return show_problems([f"{where}: nothing to reload; a start reads the file anyway"])


def _lines(answer: Mapping[str, Any], path: Path) -> Iterator[str]:
    if answer["file"] != str(path.absolute()):
        yield f"the recorder reads its own file, {answer['file']}"
    for change in answer["changes"]:
        yield f"{change['key']}: {change['old']} -> {change['new']}"
    if not answer["changes"]:
        yield "nothing differs"
    if answer["later"]:
        yield f"from the next start on: {', '.join(answer['later'])}"
    recorder = f"the recorder (pid {answer['pid']})"
    if answer["applied"]:
        yield f"{recorder} goes on by it"
    else:
        yield f"{recorder} was left as it is: --dry-run"
