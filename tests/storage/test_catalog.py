"""Which files of a store are looked into."""

from pathlib import Path

import pytest

from kline_trio.candle import Series
from kline_trio.storage.catalog import files_named_after


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (["BTCUSDT"], ["spot_BTCUSDT_1m.pqt"]),
        (["BTCUSDT", "ETHUSDT"], ["spot_BTCUSDT_1m.pqt", "spot_ETHUSDT_1m.pqt"]),
        # A symbol within another one: the file is opened, and its owner is looked at.
        (["USDT"], ["spot_BNBUSDT_1m.pqt", "spot_BTCUSDT_1m.pqt", "spot_ETHUSDT_1m.pqt"]),
        (
            ["BTCUSDT", *(f"S{number:03}" for number in range(64))],
            ["spot_BNBUSDT_1m.pqt", "spot_BTCUSDT_1m.pqt", "spot_ETHUSDT_1m.pqt"],
        ),
    ],
    ids=["one", "some", "within another", "too many to look for"],
)
def test_files_are_chosen_by_the_names_in_their_paths(
    tmp_path: Path, wanted: list[str], expected: list[str]
) -> None:
    for name in ("BTCUSDT_1m", "ETHUSDT_1m", "BNBUSDT_1m", "BTCUSDT_5m"):
        (tmp_path / f"spot_{name}.pqt").touch()
    series = [Series("spot", symbol, "1m") for symbol in wanted]
    assert [path.name for path in sorted(files_named_after(tmp_path, series))] == expected
