"""Whether a path means a lake or a store. This loads neither pyarrow nor the packages of lakes."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from kline_trio.errors import ConfigError
from kline_trio.storage.names import folder_path

_EXTRA = ("botocore", "deltalake", "obstore")
_TABLES = ("candles", "accounts")
"""A lake has at least one of these tables."""


def lake_url(path: str | os.PathLike[str]) -> str | None:
    """Return the address of the lake that a path means; None: it means no lake.

    A text with `://` is the address of a lake. A folder is one if it has a lake's tables.
    """
    if isinstance(path, str) and "://" in path:
        return path
    try:
        folder = folder_path(path).absolute()
        is_lake = any((folder / name / "_delta_log").is_dir() for name in _TABLES)
    except (OSError, ValueError):
        # Whoever opens it as a store says what is wrong with it.
        return None
    return str(folder) if is_lake else None


@contextmanager
def lake_packages() -> Iterator[None]:
    """Name the extra, if a package that lakes need is not installed.

    Raises:
      ConfigError: the body needs such a package.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in _EXTRA:
            raise
        advice = "pip install 'kline-trio[lake]'"
        raise ConfigError([f"a lake needs the package {error.name}: {advice}"]) from error
