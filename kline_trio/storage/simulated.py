"""The mark of a store whose candles are those of the built-in exchange. It loads no other part."""

from collections.abc import Iterable
from pathlib import Path

from kline_trio.storage.paths import simulated_mark_path

_NAME = "data-simulated"
_USUAL = "recorder.toml"


def simulated_store(config_path: Path) -> Path:
    """Return the folder beside a configuration that holds its made-up candles.

    This is `data-simulated` for recorder.toml, and `data-simulated-NAME` for NAME.toml: two
    configurations in one folder have two stores.

    Args:
      config_path: the path of the file, as the user gave it. A link is not followed.
    """
    name = config_path.name
    folder = _NAME if name == _USUAL else f"{_NAME}-{name.removesuffix('.toml')}"
    return config_path.absolute().parent / folder


def simulated_hint(store_path: Path) -> str:
    """Return words for a message that there is no such store: where the made-up candles are.

    Nothing if there are none beside it, where `--simulate` puts them.
    """
    made_up = store_path.absolute().parent / _NAME
    is_there = not store_path.is_dir() and made_up.is_dir()
    return f"; made-up candles are in {made_up}" if is_there else ""


def mark_as_simulated(store_path: Path) -> None:
    """Mark a store as one of made-up candles.

    Raises:
      OSError: the disk refused.
    """
    simulated_mark_path(store_path).touch()


def is_simulated(store_path: Path) -> bool:
    """Return whether a store has made-up candles, by its mark; in earlier versions, by its name."""
    return store_path.absolute().name == _NAME or simulated_mark_path(store_path).exists()


def mark_copy(stores: Iterable[Path], copy: Path) -> None:
    """Mark a store that is made of others, if one of them has made-up candles.

    Raises:
      OSError: the disk refused.
    """
    if any(map(is_simulated, stores)):
        mark_as_simulated(copy)
