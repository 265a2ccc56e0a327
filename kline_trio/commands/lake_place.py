"""Which lake a user means: an s3:// address, a folder, or the `[lake]` of a recorder.toml."""

from pathlib import Path
from typing import TYPE_CHECKING

from kline_trio.errors import ConfigError
from kline_trio.reading.address import lake_packages

if TYPE_CHECKING:
    from kline_trio.config.lake import LakeConfig
    from kline_trio.lake.location import Location


def lake_of(place: str | Path) -> "tuple[LakeConfig, Path | None]":
    """Return the lake that a user means, and the store of its recorder.toml if one was given.

    Raises:
      ConfigError: the address is none, the file cannot be used, or has no lake.
    """
    # Imported here: `status --live` reads no configuration, and is fast.
    from kline_trio.config import Config
    from kline_trio.config.lake import LakeConfig, read_url

    if isinstance(place, str):
        try:
            return LakeConfig(url=read_url(place)), None
        except ConfigError:
            raise
        except ValueError as error:
            raise ConfigError([str(error)]) from None
    if place.suffix == ".toml" or place.is_file():
        config = Config.from_toml(place)
        if config.lake.url is None:
            raise ConfigError([f"{place}: names no lake: set url in [lake]"])
        return config.lake, config.store.path
    if not place.is_dir():
        raise ConfigError([f"there is no lake {place}"])
    return LakeConfig(url=place), None


def location_of(lake: "LakeConfig") -> "Location":
    """Return the location of a lake.

    Raises:
      ConfigError: a package or a profile is not there, or the endpoint is used without TLS.
      LakeError: there are no credentials.
    """
    with lake_packages():
        from kline_trio.lake.location import Location

        return Location.from_config(lake)
