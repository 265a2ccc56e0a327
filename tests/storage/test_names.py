"""Names on the disk are UTF-8, whatever the locale; and a caller's folder may begin with ~."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import kline_trio
from kline_trio.config import Config, ConnectionConfig, StoreConfig
from kline_trio.errors import ConfigError, KlineTrioError
from kline_trio.reading.candles import read
from kline_trio.storage.check import check
from kline_trio.storage.layout import DEFAULT_LAYOUT
from kline_trio.storage.names import disk_name, folder_path, text_of
from tests.locales import LOCALES, environment_of
from tests.storage.support import (
    CHINESE,
    child_environment,
    make_candle,
    merge_all,
    nth_open_time_ms,
    open_store,
    receive,
    write_minutes,
)

DATED = "蜡烛/{symbol}/{trade_type}_{time_interval}_{month}.parquet"
WRITE_AND_READ = """
import sys
from kline_trio.storage.check import check
from kline_trio.reading.candles import read
from kline_trio.reading.reports import series
from tests.storage.support import *
folder, layout = Path(sys.argv[1]), ascii_layout(sys.argv[2])
store = open_store(folder, layout)
candles = [make_candle(nth_open_time_ms(CHINESE, n)) for n in range(4)]
store.journal.accept(receive(CHINESE, *candles[:3]))
merge_all(store)
store.journal.accept(receive(CHINESE, candles[3]))
merge_all(store)
assert store.changed_files(store.journal.files()) == []
assert len(store.look_through({CHINESE: 0})[CHINESE]) == 1
store.close()
assert series(folder) == [CHINESE]
assert len(read(folder, "usdt_futures", CHINESE.symbol, "1w")) == 4
assert [one for one in check(folder) if one.faults] == []
"""


def write_in(locale: str, tmp_path: Path, layout: str) -> None:
    code = WRITE_AND_READ.replace("ascii_layout(sys.argv[2])", ascii(layout))
    environment = {**child_environment(), **environment_of(locale)}
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "data"],
        env=environment, capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode(errors="replace")


@pytest.mark.parametrize(
    ("locale", "layout"), [*zip(LOCALES, (DATED, DEFAULT_LAYOUT, DATED), strict=True)]
)
def test_a_store_is_the_same_under_every_locale(locale: str, layout: str, tmp_path: Path) -> None:
    write_in(locale, tmp_path, layout)
    times = [nth_open_time_ms(CHINESE, n) for n in range(4)]
    store = open_store(tmp_path / "data", layout)
    listed = {tmp_path / "data" / file.path for file in store.journal.files()}
    assert listed == {tmp_path / "data" / store.layout.path(CHINESE, ms) for ms in times}
    assert all(path.is_file() for path in listed)
    assert store.changed_files(store.journal.files()) == []
    store.journal.accept(receive(CHINESE, make_candle(times[3], 2.0)))
    merge_all(store)
    store.close()
    assert len(read(tmp_path / "data", "usdt_futures", CHINESE.symbol, "1w")) == 4
    assert [one for one in check(tmp_path / "data") if one.faults] == []
    # And back: what another locale has written is known under this one.
    write_in(locale, tmp_path, layout)


def test_a_name_is_its_text_where_the_locale_is_utf_8() -> None:
    assert disk_name("币安") == text_of("币安") == "币安"
    assert text_of(os.fsdecode(b"\xff.pqt")) == "\udcff.pqt"


READERS: list[Callable[[str], object]] = [
    lambda path: kline_trio.read(path, "spot", "BTCUSDT"),
    kline_trio.series,
    kline_trio.coverage,
    kline_trio.revisions,
    kline_trio.universe,
]


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_expands_a_tilde(
    reader: Callable[[str], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_minutes(tmp_path / "data", 3, 1).close()
    monkeypatch.setenv("HOME", str(tmp_path))
    assert str(reader("~/data")) == str(reader(str(tmp_path / "data")))
    with pytest.raises(KlineTrioError, match="~nobody-of-that-name/data: "):
        reader("~nobody-of-that-name/data")


def test_the_stores_path_of_a_configuration_expands_a_tilde(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert StoreConfig(path="~/data").path == tmp_path / "data"
    assert ConnectionConfig(ca_file="~/ca.pem").ca_file == tmp_path / "ca.pem"
    (tmp_path / "recorder.toml").write_text('[streams.spot]\n1m = ["BTCUSDT"]\n', encoding="utf-8")
    assert Config.from_toml("~/recorder.toml").store.path == tmp_path / "data"
    with pytest.raises(ConfigError):
        Config.from_toml("~nobody-of-that-name/recorder.toml")
    assert folder_path("./~") == Path("~")


def test_a_folder_with_a_chinese_name_is_found_under_every_locale(tmp_path: Path) -> None:
    write_minutes(tmp_path / "数据", 3, 1).close()
    code = (
        "import kline_trio, os\n"
        f"text = {str(tmp_path / '数据')!a}\n"
        "assert len(kline_trio.read(text, 'spot', 'BTCUSDT')) == 4\n"
        "assert len(kline_trio.read(os.fsdecode(text.encode()), 'spot', 'BTCUSDT')) == 4\n"
    )
    for locale in LOCALES:
        environment = {**child_environment(), **environment_of(locale)}
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=environment, capture_output=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr.decode(errors="replace")
