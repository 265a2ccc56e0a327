"""Units and property lists that record by recorder.toml, the files of `deploy/`, and tokens."""

import os
import plistlib
import pwd
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import attrs
import pytest

from kline_trio.commands import cli
from kline_trio.commands.service import Installation, property_list_of, unit_of
from kline_trio.config import Config
from kline_trio.errors import ConfigError

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
MOST_EXPOSURE = 1.5
EXAMPLE = Installation(
    python=Path("/opt/kline-trio/bin/python"),
    config=Path("/etc/kline-trio/recorder.toml"),
    store=Path("/var/lib/kline-trio"),
    user="kline-trio",
    drain_seconds=10.0,
    reads=(),
)
"""That of `deploy/kline-trio.service`."""

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)


def settings(unit: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r"^(\w+)=(.*)$", unit, re.MULTILINE):
        found.setdefault(name, []).append(value)
    return found


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "recorder.toml"
    path.write_text('[streams.spot]\n1m = ["BTCUSDT"]\n[store]\ndrain_seconds = 25.5\n')
    return path


def test_the_unit_in_deploy_is_what_the_command_prints() -> None:
    assert (DEPLOY / "kline-trio.service").read_text(encoding="utf-8") == unit_of(EXAMPLE)


def test_a_unit_is_filled_in(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    me = pwd.getpwuid(os.getuid()).pw_name
    assert cli.main(["service", str(config), "--user", me]) == 0
    told = capsys.readouterr()
    unit = settings(told.out)
    command = f"{sys.executable} -P -m kline_trio record {config}"
    assert unit["ExecStart"] == [command]
    assert unit["ReadWritePaths"] == unit["RequiresMountsFor"] == [str(config.parent / "data")]
    assert unit["User"] == [me]
    assert unit["Type"] == ["notify"]
    assert unit["TimeoutStopSec"] == ["56"]
    assert unit["RestartPreventExitStatus"] == ["2"]
    assert f"make the store: sudo install -d -o {me} {config.parent}/data" in told.err
    assert f"kline-trio service {config} --user {me} | sudo tee" in told.err


def test_root_gives_way_to_a_user_that_is_to_be_made(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kline_trio.commands.service._owner", lambda *_: None)
    monkeypatch.setattr("kline_trio.commands.service._SYSTEM_USER", "no-such-user")
    assert cli.main(["service", str(config)]) == 0
    told = capsys.readouterr()
    assert settings(told.out)["User"] == ["no-such-user"]
    assert "make the user: sudo useradd --system --shell /usr/sbin/nologin no-such-user" in told.err


def test_the_store_belongs_to_who_records(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (config.parent / "data").mkdir()
    other = next(one for one in pwd.getpwall() if one.pw_uid not in (0, os.getuid()))
    assert cli.main(["service", str(config), "--user", other.pw_name]) == 0
    told = capsys.readouterr().err
    assert f"sudo chown -R {other.pw_name} {config.parent}/data" in told
    assert "make the user" not in told


def test_a_proxy_of_the_environment_is_missed_in_a_service(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    assert cli.main(["service", str(config)]) == 0
    advice = "HTTPS_PROXY is set here, but not for a service: name the proxy under [connection]"
    assert advice in capsys.readouterr().err.splitlines()


@pytest.mark.parametrize(
    ("place", "home", "temporary"),
    [
        ("/etc/kline-trio", "yes", "yes"),
        ("/home/me/kline_trio", "read-only", "yes"),
        ("/root", "read-only", "yes"),
        ("/homes/me", "yes", "yes"),
        ("/tmp/try", "yes", "no"),
    ],
)
def test_what_the_recorder_needs_is_not_hidden_from_it(
    place: str, home: str, temporary: str
) -> None:
    path = Path(place, "needed")
    for needed in (
        attrs.evolve(EXAMPLE, python=path),
        attrs.evolve(EXAMPLE, config=path),
        attrs.evolve(EXAMPLE, store=path),
        attrs.evolve(EXAMPLE, reads=(path,)),
    ):
        unit = settings(unit_of(needed))
        assert unit["ProtectHome"] == [home]
        assert unit["PrivateTmp"] == [temporary]


def test_links_are_followed(tmp_path: Path) -> None:
    """The Python of a virtual environment is a link, often into a home."""
    python = tmp_path / "python"
    python.symlink_to("/home/me/.pyenv/bin/python3")
    unit = settings(unit_of(attrs.evolve(EXAMPLE, python=python)))
    assert unit["ProtectHome"] == ["read-only"]


def test_only_a_store_that_systemd_makes_is_a_state_directory() -> None:
    assert settings(unit_of(EXAMPLE))["StateDirectory"] == ["kline-trio"]
    for store in ("/var/lib/kline-trio/data", "/srv/candles", "/var/lib/two words"):
        assert "StateDirectory" not in settings(unit_of(attrs.evolve(EXAMPLE, store=Path(store))))


def test_paths_are_quoted_as_systemd_reads_them() -> None:
    odd = attrs.evolve(EXAMPLE, config=Path("/etc/50% $HOME/币.toml"), store=Path('/srv/a "b"\\c'))
    unit = settings(unit_of(odd))
    assert unit["ExecStart"] == [
        ':/opt/kline-trio/bin/python -P -m kline_trio record "/etc/50%% $HOME/币.toml"'
    ]
    assert unit["ReadWritePaths"] == ['"/srv/a \\"b\\"\\\\c"']


@pytest.mark.parametrize(
    "odd",
    [
        attrs.evolve(EXAMPLE, config=Path("/etc/a\nb.toml")),
        attrs.evolve(EXAMPLE, store=Path(os.fsdecode(b"/srv/\xff"))),
        attrs.evolve(EXAMPLE, user="root\nExecStart=/bin/sh"),
        attrs.evolve(EXAMPLE, user="-x"),
    ],
)
def test_what_a_unit_cannot_hold_is_refused(odd: Installation) -> None:
    with pytest.raises(ConfigError):
        unit_of(odd)


def test_a_mistake_in_the_file_is_said_and_nothing_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "recorder.toml"
    path.write_text("no good\n")
    assert cli.main(["service", str(path)]) == 2
    assert capsys.readouterr().out == ""


def verify(unit: str, folder: Path) -> subprocess.CompletedProcess[str]:
    path = folder / "kline-trio.service"
    path.write_text(unit, encoding="utf-8")
    return subprocess.run(
        ["systemd-analyze", "verify", path], capture_output=True, text=True, check=False
    )


def with_a_python(unit: str, tmp_path: Path) -> str:
    # verify looks whether the command can be run.
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\n")
    python.chmod(0o755)
    return unit.replace(str(EXAMPLE.python), str(python))


@needs_systemd
@pytest.mark.parametrize(
    ("config", "store"),
    [
        ("/etc/kline-trio/recorder.toml", "/var/lib/kline-trio"),
        ("/etc/50% $HOME/币.toml", '/srv/a "b"\\c'),
        ("/home/me/recorder.toml", "/home/me/data"),
    ],
)
def test_systemd_finds_nothing_wrong_with_a_unit(tmp_path: Path, config: str, store: str) -> None:
    unit = unit_of(attrs.evolve(EXAMPLE, config=Path(config), store=Path(store)))
    done = verify(with_a_python(unit, tmp_path), tmp_path)
    if "Failed to" in done.stderr and "manager" in done.stderr:
        pytest.skip(f"systemd-analyze cannot work here: {done.stderr.strip()}")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@needs_systemd
def test_systemd_sees_a_mistake_in_a_unit(tmp_path: Path) -> None:
    """So that the test before this one means something."""
    unit = with_a_python(unit_of(EXAMPLE), tmp_path).replace("ProtectHome=yes", "ProtectHome=oui")
    assert "Failed to parse protect home value" in verify(unit, tmp_path).stderr


@needs_systemd
@pytest.mark.parametrize("store", ["/var/lib/kline-trio", "/home/me/data"])
def test_a_service_exposes_little(tmp_path: Path, store: str) -> None:
    path = tmp_path / "kline-trio.service"
    path.write_text(unit_of(attrs.evolve(EXAMPLE, store=Path(store))), encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", path],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if "nrecognized option" in done.stderr:
        pytest.skip("systemd before 250 has no --offline")
    score = re.search(r"Overall exposure level for \S+: (\d+\.\d)", done.stdout)
    assert score is not None, done
    assert float(score[1]) <= MOST_EXPOSURE


def test_a_property_list_is_filled_in(
    config: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert cli.main(["service", str(config), "--launchd"]) == 0
    told = capfdbinary.readouterr()
    found = plistlib.loads(told.out)
    assert found["Label"] == "kline-trio.recorder"
    assert found["ProgramArguments"][0] == sys.executable
    assert found["ProgramArguments"][1:] == ["-P", "-m", "kline_trio", "record", str(config)]
    assert found["KeepAlive"] == {"SuccessfulExit": False}
    assert found["ExitTimeOut"] == 56
    assert "UserName" not in found
    assert b"launchctl bootstrap" in told.err


def test_a_property_list_of_a_daemon_names_its_user() -> None:
    found = plistlib.loads(property_list_of(EXAMPLE))
    assert found["UserName"] == "kline-trio"
    with pytest.raises(ConfigError, match="cannot hold this path"):
        property_list_of(attrs.evolve(EXAMPLE, config=Path("/etc/a\x01b.toml")))


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_a_token_is_random_and_for_its_owner_only(
    tmp_path: Path, umask: int, capsys: pytest.CaptureFixture[str]
) -> None:
    before = os.umask(umask)
    try:
        for name in ("one", "two"):
            assert cli.main(["token", str(tmp_path / name)]) == 0
    finally:
        os.umask(before)
    one, two = ((tmp_path / name).read_text(encoding="ascii") for name in ("one", "two"))
    assert one != two
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}\n", one)
    assert stat.S_IMODE((tmp_path / "one").stat().st_mode) == 0o600
    told = capsys.readouterr()
    assert f'token_file = "{tmp_path}/one"' in told.out
    assert one.strip() not in told.out + told.err


def test_a_token_is_never_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, link = tmp_path / "token", tmp_path / "link"
    path.write_text("mine\n")
    link.symlink_to("nowhere")
    for one in (path, link):
        assert cli.main(["token", str(one)]) == 2
        assert capsys.readouterr().err == f"{one} is there already; it stays as it is\n"
    assert path.read_text() == "mine\n"
    assert not (tmp_path / "nowhere").exists()


def test_a_token_that_cannot_be_written_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli.main(["token", str(tmp_path / "no" / "token")]) == 2
    assert "cannot be written: No such file or directory" in capsys.readouterr().err

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fchmod", refuse)
    assert cli.main(["token", str(tmp_path / "token")]) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_configuration_of_the_containers_can_be_used() -> None:
    config = Config.from_toml(DEPLOY / "compose" / "recorder" / "recorder.toml")
    assert config.store.path == Path("/data")
    assert config.monitor.is_public
    compose = (DEPLOY / "compose.yml").read_text(encoding="utf-8")
    grace = re.search(r"stop_grace_period: (\d+)s", compose)
    assert grace is not None
    assert float(grace[1]) > config.store.drain_seconds
    ports = re.findall(r'ports: \["(.*?)"\]', compose)
    assert len(ports) == 2
    assert all(port.startswith("127.0.0.1:") for port in ports)
