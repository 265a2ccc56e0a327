"""The option `--simulate`: which exchange is meant, and where its candles are kept."""

import argparse
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from kline_trio.config import Config

_FOLDER = "data-simulated"
_USUAL = "recorder.toml"


def simulated_store(config_path: Path) -> Path:
    """Return the folder beside a configuration that holds its made-up candles.

    This is `data-simulated` for recorder.toml, and `data-simulated-NAME` for NAME.toml: two
    configurations in one folder have two stores.

    Args:
      config_path: the path of the file, as the user gave it. A link is not followed.
    """
    name = config_path.name
    folder = _FOLDER if name == _USUAL else f"{_FOLDER}-{name.removesuffix('.toml')}"
    return config_path.absolute().parent / folder


def exchange_of(
    config: "Config", options: argparse.Namespace
) -> "AbstractAsyncContextManager[Callable[[Config], Config]]":
    """Give a function that points a configuration to the exchange of `options`.

    With `--simulate`, serve the built-in exchange while the body runs; else change nothing.
    """
    if not options.simulate:
        return nullcontext(lambda config: config)
    # Imported here: a recorder of the real exchange starts faster without it.
    from kline_trio.commands.simulate import built_in_exchange

    return built_in_exchange(config, options)
