"""Examine a lake for `doctor`: whether it can be reached, written, and trusted."""

import time
from collections.abc import Callable
from pathlib import Path

import attrs
import obstore

from kline_trio.config.lake import LakeConfig
from kline_trio.errors import ConfigError, DiskError
from kline_trio.lake.errors import ForeignLakeError, LakeDeniedError, LakeError, lake_errors
from kline_trio.lake.location import INTERNAL, Location
from kline_trio.lake.objects import Objects
from kline_trio.lake.proof import prove
from kline_trio.lake.schema import TABLES
from kline_trio.lake.tables import open_table
from kline_trio.lake.vacuum import clock_error_seconds
from kline_trio.storage.disk import refuse_network_disk


@attrs.frozen(kw_only=True)
class LakeReport:
    """What was found out about a lake. The first problem ends the examination."""

    url: str
    is_new_folder: bool = False
    """Whether the lake is a folder that is not there yet; nothing else is found out then."""
    unconfigured: str | None = None
    """Why the settings, or the folder's disk, cannot be used."""
    no_credentials: str | None = None
    """Why there are none, or why they are refused."""
    unreachable: str | None = None
    unwritable: str | None = None
    """Why nothing can be written."""
    unsafe: str | None = None
    """Why conditional writes cannot be trusted."""
    clock_error_seconds: float | None = None
    """How far this machine's clock is ahead of the object store's; None: not known."""
    tables: tuple[str, ...] = ()
    """The names of the tables that are there and can be used."""
    wrong_tables: tuple[str, ...] = ()
    """Why the others cannot."""
    foreign: tuple[str, ...] = ()
    """What else is at the lake's address."""


def inspect_lake(lake: LakeConfig, clock: Callable[[], float] = time.time) -> LakeReport:
    """Return what can be found out about the lake of a configuration.

    Scratch objects are written and removed, unless the lake is a folder that is not there yet, or
    holds tables of others. It takes as long as the object store does.

    Args:
      lake: the section; it has a url.
      clock: this machine's, in seconds since 1970.
    """
    report = LakeReport(url=str(lake.url))
    try:
        location = Location.from_config(lake)
        if location.is_folder and not (folder := Path(location.url)).exists():
            refuse_network_disk(folder)
            return attrs.evolve(report, url=location.url, is_new_folder=True)
        objects = Objects.of(location)
        report = _with_content(attrs.evolve(report, url=location.url), location)
    except (ConfigError, DiskError) as error:
        return attrs.evolve(report, unconfigured=str(error))
    except LakeDeniedError as error:
        return attrs.evolve(report, no_credentials=str(error))
    except (LakeError, OSError) as error:
        return attrs.evolve(report, unreachable=str(error))
    if report.wrong_tables:
        return report  # what is there is somebody else's: nothing is written
    try:
        report = attrs.evolve(report, clock_error_seconds=clock_error_seconds(objects, clock))
        prove(objects)
    except ForeignLakeError as error:
        return attrs.evolve(report, unsafe=str(error))
    except LakeError as error:
        return attrs.evolve(report, unwritable=str(error))
    return report


def _with_content(report: LakeReport, location: Location) -> LakeReport:
    """Add what is at a lake's address."""
    with lake_errors(f"{location.url}: cannot be listed"):
        found = obstore.list_with_delimiter(location.objects())
        folders = [one.rstrip("/") for one in found["common_prefixes"]]
        files = [one["path"] for one in found["objects"]]
    ours = {INTERNAL, *TABLES}
    foreign = sorted({one for one in (*folders, *files) if one not in ours})
    present, wrong = [], []
    for name in (one for one in TABLES if one in folders):
        try:
            if open_table(location, name) is not None:
                present.append(name)
            else:
                wrong.append(f"{location.table_url(name)}: holds files, and is no table")
        except ForeignLakeError as error:
            wrong.append(str(error))
    return attrs.evolve(
        report, tables=tuple(present), wrong_tables=tuple(wrong), foreign=tuple(foreign)
    )
