"""What the symbols were: rows that, replayed, give every state that was seen."""

import logging
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path

import attrs
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kline_trio
from kline_trio.errors import DamagedError, DiskError
from kline_trio.exchange.exchange_info import read_exchange_info
from kline_trio.listing import GONE, Listing
from kline_trio.storage.copy_stores import unite
from kline_trio.storage.layout import Layout
from kline_trio.storage.paths import INTERNAL, scratch, universe_path
from kline_trio.storage.universe import Sighting, UniverseFile, changes, unite_universes
from tests.storage.support import START_MS, open_store

RECORDED = Path(__file__).resolve().parents[2] / "../shared/data/exchangeinfo"
DAY_MS = 86_400_000
PERPETUAL = Listing(
    symbol="币安人生USDT", status="TRADING", contract_type="PERPETUAL", base="币安人生",
    quote="USDT", margin="USDT", tick_size="0.0000010", onboard_ms=START_MS - DAY_MS,
    delivery_ms=4_133_404_800_000,
)  # fmt: skip
BTC = Listing(symbol="BTCUSDT", status="TRADING", base="BTC", quote="USDT", tick_size="0.01")


def by_symbol(*listings: Listing) -> dict[str, Listing]:
    return {one.symbol: one for one in listings}


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A store's folder, with the folders in it that an open store has."""
    scratch(tmp_path).mkdir(parents=True)
    return tmp_path


def see(file: UniverseFile, trade_type: str, now_ms: int, *listings: Listing) -> int:
    """A look at a market's list; how many rows it made."""
    found = changes(trade_type, file.latest.get(trade_type, {}), by_symbol(*listings), now_ms)
    file.append(found)
    return len(found)


def test_a_row_for_each_change_and_none_without() -> None:
    known = by_symbol(BTC, PERPETUAL)
    assert changes("spot", known, known, 5) == ()
    halted = attrs.evolve(BTC, status="BREAK")
    assert changes("spot", {}, known, 5) == (
        Sighting(5, "spot", BTC), Sighting(5, "spot", PERPETUAL),
    )  # fmt: skip
    assert changes("spot", known, by_symbol(halted), 6) == (
        Sighting(6, "spot", halted),
        Sighting(6, "spot", attrs.evolve(PERPETUAL, status=GONE)),
    )
    finer = attrs.evolve(BTC, tick_size="0.001")
    assert changes("spot", known, by_symbol(finer, PERPETUAL), 7) == (Sighting(7, "spot", finer),)


def test_the_file_keeps_every_row_and_is_read_as_it_was(house: Path) -> None:
    file = UniverseFile.open(house)
    assert (file._table.num_rows, file.latest) == (0, {})
    assert see(file, "usdt_futures", START_MS, PERPETUAL, BTC) == 2
    ends = attrs.evolve(PERPETUAL, delivery_ms=START_MS + 9 * DAY_MS)
    assert see(file, "usdt_futures", START_MS + DAY_MS, ends, BTC) == 1
    assert see(file, "spot", START_MS + DAY_MS, BTC) == 1
    assert see(file, "usdt_futures", START_MS + 2 * DAY_MS, BTC) == 1
    again = UniverseFile.open(house)
    assert again._table.num_rows == file._table.num_rows == 5
    assert again.latest == file.latest == {"usdt_futures": by_symbol(BTC), "spot": by_symbol(BTC)}
    frame = kline_trio.universe(house)
    assert list(frame.columns) == [
        "time", "trade_type", "symbol", "status", "contract_type", "base", "quote", "margin",
        "tick_size", "onboard_date", "delivery_date",
    ]  # fmt: skip
    assert list(frame["status"]) == ["TRADING"] * 4 + ["GONE"]
    assert frame["time"][0] == pd.Timestamp(START_MS, unit="ms", tz="UTC")
    assert frame["tick_size"][1] == "0.0000010"
    assert frame["delivery_date"][2] == pd.Timestamp("2024-02-09", tz="UTC")
    assert pd.isna(frame["onboard_date"][0])
    assert len(kline_trio.universe(house, trade_type="spot")) == 1
    pd.testing.assert_frame_equal(pd.read_parquet(universe_path(house)), frame)


