"""Answers from the store: calendar, events, series, candles, gaps, revisions and files."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import attrs
import trio

from kline_trio.candle import MAX_TIME_MS, Series
from kline_trio.errors import UnavailableError
from kline_trio.interval import Span
from kline_trio.monitor.http_message import Response
from kline_trio.monitor.page import series_rows as tables
from kline_trio.monitor.page.answers import csv_answer, json_answer
from kline_trio.monitor.page.calendar_rows import (
    CALENDAR_COLUMNS,
    MOST_ROWS,
    Folding,
    calendar_table,
    calendar_values,
    visible_rows,
    words_of,
)
from kline_trio.monitor.page.candles import MOST_POINTS, CandleQuery, candles_answer
from kline_trio.monitor.page.event_log import (
    EVENT_COLUMNS,
    MOST_EVENTS,
    Event,
    gap_events,
    newest_first,
    revision_event,
    status_events,
)
from kline_trio.monitor.page.look import Look
from kline_trio.monitor.page.parameters import (
    BadRequestError,
    Format,
    GapState,
    NotFoundError,
    Parameters,
    key_of,
)
from kline_trio.monitor.page.shared_answers import SharedAnswers
from kline_trio.monitor.page.sources import Source
from kline_trio.monitor.page.store_index import StoreIndex
from kline_trio.monitor.page.zoom import Window, Zoom
from kline_trio.storage.gaps import stored_gaps
from kline_trio.storage.journal.ledger import State
from kline_trio.storage.journal.reader import journal_view

MOST_TABLE_ROWS = 5_000
"""Of one answer."""
_USUAL_ROWS = 200
_USUAL_CALENDAR_ROWS = 40
_USUAL_POINTS = 1_500
_DISK_SECONDS = 30.0
_T = TypeVar("_T")


@attrs.define(eq=False)
class StoreAnswers:
    """Answers questions about one store."""

    source: Source
    index: StoreIndex
    shared: SharedAnswers
    _disk: trio.CapacityLimiter = attrs.field(init=False, factory=lambda: trio.CapacityLimiter(1))
    """For what reads the disk: all readers get one core at most."""

    async def calendar(self, parameters: Parameters) -> Response:
        """Return the cells of some visible rows."""
        zoom = parameters.word("zoom", Zoom.DAY)
        folding = Folding(
            open=frozenset(parameters.texts("open")),
            closed=frozenset(parameters.texts("closed")),
            words=words_of(parameters.text("q")),
        )
        offset = parameters.number("offset", 0, 0, 1_000_000)
        limit = parameters.number("limit", _USUAL_CALENDAR_ROWS, 1, MOST_ROWS)
        from_ms, to_ms = parameters.moment("from_ms"), parameters.moment("to_ms")
        form = parameters.word("format", Format.JSON)
        look = await self.index.get()
        try:
            window = Window.of(zoom, from_ms, to_ms, self._now_ms(look))
        except ValueError as error:
            raise BadRequestError(str(error)) from None

        def render() -> Response:
            rows = visible_rows(look.calendar.series, folding)
            if form is Format.CSV:
                shown = rows[offset : offset + limit]
                table = calendar_table(look.calendar, look.due, window, shown)
                return csv_answer("calendar", CALENDAR_COLUMNS, table)
            values = calendar_values(look.calendar, look.due, window, rows, offset, limit)
            return json_answer({"version": look.version, **values})

        bounds = (window.edges_ms[0], window.end_ms)
        question = ("calendar", zoom, bounds, folding, offset, limit, form)
        return await self.shared.get(question, look.version, render)

    def _now_ms(self, look: Look) -> int:
        now_ms = self.source.moment(look).now_ms
        if now_ms is not None:
            return now_ms
        # Nothing tells the exchange's time: show up to the newest candle of a copy.
        return max((one.to_ms - 1 for one in look.spans if one is not None), default=0)

    async def events(self, parameters: Parameters) -> Response:
        """Return the newest events, of all or of a series."""
        limit = parameters.number("limit", _USUAL_ROWS, 1, MOST_EVENTS)
        before_ms = parameters.moment("before_ms")
        series = parameters.optional_series()
        form = parameters.word("format", Format.JSON)
        look = await self.index.get()
        if series is not None:
            self._check_known(look, series)
            return await self._on_disk(
                lambda: _events_answer(form, *self._series_events(look, series, before_ms, limit))
            )
        lived = self.source.chronicle.events

        def render() -> Response:
            rows = look.rows
            parts = (
                gap_events(rows.gaps, look.healing, before_ms, limit + 1),
                status_events(rows.changes),
                map(revision_event, rows.revisions),
                lived,
            )
            return _events_answer(form, *newest_first(parts, limit, before_ms))

        version = (look.events_version, self.source.chronicle.version)
        return await self.shared.get(("events", limit, before_ms, form), version, render)

    def _series_events(
        self, look: Look, series: Series, before_ms: int | None, limit: int
    ) -> tuple[list[Event], bool]:
        path = self.source.store_path
        gaps = stored_gaps(path, series, Span(0, MAX_TIME_MS), tuple(State), MOST_EVENTS)
        with journal_view(path) as journal:
            revisions = journal.revisions_of(series, MOST_EVENTS)
        changes = [
            one
            for one in look.rows.changes
            if (one.trade_type, one.symbol) == (series.trade_type, series.symbol)
        ]
        parts = (
            gap_events(gaps, look.healing, is_grouped=False),
            status_events(changes),
            map(revision_event, revisions),
        )
        return newest_first(parts, limit, before_ms)

    async def series(self, parameters: Parameters) -> Response:
        """Return the list of series, or of those that the words of a search match."""
        folding = Folding(words=words_of(parameters.text("q")))
        limit = parameters.number("limit", _USUAL_ROWS, 1, MOST_TABLE_ROWS)
        offset = parameters.number("offset", 0, 0, 1_000_000)
        form = parameters.word("format", Format.JSON)
        look = await self.index.get()

        def render() -> Response:
            rows = tables.series_rows(look, folding)
            shown = rows[offset : offset + limit]
            is_truncated = len(rows) > offset + limit
            more = {"total": len(rows), "offset": offset, "truncated": is_truncated}
            return _table(form, "series", tables.SERIES_COLUMNS, shown, more)

        question = ("series", folding.words, limit, offset, form)
        return await self.shared.get(question, look.version, render)

    async def summary(self, parameters: Parameters) -> Response:
        """Return one series with its neighbours."""
        series = parameters.series()
        look = await self.index.get()
        self._check_known(look, series)
        path = self.source.store_path
        return await self._on_disk(lambda: json_answer(tables.summary_of(look, series, path)))

    async def candles(self, parameters: Parameters) -> Response:
        """Return the candles of a series, coarser ones if they are too many."""
        query = CandleQuery(
            parameters.series(),
            parameters.moment("from_ms"),
            parameters.moment("to_ms"),
            parameters.number("points", _USUAL_POINTS, 1, MOST_POINTS),
        )
        form = parameters.word("format", Format.JSON)
        self._check_known(await self.index.get(), query.series)
        path = self.source.store_path
        return await self._on_disk(lambda: candles_answer(path, query, is_csv=form is Format.CSV))

    async def gaps(self, parameters: Parameters) -> Response:
        """Return the newest gaps of a series, or of all."""
        series = parameters.optional_series()
        from_ms, to_ms = parameters.moment("from_ms"), parameters.moment("to_ms")
        state = parameters.word("state", GapState.ANY)
        limit = parameters.number("limit", _USUAL_ROWS, 1, MOST_TABLE_ROWS)
        form = parameters.word("format", Format.JSON)
        if to_ms is not None and to_ms <= (from_ms or 0):
            raise BadRequestError("to_ms must be after from_ms")
        if series is not None:
            self._check_known(await self.index.get(), series)

        def render() -> Response:
            found = stored_gaps(
                self.source.store_path,
                series,
                Span(from_ms or 0, MAX_TIME_MS if to_ms is None else to_ms),
                tuple(State) if state is GapState.ANY else (State(state.value),),
                limit + 1,
            )
            rows = [tables.gap_row(one) for one in found]
            return _table(form, "gaps", tables.GAP_COLUMNS, rows[:limit], _more(rows, limit))

        return await self._on_disk(render)

    async def revisions(self, parameters: Parameters) -> Response:
        """Return the newest revisions of a series."""
        series = parameters.series()
        limit = parameters.number("limit", _USUAL_ROWS, 1, MOST_TABLE_ROWS)
        form = parameters.word("format", Format.JSON)
        self._check_known(await self.index.get(), series)

        def render() -> Response:
            with journal_view(self.source.store_path) as journal:
                found = journal.revisions_of(series, limit + 1)
            rows = [row for one in found[:limit] for row in tables.revision_rows(one)]
            more = {"truncated": len(found) > limit}
            return _table(form, "revisions", tables.REVISION_COLUMNS, rows, more)

        return await self._on_disk(render)

    async def files(self, parameters: Parameters) -> Response:
        """Return the files of a series."""
        series = parameters.series()
        form = parameters.word("format", Format.JSON)
        self._check_known(await self.index.get(), series)

        def render() -> Response:
            rows = tables.file_rows(self.source.store_path, series)
            more = _more(rows, MOST_TABLE_ROWS)
            return _table(form, "files", tables.FILE_COLUMNS, rows[:MOST_TABLE_ROWS], more)

        return await self._on_disk(render)

    def _check_known(self, look: Look, series: Series) -> None:
        if series not in look.places:
            raise NotFoundError(f"the store has no series {key_of(series)}")

    async def _on_disk(self, job: Callable[[], _T]) -> _T:
        # Abandoned if cancelled: a dead disk must not hold up the recorder's stop. Without a limit
        # requests would wait for it until they hold all connections, those of `/metrics` too.
        with trio.move_on_after(_DISK_SECONDS):
            return await trio.to_thread.run_sync(job, abandon_on_cancel=True, limiter=self._disk)
        raise UnavailableError(f"the disk has not answered for {_DISK_SECONDS:.0f} s: try again")


def _events_answer(form: Format, events: Sequence[Event], is_truncated: bool) -> Response:  # noqa: FBT001
    rows = [one.values() for one in events]
    return _table(form, "events", EVENT_COLUMNS, rows, {"truncated": is_truncated})


def _more(rows: Sequence[object], limit: int) -> dict[str, object]:
    return {"truncated": len(rows) > limit}


def _table(
    form: Format,
    name: str,
    columns: Sequence[str],
    rows: Sequence[Mapping[str, object]],
    more: Mapping[str, object],
) -> Response:
    """Return rows under a name with more values beside them, or as CSV."""
    if form is Format.CSV:
        return csv_answer(name, columns, ([row[one] for one in columns] for row in rows))
    return json_answer({name: rows, **more})
