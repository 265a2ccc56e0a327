"""The command `service`: print a unit for systemd, or a property list for launchd."""

import argparse
import math
import os
import plistlib
import pwd
import re
import shlex
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import attrs

from kline_trio.config import Config
from kline_trio.errors import ConfigError

_SYSTEM_USER = "kline-trio"
"""Instead of root."""
_AGENT_PATH = "~/Library/LaunchAgents/kline-trio.plist"
_DAEMON_PATH = "/Library/LaunchDaemons/kline-trio.plist"
_UNIT_PATH = "/etc/systemd/system/kline-trio.service"
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*", re.ASCII)
_PLAIN = re.compile(r"[A-Za-z0-9/._@+=,-]+", re.ASCII)
_CLOSE_SECONDS = 30
"""Besides `drain_seconds`, for the last commit and the merge at hand."""
_OPEN_FILES = 8_192
_PROXIES = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")
_HOMES = ("/home", "/root", "/run/user")
_TEMPORARY = ("/tmp", "/var/tmp")  # noqa: S108 - only compared with

_UNIT = """\
# Made by `kline-trio service`. The reasons are in docs/service.md.

[Unit]
Description=kline_trio records what {config} names
Wants=network-online.target
After=network-online.target
RequiresMountsFor={store}
# A lost network may last for days: never give up.
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={command}
ExecReload=/bin/kill -HUP $MAINPID
User={user}
Restart=on-failure
RestartSec=5
# Status 2: recorder.toml has a mistake, and a restart does not mend it.
RestartPreventExitStatus=2
# A longer start, as for the recovery of a large journal, asks for more time by itself.
TimeoutStartSec=90
# Above drain_seconds ({drain_seconds:g} s).
TimeoutStopSec={stop_seconds}
# Fed while the event loop turns and no commit or merge is stuck.
WatchdogSec=120
LimitNOFILE={open_files}
LimitCORE=0

# It writes into the store, and nowhere else.
ProtectSystem=strict
ReadWritePaths={store}
{state_directory}ProtectHome={protect_home}
PrivateTmp={private_tmp}
PrivateDevices=yes
PrivateMounts=yes
PrivateUsers=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
CapabilityBoundingSet=
AmbientCapabilities=
NoNewPrivileges=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RemoveIPC=yes
# AF_UNIX is for the notifications.
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
"""


@attrs.frozen(kw_only=True)
class Installation:
    """Where a recorder is installed, and for whom it runs."""

    python: Path
    config: Path
    store: Path
    user: str | None
    """None: whoever loads the property list."""
    drain_seconds: float
    reads: tuple[Path, ...]
    """Files and folders that it reads besides."""

    @property
    def command(self) -> tuple[str, ...]:
        """The words that start the recorder."""
        # -P: no module of the folder in which it is started takes the place of another.
        return (str(self.python), "-P", "-m", "kline_trio", "record", str(self.config))

    @property
    def stop_seconds(self) -> int:
        """How long a stop may take, until the process is killed. A kill loses nothing."""
        return math.ceil(self.drain_seconds) + _CLOSE_SECONDS

    def uses(self, folders: Iterable[str]) -> bool:
        """Return whether something that the recorder needs is in one of these folders."""
        needed = (self.python, self.config, self.store, *self.reads)
        # Where a link leads counts too: to the Python of a virtual environment, for example.
        places = {*needed, *(path.resolve() for path in needed)}
        return any(place.is_relative_to(folder) for place in places for folder in folders)


def unit_of(installed: Installation) -> str:
    """Return the unit for systemd (pure but for links, which are followed).

    Raises:
      ConfigError: systemd cannot spell a path, or the user's name.
    """
    user = installed.user or _SYSTEM_USER
    if not _USER.fullmatch(user):
        raise ConfigError([f"--user {user!r}: a name of a user is wanted"])
    command = " ".join(map(_word, installed.command))
    # With the colon, `$` stands for itself.
    command = f":{command}" if "$" in command else command
    store, state_directory = installed.store, ""
    if store.parent == Path("/var/lib") and _PLAIN.fullmatch(store.name):
        # systemd makes it, with the right owner.
        state_directory = f"StateDirectory={store.name}\n"
    return _UNIT.format(
        config=_specifiers(str(installed.config)),
        store=_word(str(store)),
        command=command,
        user=user,
        drain_seconds=installed.drain_seconds,
        stop_seconds=installed.stop_seconds,
        open_files=_OPEN_FILES,
        state_directory=state_directory,
        protect_home="read-only" if installed.uses(_HOMES) else "yes",
        private_tmp="no" if installed.uses(_TEMPORARY) else "yes",
    )


