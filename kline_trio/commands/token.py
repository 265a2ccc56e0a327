"""The command `token`: write a random token for readers of the monitor."""

import argparse
import os
import secrets
from contextlib import suppress
from pathlib import Path

from kline_trio.errors import ConfigError

_BYTES = 32


def token(options: argparse.Namespace) -> None:
    """Write a random token into a new file that only its owner can read; do not print it.

    Raises:
      ConfigError: the file is there already, or cannot be written.
    """
    path: Path = options.file
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise ConfigError([f"{path} is there already; it stays as it is"]) from None
    except OSError as error:
        raise _cannot_be_written(path, error) from None
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            # The umask may have taken more away.
            os.fchmod(descriptor, 0o600)
            file.write(secrets.token_urlsafe(_BYTES) + "\n")
    except OSError as error:
        # Else an empty file would refuse the next attempt.
        with suppress(OSError):
            path.unlink()
        raise _cannot_be_written(path, error) from None
    print(f'wrote {path}; now name it under [monitor]: token_file = "{path.absolute()}"')


def _cannot_be_written(path: Path, error: OSError) -> ConfigError:
    return ConfigError([f"{path}: cannot be written: {error.strerror}"])
