"""The files of the page: what is served, how it is named, and how little is sent again."""

import gzip
from pathlib import Path

import pytest

from kline_trio.monitor.access import Access
from kline_trio.monitor.endpoints import Endpoints
from kline_trio.monitor.http_message import Request
from kline_trio.monitor.page.assets import PAGE_POLICY, Assets
from tests.monitor.http import joined, server_of

INDEX = b"<!doctype html><title>kline_trio</title>\n"
SCRIPT = b"export const answer = 42;\n" * 400


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    static = tmp_path / "static"
    (static / "vendor").mkdir(parents=True)
    (static / "index.html").write_bytes(INDEX)
    (static / "vendor" / "chart.js").write_bytes(SCRIPT)
    (static / ".hidden").write_bytes(b"a secret of an editor")
    (tmp_path / "outside.txt").write_bytes(b"a secret")
    return static


def endpoints_of(folder: Path, root_path: str = "") -> Endpoints:
    access = Access.to("127.0.0.1:8787", (), None)
    return Endpoints(None, access, root_path, assets=Assets(folder))


async def test_the_page_is_served_with_its_policy_and_is_asked_for_again_by_its_etag(
    folder: Path,
) -> None:
    async with joined(server_of(endpoints_of(folder).handle)) as client:
        answer = await client.ask("GET", "/")
        assert (answer.status, answer.body) == (200, INDEX)
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert answer.headers["content-security-policy"] == PAGE_POLICY
        assert answer.headers["cache-control"] == "no-cache"
        tag = answer.headers["etag"]
        again = await client.ask("GET", "/?series=spot%2FBTCUSDT%2F1m", f"If-None-Match: {tag}")
        assert (again.status, again.body) == (304, b"")
        assert again.headers["etag"] == tag
        (folder / "index.html").write_bytes(b"new")
        # It was read once: an upgrade shows itself after the recorder's next start.
        assert (await client.ask("GET", "/index.html")).body == INDEX


async def test_a_script_is_compressed_once_for_those_who_take_it(folder: Path) -> None:
    async with joined(server_of(endpoints_of(folder).handle)) as client:
        plain = await client.ask("GET", "/vendor/chart.js")
        assert plain.body == SCRIPT
        packed = await client.ask("GET", "/vendor/chart.js", "Accept-Encoding: br, gzip;q=0.5")
        assert packed.headers["content-encoding"] == "gzip"
        assert gzip.decompress(packed.body) == SCRIPT
        assert len(packed.body) < 200
        for answer in (plain, packed):
            assert answer.headers["vary"] == "accept-encoding"
            assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
            assert answer.headers["etag"] == plain.headers["etag"]
        head = await client.ask("HEAD", "/vendor/chart.js", "Accept-Encoding: gzip")
        assert head.headers["content-length"] == str(len(packed.body))


@pytest.mark.parametrize(
    "target",
    [
        "/missing", "/vendor", "/vendor/", "/.hidden", "/../outside.txt", "/vendor/../index.html",
        "/%2e%2e/outside.txt", "//index.html", "/INDEX.HTML", "index.html", "/vendor//chart.js",
        "/index.html/", "/vendor\\chart.js", "/index.html%00", "*",
    ],
)  # fmt: skip
async def test_no_other_path_is_a_file(folder: Path, target: str) -> None:
    request = Request(method="GET", target=target, headers={"host": "localhost"})
    response = await endpoints_of(folder).handle(request)
    assert response.status == 404
    assert b"secret" not in response.body


async def test_a_package_without_the_page_has_none(tmp_path: Path) -> None:
    assets = Assets(tmp_path / "nothing")
    assert await assets.get("/") is None


async def test_a_file_that_cannot_be_read_is_tried_again(folder: Path) -> None:
    (folder / "loop.css").symlink_to("nowhere.css")
    assets = Assets(folder)
    with pytest.raises(OSError, match=r"loop\.css"):
        await assets.get("/")
    (folder / "loop.css").unlink()
    found = await assets.get("/")
    assert found is not None
    assert found.body == INDEX
