"""The address of a lake, and how its two libraries reach it.

Credentials come from the places where other programs of AWS look for them: environment, profile,
and the role of the machine or container. They are never shown.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import attrs

from kline_trio.config.lake import LakeConfig, read_url
from kline_trio.config.values import is_loopback
from kline_trio.errors import ConfigError
from kline_trio.lake.errors import LakeDeniedError, lake_errors
from kline_trio.storage.disk import make_folders, refuse_network_disk

if TYPE_CHECKING:
    from obstore.store import LocalStore, S3Store

INTERNAL = "_kline_trio"
"""The folder in the lake for all that is no table: presence, lease and probes."""
_UNUSABLE = re.compile(r"[\[\]\\]|%[0-9A-Fa-f]{2}")
"""deltalake decodes such parts of a path, or panics; also in an address that begins with file://."""
_CONNECT_SECONDS = 10
_REQUEST_SECONDS = 60
_RETRIES = 3
_RETRY_SECONDS = 60


@attrs.frozen
class Location:
    """A lake on an object store, or in a folder of this machine."""

    url: str
    """`s3://bucket/name`, or an absolute path."""
    _settings: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    """Of the object store, with the secrets, in the names of both libraries."""

    @classmethod
    def from_config(cls, lake: LakeConfig, environ: Mapping[str, str] | None = None) -> "Location":
        """Return the location that `[lake]` names.

        Args:
          lake: the section; it has a url.
          environ: the environment variables; None: those of this process.

        Raises:
          ConfigError: the endpoint is another machine without TLS, or there is no such profile.
          LakeDeniedError: there are no credentials.
        """
        assert lake.url is not None
        if isinstance(lake.url, Path):
            folder = str(lake.url.absolute())
            if _UNUSABLE.search(folder):
                raise ConfigError(
                    [f"{folder}: deltalake reaches no folder with [, ], \\ or %20 in its path"]
                )
            return cls(folder)
        return cls(lake.url, _settings(lake, os.environ if environ is None else environ))

    @classmethod
    def from_url(cls, url: str, environ: Mapping[str, str] | None = None) -> "Location":
        """Return the location of an address, for readers without a configuration.

        The environment gives endpoint, region and credentials, by the variables that all programs
        of AWS read: AWS_ENDPOINT_URL, AWS_REGION, AWS_PROFILE, AWS_ACCESS_KEY_ID and more.
        AWS_ALLOW_HTTP=true allows an endpoint without TLS.

        Raises:
          ConfigError, LakeDeniedError: as `from_config`; or the address is none.
        """
        try:
            return cls.from_config(LakeConfig(url=read_url(url)), environ)
        except ConfigError:
            raise
        except ValueError as error:
            raise ConfigError([str(error)]) from None

    @property
    def is_folder(self) -> bool:
        """Whether the lake is a folder of this machine."""
        return not self.url.startswith("s3://")

    @property
    def endpoint(self) -> str | None:
        """The address of the object store; None: that of AWS, or the lake is a folder."""
        return self._settings.get("aws_endpoint")

    def table_url(self, name: str) -> str:
        """Return the address of one of the tables."""
        return f"{self.url}/{name}"

    def table_options(self) -> dict[str, str]:
        """Return the settings for deltalake."""
        if self.is_folder:
            return {}
        return {
            **self._settings,
            "connect_timeout": f"{_CONNECT_SECONDS}s",
            "timeout": f"{_REQUEST_SECONDS}s",
            "max_retries": str(_RETRIES),
            "retry_timeout": f"{_RETRY_SECONDS}s",
        }

    def objects(self) -> "S3Store | LocalStore":
        """Return the object store at the lake's address, for obstore's functions.

        Raises:
          DiskError: the folder cannot be made, or is on a network file system.
        """
        from datetime import timedelta

        from obstore.store import LocalStore, S3Store

        if self.is_folder:
            folder = Path(self.url)
            make_folders(folder)
            refuse_network_disk(folder)
            return LocalStore(folder)
        bucket, _, prefix = self.url.removeprefix("s3://").partition("/")
        settings: dict[str, Any] = {
            name.removeprefix("aws_"): value for name, value in self._settings.items()
        }
        allow_http = settings.pop("allow_http") == "true"
        settings["virtual_hosted_style_request"] = (
            settings["virtual_hosted_style_request"] == "true"
        )
        with lake_errors(f"{self.url}: cannot be used"):
            return S3Store(
                bucket,
                prefix=prefix or None,
                client_options={
                    "allow_http": allow_http,
                    "connect_timeout": timedelta(seconds=_CONNECT_SECONDS),
                    "timeout": timedelta(seconds=_REQUEST_SECONDS),
                },
                retry_config={
                    "max_retries": _RETRIES,
                    "retry_timeout": timedelta(seconds=_RETRY_SECONDS),
                },
                **settings,
            )


def _settings(lake: LakeConfig, environ: Mapping[str, str]) -> dict[str, str]:
    import botocore.exceptions  # type: ignore[import-untyped]
    import botocore.session  # type: ignore[import-untyped]

    session = botocore.session.Session(profile=lake.profile)
    try:
        credentials = session.get_credentials()
        region = lake.region or session.get_config_variable("region")
    except botocore.exceptions.ProfileNotFound as error:
        raise ConfigError([f"lake.profile: {error}"]) from None
    except botocore.exceptions.BotoCoreError as error:
        raise LakeDeniedError(f"{lake.url}: no credentials: {error}") from None
    if credentials is None:
        raise LakeDeniedError(
            f"{lake.url}: no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name"
            " a profile"
        )
    with lake_errors(f"{lake.url}: the credentials cannot be had"):
        frozen = credentials.get_frozen_credentials()
    endpoint = (
        lake.endpoint or environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL")
    )
    found = {
        "aws_access_key_id": frozen.access_key,
        "aws_secret_access_key": frozen.secret_key,
        "aws_region": region or "us-east-1",
        "aws_virtual_hosted_style_request": "false" if lake.path_style else "true",
        "aws_allow_http": "false",
    }
    if frozen.token:
        found["aws_session_token"] = frozen.token
    if endpoint:
        found["aws_endpoint"] = endpoint
        found["aws_allow_http"] = _allow_http(endpoint, lake, environ)
    return found


def _allow_http(endpoint: str, lake: LakeConfig, environ: Mapping[str, str]) -> str:
    parts = urlsplit(endpoint)
    if parts.scheme != "http":
        return "false"
    is_allowed = lake.allow_http or environ.get("AWS_ALLOW_HTTP", "").lower() == "true"
    if not is_allowed and not is_loopback(parts.hostname or ""):
        raise ConfigError([f"{endpoint}: unencrypted http; use https, or allow_http = true"])
    return "true"
