"""A month may go only if the lake has all that is known of it."""

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import attrs
import pytest
from deltalake import DeltaTable

from kline_trio.candle import Series
from kline_trio.interval import DAY_MS
from kline_trio.lake.errors import ForeignLakeError, LakeDeniedError
from kline_trio.lake.lacking import lacking
from kline_trio.lake.location import Location
from kline_trio.lake.merge import moment
from kline_trio.lake.read_back import Found, Kept, read_back
from kline_trio.lake.tables import LakeTable, open_table
from kline_trio.storage.journal.ledger import Gap, Reason, SeriesAccount, State
from kline_trio.storage.journal.pruned import Pruned
from kline_trio.storage.journal.reader import JournalView, journal_view
from kline_trio.storage.step import Step
from kline_trio.storage.store import Store
from tests.lake.filling import lake_in, publish_store
from tests.lake.support import ETH, FIRST, fill_from_archive, make_store
from tests.storage.support import (
    BTC,
    at,
    make_candle,
    merge_all,
    minutes,
    open_store,
    receive,
    span,
)

DAY = 86_400.0
JANUARY = span(FIRST, 1_440)


@attrs.frozen(eq=False)
class Lab:
    """A store of two series, whose first month ends at minute 1,440, and its lake."""

    store: Store
    location: Location

    @property
    def address(self) -> str:
        return json.dumps({"folder": self.location.url})

    def look(
        self, keep_seconds: float = DAY, most_rows: int = 250_000
    ) -> tuple[list[Found], list[Kept]]:
        found, kept = list[Found](), list[Kept]()

        def on_group(some: Sequence[Found], others: Sequence[Kept]) -> None:
            found.extend(some)
            kept.extend(others)

        read_back(self.location, self.store.path, keep_seconds, on_group, most_rows)
        return found, kept

    def publish(self) -> None:
        merge_all(self.store)
        publish_store(self.store, self.location)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """Each due candle of the first month is stored, or a gap that is closed."""
    store = make_store(tmp_path / "data")
    rest = Gap(ETH, span(FIRST + 6, 1_440), at(1_440), Reason.DELISTED, State.CLOSED)
    store.journal.settle([rest], {})
    fill_from_archive(store, ETH, [make_candle(at(FIRST + 5))])
    store.journal.beat(None, {"spot": at(1_440) + 2 * DAY_MS}, 0)
    yield Lab(store, lake_in(tmp_path / "lake"))
    store.close()


def names(found: Sequence[Found]) -> list[Series]:
    return [one.pruned.series for one in found]


def reasons(kept: Sequence[Kept]) -> dict[Series, str]:
    return {one.month.series: one.why for one in kept}


def test_a_month_that_the_lake_has_is_read_back(lab: Lab) -> None:
    lab.publish()
    found, kept = lab.look()
    assert kept == []
    assert names(found) == [BTC, ETH]
    [btc, _] = found
    assert btc.pruned.span == JANUARY
    assert (btc.pruned.rows, btc.here.rows) == (8, 8)
    assert btc.pruned.checksum == btc.here.checksum
    assert btc.pruned.pruned_ms == at(1_440) + 2 * DAY_MS
    assert btc.pruned.version == DeltaTable(lab.location.table_url("candles")).version()


def test_a_month_that_is_read_in_slices_is_the_same(lab: Lab) -> None:
    lab.publish()
    whole, _ = lab.look(most_rows=1_000_000)
    assert lab.look(most_rows=44_636)[0] == whole


def test_a_month_is_kept_for_the_time_that_was_asked_for(lab: Lab) -> None:
    lab.publish()
    assert lab.look(keep_seconds=2 * DAY)[0]
    assert lab.look(keep_seconds=2 * DAY + 1) == ([], [])


def test_what_is_not_published_stays(lab: Lab) -> None:
    lab.publish()
    lab.store.journal.accept(minutes(FIRST + 2, FIRST + 3, 77.0))
    found, kept = lab.look()
    assert names(found) == [ETH]
    assert reasons(kept) == {BTC: "is not published yet"}


def test_a_month_with_candles_that_are_asked_for_stays(lab: Lab) -> None:
    lab.store.journal.settle([], {ETH: SeriesAccount(at(FIRST - 5), at(FIRST + 40))})
    pending = Gap(ETH, span(FIRST - 5, FIRST), at(FIRST), Reason.NOT_RECEIVED)
    lab.store.journal.settle([pending], {})
    lab.publish()
    _, kept = lab.look()
    assert reasons(kept) == {ETH: "has candles that are still asked for"}


