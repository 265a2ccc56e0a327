"""The option `--simulate`: which exchange is meant."""

import argparse
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kline_trio.config import Config


def exchange_of(
    config: "Config",
    options: argparse.Namespace,
    begin: "Callable[[Iterable[int]], int]" = min,
) -> "AbstractAsyncContextManager[Callable[[Config], Config]]":
    """Give a function that points a configuration to the exchange of `options`.

    With `--simulate`, serve the built-in exchange while the body runs; else change nothing.
    `begin` is that of `built_in_exchange`.
    """
    if not options.simulate:
        return nullcontext(lambda config: config)
    # Imported here: a recorder of the real exchange starts faster without it.
    from kline_trio.commands.simulate import built_in_exchange

    return built_in_exchange(config, options, begin)