def test_what_was_tradable_on_a_day(house: Path) -> None:
    file = UniverseFile.open(house)
    see(file, "spot", START_MS, BTC)
    see(file, "usdt_futures", START_MS, PERPETUAL)
    ends = attrs.evolve(PERPETUAL, delivery_ms=START_MS + 5 * DAY_MS)
    see(file, "usdt_futures", START_MS + 2 * DAY_MS, ends)
    see(file, "spot", START_MS + 3 * DAY_MS, attrs.evolve(BTC, status="BREAK"))

    def tradable(at: str | date) -> list[str]:
        frame = kline_trio.universe(house, at)
        assert frame["is_trading"].dtype == bool
        return list(frame["symbol"][frame["is_trading"]])

    assert kline_trio.universe(house, "2024-01-30").empty
    assert tradable("2024-01-30 23:59") == []
    assert tradable("2024-01-31") == tradable(date(2024, 2, 2)) == ["BTCUSDT", "币安人生USDT"]
    assert tradable("2024-02-03") == ["币安人生USDT"]
    assert tradable("2024-02-05 00:59+01:00") == ["币安人生USDT"]
    # No recorder saw it end, but it was known that it would.
    assert tradable("2024-02-05T01:00+01:00") == []
    assert tradable(datetime(2030, 1, 1, tzinfo=UTC)) == []
    assert list(kline_trio.universe(house, "2024-02-03", "spot")["status"]) == ["BREAK"]
    with pytest.raises(ValueError, match="at is no date or time"):
        kline_trio.universe(house, "soon")
    with pytest.raises(ValueError, match="at is a date"):
        kline_trio.universe(house, 5)  # type: ignore[arg-type]


def test_of_a_store_that_never_looked_nothing_is_known(tmp_path: Path) -> None:
    frame = kline_trio.universe(tmp_path)
    assert len(frame) == 0
    assert "symbol" in frame.columns
    assert list(kline_trio.universe(tmp_path, "2024-01-01").columns) == [*frame, "is_trading"]


def test_a_list_that_did_not_change_writes_nothing(house: Path) -> None:
    file = UniverseFile.open(house)
    file.append(())
    assert not universe_path(house).exists()
    see(file, "spot", START_MS, BTC)
    before = universe_path(house).stat().st_mtime_ns, universe_path(house).stat().st_ino
    assert see(file, "spot", START_MS + 5, BTC) == 0
    assert (universe_path(house).stat().st_mtime_ns, universe_path(house).stat().st_ino) == before
    assert list(scratch(house).iterdir()) == []


@pytest.mark.parametrize("damage", ["cut", "flip", "text", "columns", "symbol"])
def test_a_damaged_file_is_kept_aside_and_a_new_one_begun(
    damage: str, house: Path, caplog: pytest.LogCaptureFixture
) -> None:
    see(UniverseFile.open(house), "spot", START_MS, BTC, PERPETUAL)
    path = universe_path(house)
    content = path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[:-20])
    elif damage == "flip":
        path.write_bytes(content[:40] + bytes([content[40] ^ 1]) + content[41:])
    elif damage == "text":
        path.write_text("BTCUSDT")
    elif damage == "columns":
        pd.DataFrame({"symbol": ["BTCUSDT"]}).to_parquet(path)
    else:
        frame = pd.read_parquet(path)
        frame["symbol"] = "../x"
        frame.to_parquet(path)
    damaged = path.read_bytes()
    if damage != "symbol":
        with pytest.raises(DamagedError, match=r"universe\.parquet"):
            kline_trio.universe(house)
    with caplog.at_level(logging.ERROR):
        file = UniverseFile.open(house)
    assert "universe.parquet" in caplog.text
    assert (file._table.num_rows, file.latest) == (0, {})
    assert not path.exists()
    assert (house / INTERNAL / "quarantine/0001" / path.name).read_bytes() == damaged
    assert see(file, "spot", START_MS, BTC) == 1
    assert UniverseFile.open(house).latest == {"spot": by_symbol(BTC)}


def test_columns_of_a_later_version_are_passed_over(house: Path) -> None:
    see(UniverseFile.open(house), "spot", START_MS, BTC)
    frame = pd.read_parquet(universe_path(house))
    frame.assign(later=1).to_parquet(universe_path(house))
    assert UniverseFile.open(house).latest == {"spot": by_symbol(BTC)}


def test_a_write_that_fails_changes_nothing(house: Path) -> None:
    file = UniverseFile.open(house)
    see(file, "spot", START_MS, BTC)
    before = universe_path(house).read_bytes()
    scratch(house).rmdir()
    scratch(house).touch()
    with pytest.raises(DiskError):
        see(file, "spot", START_MS + 1, PERPETUAL)
    assert universe_path(house).read_bytes() == before
    assert (file._table.num_rows, file.latest) == (1, {"spot": by_symbol(BTC)})
    scratch(house).unlink()
    assert see(file, "spot", START_MS + 1, PERPETUAL) == 2