def test_a_hole_that_nothing_explains_stays(lab: Lab) -> None:
    lab.store.journal.settle([], {ETH: SeriesAccount(at(FIRST - 5), at(FIRST + 40))})
    lab.publish()
    _, kept = lab.look()
    assert reasons(kept) == {ETH: "has 5 candles that nothing explains: check the store"}


def test_a_month_that_is_not_accounted_for_stays(lab: Lab) -> None:
    lab.store.journal.settle([], {ETH: SeriesAccount(at(FIRST), at(FIRST + 6))})
    lab.publish()
    found, kept = lab.look()
    assert (names(found), kept) == ([BTC], [])


def test_a_retired_series_is_read_back_up_to_its_end(lab: Lab) -> None:
    lab.store.journal.settle([], {ETH: SeriesAccount(at(FIRST), at(FIRST + 6), at(FIRST + 6))})
    lab.publish()
    assert sorted(names(lab.look()[0])) == [BTC, ETH]


def test_a_candle_that_the_lake_lacks_keeps_its_month(lab: Lab) -> None:
    lab.publish()
    delta = DeltaTable(lab.location.table_url("candles"))
    delta.delete(f"symbol = 'ETHUSDT' AND trade_num >= 0 AND candle_begin_time = {_time(FIRST)}")
    found, kept = lab.look()
    assert names(found) == [BTC]
    assert reasons(kept) == {ETH: "has 1 candle that the lake lacks"}


def test_another_value_in_the_lake_keeps_its_month(lab: Lab) -> None:
    lab.publish()
    delta = DeltaTable(lab.location.table_url("candles"))
    delta.update({"close": "close + 1"}, predicate=f"candle_begin_time = {_time(FIRST + 1)}")
    found, kept = lab.look()
    assert found == []
    why = "differs: 1 candle has other values in the lake, by another recorder"
    assert reasons(kept) == {BTC: why, ETH: why}


@pytest.mark.parametrize(
    ("table", "why"),
    [
        ("coverage", "has other gaps in the lake"),
        ("revisions", "has revisions that the lake lacks"),
        ("accounts", "is not accounted for in the lake"),
    ],
)
def test_a_ledger_that_the_lake_lacks_keeps_its_month(lab: Lab, table: str, why: str) -> None:
    lab.publish()
    DeltaTable(lab.location.table_url(table)).delete("symbol = 'BTCUSDT'")
    _, kept = lab.look()
    assert reasons(kept)[BTC] == why


def test_more_candles_in_the_lake_do_no_harm(lab: Lab, tmp_path: Path) -> None:
    other = open_store(tmp_path / "other")
    other.journal.accept(receive(ETH, make_candle(at(FIRST + 8))))
    publish_store(other, lab.location, "rec-b")
    other.close()
    lab.publish()
    found, kept = lab.look()
    assert kept == []
    [_, eth] = found
    assert (eth.here.rows, eth.pruned.rows) == (6, 7)
    assert eth.here.checksum != eth.pruned.checksum


def test_another_lake_is_refused(lab: Lab, tmp_path: Path) -> None:
    lab.publish()
    other = lake_in(tmp_path / "elsewhere")
    with pytest.raises(ForeignLakeError, match="there is no lake yet: publish first"):
        read_back(other, lab.store.path, DAY, lambda *_: None)
    publish_store(make_store(tmp_path / "more"), other, "rec-b")
    with pytest.raises(ForeignLakeError, match="is not the lake to which"):
        read_back(other, lab.store.path, DAY, lambda *_: None)


def test_the_lake_lacks_nothing_until_somebody_deletes(lab: Lab) -> None:
    lab.publish()
    months = [one.pruned for one in lab.look()[0]]
    assert lab.store.journal.prune(months, lab.address) == months
    assert lacking(lab.location, lab.store.path) == []
    delta = DeltaTable(lab.location.table_url("candles"))
    delta.delete(f"symbol = 'ETHUSDT' AND candle_begin_time = {_time(FIRST)}")
    [text] = lacking(lab.location, lab.store.path)
    assert text.endswith(
        "/lake: spot ETHUSDT-1m of 2024-01: 1 candle is gone, which was removed here"
    )


def test_a_file_that_is_gone_from_the_lake_shows(lab: Lab) -> None:
    lab.publish()
    months = [one.pruned for one in lab.look()[0]]
    lab.store.journal.prune(months, lab.address)
    for path in Path(lab.location.url, "candles").rglob("month=2024-01/*.parquet"):
        path.unlink()
    [text] = lacking(lab.location, lab.store.path)
    assert text.startswith("spot 1m of 2024-01: ")


