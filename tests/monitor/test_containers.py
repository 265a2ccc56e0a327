"""The files of `deploy/compose`: a real Prometheus scrapes a recorder through them."""

import json
import os
import shutil
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlencode

import pytest

from kline_trio.commands import cli
from tests.end_to_end.harness import ROOT, Program, wait_until

DEPLOY = ROOT / "deploy"


def replaced(text: str, **changes: tuple[str, str]) -> str:
    """Return the text with each change made; each first text of a change must be there."""
    for before, after in changes.values():
        assert before in text
        text = text.replace(before, after)
    return text


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    assert cli.main(["token", str(path)]) == 0
    return path


@pytest.fixture
def port(tmp_path: Path, token_file: Path) -> Iterator[int]:
    """The port of a recorder with the configuration of the containers."""
    text = (DEPLOY / "compose" / "recorder" / "recorder.toml").read_text(encoding="utf-8")
    text = replaced(
        text,
        address=("0.0.0.0:8787", "0.0.0.0:0"),
        token=("/token/token", str(token_file)),
        store=('"/data"', '"data"'),
    )
    (tmp_path / "recorder.toml").write_text(text, encoding="utf-8")
    program = Program(["-m", "kline_trio", "recorder.toml", "--simulate"], tmp_path, measured=True)
    try:
        line = program.wait_for("monitor: http://0.0.0.0:")
        yield int(line.rpartition(":")[2].partition("/")[0])
    finally:
        program.close()


def health_check(configuration: Path) -> subprocess.CompletedProcess[str]:
    """Run the health check of the Dockerfile, for another configuration."""
    [_, check] = (DEPLOY / "Dockerfile").read_text(encoding="utf-8").split("\nHEALTHCHECK ")
    python, *words = json.loads(check.partition("CMD ")[2].partition("\n")[0])
    assert (python, words[-1]) == ("python", "/config/recorder.toml")
    return subprocess.run(
        [sys.executable, *words[:-1], configuration],
        capture_output=True, text=True, check=False, timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        found: int = server.getsockname()[1]
        return found


@pytest.mark.usefixtures("port")
def test_the_health_check_of_the_image_asks_the_recorder(tmp_path: Path) -> None:
    wait_until(
        lambda: health_check(tmp_path / "recorder.toml").returncode == 0, "the verdict should be ok"
    )
    done = health_check(tmp_path / "recorder.toml")
    assert (done.stdout, done.stderr) == ("", "")


def test_the_health_check_of_the_image_fails_without_a_recorder(tmp_path: Path) -> None:
    path = tmp_path / "recorder.toml"
    path.write_text('[streams.spot]\n1m = ["BTCUSDT"]\n', encoding="utf-8")
    done = health_check(path)
    assert done.returncode == 1
    assert "no recorder" in done.stderr


@contextmanager
def prometheus(configuration: str, folder: Path) -> Iterator[str]:
    """Run Prometheus; yield its address."""
    (folder / "prometheus.yml").write_text(configuration, encoding="utf-8")
    address = f"127.0.0.1:{free_port()}"
    words = ["prometheus", f"--config.file={folder}/prometheus.yml"]
    words += [f"--storage.tsdb.path={folder}/tsdb", f"--web.listen-address={address}"]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log)
        try:
            yield address
        finally:
            process.terminate()
            process.wait(60)


def answers(address: str, query: str) -> list[str]:
    """Return the values that a query finds; none while Prometheus does not answer."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with suppress(URLError, ConnectionError):
        url = f"http://{address}/api/v1/query?{urlencode({'query': query})}"
        with opener.open(url, timeout=10) as answer:
            return [one["value"][1] for one in json.load(answer)["data"]["result"]]
    return []


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not installed")
def test_prometheus_scrapes_through_the_configuration_of_the_containers(
    tmp_path: Path, port: int, token_file: Path
) -> None:
    text = (DEPLOY / "compose" / "prometheus" / "prometheus.yml").read_text(encoding="utf-8")
    text = replaced(
        text,
        token=("/token/token", str(token_file)),
        target=("recorder:8787", f"127.0.0.1:{port}"),
        interval=("scrape_interval: 15s", "scrape_interval: 1s"),
    )
    with prometheus(text, tmp_path) as address:
        query = 'up{job="kline_trio"}'
        wait_until(lambda: answers(address, query) == ["1"], "the scrape")
        wait_until(lambda: answers(address, 'count({__name__=~"kline_trio_.+"}) > 20') != [], "it")
        # Without the token it is refused.
        token_file.write_text("another token, of 16 letters or more\n", encoding="ascii")
        wait_until(lambda: answers(address, query) == ["0"], "the refusal")
