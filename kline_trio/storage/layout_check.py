"""Whether a store's files are laid out as the configuration wants them."""

import shlex
from pathlib import Path, PurePosixPath

from kline_trio.errors import ConfigError
from kline_trio.storage.catalog import candle_files, log_damage, open_files
from kline_trio.storage.files import bounds_ms
from kline_trio.storage.journal.writer import Journal
from kline_trio.storage.layout import Layout
from kline_trio.storage.names import text_of
from kline_trio.storage.table import BEGIN

__all__ = ["settle_layout"]


def settle_layout(store_path: Path, layout: Layout, journal: Journal) -> None:
    """Refuse a layout that is not the store's; keep it where the store does not know any yet.

    A damaged file has no say, and is named in the log.

    Raises:
      ConfigError: the store's files are laid out in another way.
      OSError: the disk refused.
      sqlite3.Error: it was not kept.
    """
    known = journal.layout()
    if known is None:
        for path, owner, file in open_files(candle_files(store_path), log_damage):
            if file.num_row_groups:
                first_ms, _ = bounds_ms(file, 0, BEGIN)
                place = PurePosixPath(path.relative_to(store_path))
                if layout.path(owner, first_ms) != place:
                    raise _other_layout(store_path, f"has a file {text_of(place)}", layout)
        journal.remember_layout(layout.template)
    elif known != layout.template:
        raise _other_layout(store_path, f"is laid out as {known!r}", layout)


def _other_layout(store_path: Path, how: str, layout: Layout) -> ConfigError:
    into = store_path.with_name(f"{store_path.name}-relayout")
    command = shlex.join(
        ["relayout", str(store_path), "--layout", layout.template, "--into", str(into)]
    )
    problem = (
        f"{store_path} {how}, which is not {layout.template!r}. Change the layout back, or"
        f" write the store anew and swap the two: python -m kline_trio {command}"
    )
    return ConfigError([problem])