def test_months_of_an_earlier_lake_are_looked_for_there(lab: Lab, tmp_path: Path) -> None:
    lab.publish()
    months = [one.pruned for one in lab.look()[0]]
    lab.store.journal.prune(months, lab.address)
    later = lake_in(tmp_path / "later")
    publish_store(lab.store, later)
    assert lacking(later, lab.store.path) == []
    with journal_view(lab.store.path) as journal:
        assert {one.lake for one in journal.pruned()} != {journal.lake().lake}  # type: ignore[union-attr]


def test_each_step_is_told_since_a_silent_process_is_ended(lab: Lab) -> None:
    lab.publish()
    steps = list[str]()

    def on_step(step: Step) -> None:
        steps.append(step.what)

    read_back(lab.location, lab.store.path, DAY, lambda *_: None, on_step=on_step)
    remove(lab)
    lacking(lab.location, lab.store.path, on_step)
    assert steps == [
        "looking for old months",
        "reading gaps, revisions and accounts in the lake",
        "reading back 2024-01",
        "counting spot 1m of 2024-01 in the lake",
    ]


def test_months_of_an_earlier_lake_that_cannot_be_found_are_named(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lab.publish()
    remove(lab)
    earlier, later = lab.location, lake_in(tmp_path / "later")
    publish_store(lab.store, later)

    def refuse(location: Location, name: str) -> LakeTable | None:
        if location.url == earlier.url:
            raise LakeDeniedError(f"{earlier.url}: HTTP 403")
        return open_table(location, name)

    monkeypatch.setattr("kline_trio.lake.lacking.open_table", refuse)
    gone = "2 months were removed here"
    assert lacking(later, lab.store.path) == [f"{earlier.url}: HTTP 403, and {gone}"]
    monkeypatch.setattr(JournalView, "lake_addresses", lambda _: {})
    text = "the address of an earlier lake is not known"
    assert lacking(later, lab.store.path) == [f"{text}, and {gone}"]


def remove(lab: Lab) -> None:
    """What a recorder does with the months that it may remove."""
    found, journal = lab.look()[0], lab.store.journal
    assert len(journal.prune([one.pruned for one in found], lab.address)) == len(found)
    for one in found:
        series = one.pruned.series
        done = lab.store.remove_months(series, [one.here], journal.files([series]))
        journal.list_pruned(done.written, done.removed)


def test_a_candle_that_comes_after_its_month_was_removed_goes_too(lab: Lab) -> None:
    lab.publish()
    remove(lab)
    lab.store.journal.accept(minutes(FIRST + 2, FIRST + 3, 77.0))
    lab.publish()
    [btc], kept = lab.look()
    assert kept == []
    assert (btc.pruned.rows, btc.here.rows) == (8, 1)


@pytest.mark.parametrize("is_elsewhere", [False, True])
def test_a_lake_with_less_of_a_removed_month_does_not_pass_for_it(
    lab: Lab, tmp_path: Path, *, is_elsewhere: bool
) -> None:
    lab.publish()
    remove(lab)
    before = _pruned(lab)
    lab.store.journal.accept(minutes(FIRST + 2, FIRST + 3, 77.0))
    lab.publish()
    other = attrs.evolve(lab, location=lake_in(tmp_path / "later")) if is_elsewhere else lab
    other.publish()
    if not is_elsewhere:
        delta = DeltaTable(lab.location.table_url("candles"))
        delta.delete(f"symbol = 'BTCUSDT' AND candle_begin_time = {_time(FIRST)}")
    found, kept = other.look()
    assert found == []
    lacks = "7 candles" if is_elsewhere else "1 candle"
    assert reasons(kept) == {BTC: f"was removed here before, and the lake lacks {lacks}"}
    assert _pruned(lab) == before


def test_an_older_lake_than_the_one_that_was_read_shows(lab: Lab) -> None:
    lab.publish()
    months = [attrs.evolve(one.pruned, version=9) for one in lab.look()[0]]
    lab.store.journal.prune(months, lab.address)
    [text] = lacking(lab.location, lab.store.path)
    assert "lake: is at version " in text
    assert text.endswith(", and was at 9 when it was read")


def _time(minute: int) -> str:
    return moment(datetime.fromtimestamp(at(minute) / 1_000, UTC))


def _pruned(lab: Lab) -> list[Pruned]:
    with journal_view(lab.store.path) as journal:
        return journal.pruned()