def _specifiers(text: str) -> str:
    if not text.isprintable():
        raise ConfigError([f"{text!r}: a unit of systemd cannot hold this path: move it"])
    return text.replace("%", "%%")


def _word(text: str) -> str:
    """Return a word as systemd.syntax(7) quotes it."""
    text = _specifiers(text)
    if _PLAIN.fullmatch(text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def property_list_of(installed: Installation) -> bytes:
    """Return the property list for launchd: an agent of its user; with `user`, a daemon.

    Raises:
      ConfigError: the list cannot hold a path.
    """
    config = installed.config
    keys: dict[str, object] = {
        "Label": f"kline-trio.{config.stem}",
        "ProgramArguments": list(installed.command),
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        "ThrottleInterval": 10,
        "ExitTimeOut": installed.stop_seconds,
        "WorkingDirectory": str(config.parent),
        "StandardErrorPath": str(config.with_suffix(".log")),
        # By default macOS allows 256.
        "SoftResourceLimits": {"NumberOfFiles": _OPEN_FILES},
        "HardResourceLimits": {"NumberOfFiles": _OPEN_FILES},
    }
    if installed.user is not None:
        keys["UserName"] = installed.user
    try:
        return plistlib.dumps(keys)
    except ValueError:
        raise ConfigError([f"{config}: a property list cannot hold this path: move it"]) from None


def service(options: argparse.Namespace) -> None:
    """Print a unit or a property list, filled in; print on stderr what to do with it.

    Raises:
      ConfigError: recorder.toml cannot be used, or a path cannot be spelled.
    """
    config = Config.from_toml(options.config)
    user = options.user
    if user is None and not options.launchd:
        user = _owner(config.store.path, options.config) or _SYSTEM_USER
    monitor = config.monitor
    named = (config.connection.ca_file, monitor.token_file, monitor.tls_cert, monitor.tls_key)
    installed = Installation(
        python=Path(sys.executable),
        config=options.config.absolute(),
        store=config.store.path.absolute(),
        user=user,
        drain_seconds=config.store.drain_seconds,
        reads=(
            Path(__file__),
            Path(sys.base_prefix),
            *(path.absolute() for path in named if path is not None),
        ),
    )
    if options.launchd:
        sys.stdout.flush()
        sys.stdout.buffer.write(property_list_of(installed))
        advice = _launchd_advice(options)
    else:
        sys.stdout.write(unit_of(installed))
        advice = _systemd_advice(installed, options)
    for line in (*_proxy_advice(config), *advice):
        print(line, file=sys.stderr)


def _owner(*paths: Path) -> str | None:
    """Return who owns the first of these paths that is there; None for root."""
    for path in paths:
        with suppress(OSError, KeyError):
            owner = path.stat().st_uid
            return pwd.getpwuid(owner).pw_name if owner else None
    return None


def _systemd_advice(installed: Installation, options: argparse.Namespace) -> Iterator[str]:
    user, store = installed.user or _SYSTEM_USER, installed.store
    quoted = shlex.quote(str(store))
    try:
        pwd.getpwnam(user)
    except KeyError:
        yield f"make the user: sudo useradd --system --shell /usr/sbin/nologin {user}"
    if not store.exists():
        # Else systemd ends with status 226: it lets the recorder write there only.
        yield f"make the store: sudo install -d -o {user} {quoted}"
    elif _owner(store) != user:
        yield f"give the store to the user: sudo chown -R {user} {quoted}"
    yield f"install it: {_command(options)} | sudo tee {_UNIT_PATH}"
    yield "start it: sudo systemctl daemon-reload && sudo systemctl enable --now kline-trio"


def _launchd_advice(options: argparse.Namespace) -> Iterator[str]:
    if options.user is not None:
        yield f"install it: {_command(options)} | sudo tee {_DAEMON_PATH}"
        yield f"start it: sudo launchctl bootstrap system {_DAEMON_PATH}"
    else:
        yield f"install it: {_command(options)} > {_AGENT_PATH}"
        yield f"start it: launchctl bootstrap gui/$(id -u) {_AGENT_PATH}"


def _command(options: argparse.Namespace) -> str:
    """Return the command that was called."""
    words = ["kline-trio", "service", str(options.config)]
    words += ["--launchd"] if options.launchd else []
    words += [] if options.user is None else ["--user", options.user]
    return shlex.join(words)


def _proxy_advice(config: Config) -> Iterator[str]:
    name = next((one for one in _PROXIES if os.environ.get(one)), None)
    if name is not None and config.connection.proxy is None:
        yield f"{name} is set here, but not for a service: name the proxy under [connection]"