def test_what_does_not_come_back_as_it_was_written_does_not_replace_the_file(
    house: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = UniverseFile.open(house)
    see(file, "spot", START_MS, BTC)
    before = universe_path(house).read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(
            "kline_trio.storage.sidecar.read_group",
            lambda file, group, _: file.read_row_group(group).slice(1),
        )
        with pytest.raises(DiskError, match="does not give back what was written"):
            see(file, "spot", START_MS + 1, PERPETUAL)
    assert universe_path(house).read_bytes() == before
    assert see(file, "spot", START_MS + 2, PERPETUAL) == 2


def test_candle_readers_and_checks_do_not_see_it(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    see(UniverseFile.open(tmp_path), "spot", START_MS, BTC)
    store.close()
    assert kline_trio.series(tmp_path) == []
    assert pq.read_metadata(universe_path(tmp_path)).num_rows == 1


def test_the_recorded_lists_of_three_markets(house: Path) -> None:
    if not RECORDED.exists():
        pytest.skip(f"no recorded answers at {RECORDED}")
    file = UniverseFile.open(house)
    seen = {}
    for number, name in enumerate(
        ("coin_futures-2021-07-22", "usdt_futures-2021-07-22", "spot-2021-08-14",
         "usdt_futures-2026-10-07-trimmed")
    ):  # fmt: skip
        trade_type = name.split("-")[0]
        listings = read_exchange_info((RECORDED / f"{name}.json").read_bytes()).listings
        see(file, trade_type, START_MS + number * DAY_MS, *listings.values())
        seen[trade_type] = listings
    assert UniverseFile.open(house).latest == seen
    frame = kline_trio.universe(house, datetime(2024, 2, 2, 12, tzinfo=UTC))
    # Less the quarterly ones of 2021, which are long over.
    assert frame["is_trading"].value_counts().to_dict() == {True: 1_193 + 119 + 18, False: 417}
    after = kline_trio.universe(house, "2025-01-01", "usdt_futures")
    assert set(after["symbol"][after["is_trading"]]) == {
        "BTCUSDT", "XAUUSDT", "币安人生USDT", "BTCUSDT_261225",
    }  # fmt: skip
    assert (after["status"] == GONE).sum() == len(after) - 5


def test_a_recorder_that_keeps_it_loads_no_pandas(house: Path) -> None:
    see(UniverseFile.open(house), "spot", START_MS, BTC)
    code = (
        "import sys; from pathlib import Path\n"
        "from kline_trio.listing import Listing\n"
        "from kline_trio.storage.universe import UniverseFile, changes\n"
        "file = UniverseFile.open(Path(sys.argv[1]))\n"
        "seen = {'A': Listing(symbol='A')}\n"
        "file.append(changes('spot', file.latest['spot'], seen, 5))\n"
        "print(file._table.num_rows, 'pandas' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(house)], capture_output=True, text=True, check=True,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.stdout.split() == ["3", "False"]


texts = st.none() | st.sampled_from(["", "USDT", "牛", 'a"\n,', "0.10"])
dates = st.none() | st.integers(0, 253_370_764_799_999)
looks = st.lists(
    st.tuples(
        st.sampled_from(["spot", "usdt_futures"]),
        st.dictionaries(
            st.sampled_from(["A", "B_1", "牛来USDT"]),
            st.tuples(st.sampled_from(["TRADING", "BREAK", "x"]), texts, texts, dates, dates),
        ),
    ),
    max_size=6,
)


@settings(deadline=None, max_examples=60)
@given(looks, st.booleans())
def test_at_any_moment_the_rows_give_the_state_that_was_seen(
    tmp_path_factory: pytest.TempPathFactory,
    looks: list[tuple[str, dict[str, tuple[str, str | None, str | None, int | None, int | None]]]],
    reopens: bool,
) -> None:
    store_path = tmp_path_factory.mktemp("store")
    scratch(store_path).mkdir(parents=True)
    file = UniverseFile.open(store_path)
    state: dict[str, dict[str, Listing]] = {}
    states = []
    for number, (trade_type, entries) in enumerate(looks):
        listings = [
            Listing(
                symbol=symbol, status=status, base=base, tick_size=tick, onboard_ms=on,
                delivery_ms=end,
            )
            for symbol, (status, base, tick, on, end) in entries.items()
        ]  # fmt: skip
        see(file, trade_type, START_MS + number * 1_000, *listings)
        if reopens:
            file = UniverseFile.open(store_path)
        state = {**state, trade_type: by_symbol(*listings)}
        states.append((START_MS + number * 1_000, state))
        assert {name: held for name, held in file.latest.items() if held} == {
            name: held for name, held in state.items() if held
        }
    for moment_ms, state in states:
        for at_ms in (moment_ms, moment_ms + 999):
            at = datetime.fromtimestamp(at_ms / 1_000, UTC)
            assert read_state(store_path, at) == {
                (name, one.symbol): (
                    one.status,
                    one.is_trading and (one.delivery_ms is None or one.delivery_ms > at_ms),
                )
                for name, held in state.items()
                for one in held.values()
            }


def read_state(store_path: Path, at: datetime) -> dict[tuple[str, str], tuple[str, bool]]:
    frame = kline_trio.universe(store_path, at)
    gone = frame["status"] == GONE
    assert not frame["is_trading"][gone].any()
    names = zip(frame["trade_type"][~gone], frame["symbol"][~gone], strict=True)
    said = zip(frame["status"][~gone], frame["is_trading"][~gone], strict=True)
    return dict(zip(names, said, strict=True))


def test_texts_of_the_exchange_come_back_as_they_are(house: Path) -> None:
    odd = attrs.evolve(BTC, status='2024-01-01 "\n', contract_type="", base="null", quote="牛")
    see(UniverseFile.open(house), "spot", START_MS, odd)
    assert UniverseFile.open(house).latest["spot"]["BTCUSDT"] == odd


@given(looks, looks, st.booleans())
@settings(deadline=None, max_examples=40)
def test_two_who_saw_the_same_market_are_united_in_either_order(
    tmp_path_factory: pytest.TempPathFactory,
    first: list[tuple[str, dict[str, tuple[str, str | None, str | None, int | None, int | None]]]],
    second: list[tuple[str, dict[str, tuple[str, str | None, str | None, int | None, int | None]]]],
    same: bool,
) -> None:
    folder = tmp_path_factory.mktemp("stores")
    for name, looks in (("a", first), ("b", first if same else second), ("ab", []), ("ba", [])):
        scratch(folder / name).mkdir(parents=True)
        file = UniverseFile.open(folder / name)
        for number, (trade_type, entries) in enumerate(looks):
            listings = [
                Listing(symbol=symbol, status=status, base=base)
                for symbol, (status, base, *_) in entries.items()
            ]
            see(file, trade_type, START_MS + number, *listings)
    unite_universes([folder / "a", folder / "b"], UniverseFile.open(folder / "ab"))
    unite_universes([folder / "b", folder / "a"], UniverseFile.open(folder / "ba"))
    united = kline_trio.universe(folder / "ab")
    pd.testing.assert_frame_equal(united, kline_trio.universe(folder / "ba"))
    if same:
        one = kline_trio.universe(folder / "a")
        names = ["time", "trade_type", "symbol"]
        pd.testing.assert_frame_equal(
            united.sort_values(names, ignore_index=True), one.sort_values(names, ignore_index=True)
        )
    if first or second:
        assert united.shape[0] <= sum(len(kline_trio.universe(folder / one)) for one in "ab")


def test_what_two_saw_one_after_the_other_is_one_row(tmp_path: Path) -> None:
    """The second look says nothing that the first has not said."""
    halted = attrs.evolve(BTC, status="BREAK")
    for name, seen in (("a", [(0, BTC), (50, halted)]), ("b", [(7, BTC), (60, halted)])):
        scratch(tmp_path / name).mkdir(parents=True)
        for after_ms, listing in seen:
            see(UniverseFile.open(tmp_path / name), "spot", START_MS + after_ms, listing)
    scratch(tmp_path / "c").mkdir(parents=True)
    unite_universes([tmp_path / "a", tmp_path / "b"], UniverseFile.open(tmp_path / "c"))
    frame = kline_trio.universe(tmp_path / "c")
    assert list(frame["status"]) == ["TRADING", "BREAK"]
    assert [moment.value // 1_000_000 - START_MS for moment in frame["time"]] == [0, 50]


def test_a_store_that_is_laid_out_anew_keeps_what_the_symbols_were(tmp_path: Path) -> None:
    open_store(tmp_path / "old").close()
    see(UniverseFile.open(tmp_path / "old"), "spot", START_MS, BTC)
    assert list(unite([tmp_path / "old"], tmp_path / "new", Layout())) == []
    assert UniverseFile.open(tmp_path / "new").latest == {"spot": by_symbol(BTC)}
