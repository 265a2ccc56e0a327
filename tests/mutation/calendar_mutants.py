"""Mutants of what the page asks of a store: the calendar of completeness, and coarser candles."""

from tests.mutation.mutant import Mutant

__all__ = ["CALENDAR"]

_CALENDAR = "storage/test_calendar.py"
_COARSE = "storage/test_coarse.py"
_INDEX = "storage/test_ledger_index.py"
_QUERIES = "storage/journal/test_queries.py"
_WIDTHS = "storage/test_widths.py"

CALENDAR = (
    Mutant(
        "a gap is counted in the cell after it",
        "storage/cells.py",
        "place = np.tile(row, 2) * len(edges) + np.searchsorted(edges, moment)",
        'place = np.tile(row, 2) * len(edges) + np.searchsorted(edges, moment, "right")',
        f"{_INDEX}::test_each_interval_is_counted_by_its_own_calendar",
    ),
    Mutant(
        "gaps before the first due candle count",
        "storage/cells.py",
        "begin = np.maximum(gaps.begin[at], np.maximum(members.first, edges[0])[owner])",
        "begin = np.maximum(gaps.begin[at], edges[0])",
        f"{_INDEX}::test_gaps_before_the_first_due_candle_do_not_count",
    ),
    Mutant(
        "a cell without a candle has the reasons of a gap that reaches over it",
        "storage/cells.py",
        "found |= (is_in & (np.diff(edges) > 0)).astype(np.int64) << code",
        "found |= is_in.astype(np.int64) << code",
        f"{_INDEX}::test_an_hour_without_a_candle_is_not_due_even_inside_a_gap",
    ),
    Mutant(
        "what the stream filled late has a reason",
        "storage/cells.py",
        "chosen = (gaps.reason == code) & is_told",
        "chosen = gaps.reason == code",
        f"{_INDEX}::test_what_the_stream_filled_late_has_no_reason_beside_a_gap_that_has_the_same",
    ),
    Mutant(
        "a gap after the watermark is unaccounted for",
        "storage/cells.py",
        "unaccounted -= _spread(begin, end, gaps.group, groups, edges)",
        "pass",
        f"{_INDEX}::test_a_gap_after_the_watermark_is_accounted_for",
    ),
    Mutant(
        "a recorder that has just begun has looked at all series",
        "storage/cells.py",
        "return (due.began_ms or 0) - _SCAN_MS, due.until_ms",
        "return 0, due.until_ms",
        f"{_INDEX}::test_a_recorder_that_began_lately_has_not_looked_at_old_watermarks",
    ),
    Mutant(
        "a recorder that is gone judged all candles until its last heartbeat",
        "storage/cells.py",
        "return heard_ms - _KEPT_MS, heard_ms - _NAMED_MS",
        "return heard_ms - _KEPT_MS, heard_ms",
        f"{_INDEX}::test_a_recorder_that_was_killed_judged_candles_until_its_last_heartbeat",
    ),
    Mutant(
        "a series is due after it was retired",
        "storage/cells.py",
        "here = np.flatnonzero((accounts.market[at] == code) & ~accounts.is_over[at])",
        "here = np.flatnonzero(accounts.market[at] == code)",
        f"{_INDEX}::test_a_retired_series_is_due_up_to_its_watermark",
    ),
    Mutant(
        "what a recorder judged is not due if the time goes back",
        "storage/cells.py",
        "end[here] = np.maximum(end[here], until)",
        "end[here] = until",
        f"{_INDEX}::test_candles_after_the_watermark_are_stored_while_a_recorder_runs",
    ),
    Mutant(
        "absent is better than unaccounted",
        "storage/calendar.py",
        "if self.absent:\nreturn CellState.ABSENT\nif self.unaccounted:",
        "if self.absent and not self.unaccounted:\n"
        "    return CellState.ABSENT\n"
        "if self.unaccounted:",
        f"{_CALENDAR}::test_the_worst_decides_the_state_of_a_cell",
    ),
    Mutant(
        "runs of different reasons are one",
        "storage/calendar.py",
        "for column in (np.where(is_complete, -1, due), *columns[1:]):",
        "for column in (np.where(is_complete, -1, due), *lacks):",
        f"{_CALENDAR}::test_cells_with_other_reasons_are_other_runs",
    ),
    Mutant(
        "candles of gaps that overlap count twice",
        "storage/ledger_index.py",
        "begin[1:] = np.maximum(begin[1:], np.where(owner[1:] == owner[:-1], furthest[:-1], 0))",
        "pass",
        f"{_INDEX}::test_gaps_of_a_damaged_journal_that_overlap_count_once",
    ),
    Mutant(
        "a copy is due for ever",
        "storage/ledger_index.py",
        "is_over = has_none | is_copy",
        "is_over = has_none.copy()",
        f"{_INDEX}::test_a_copy_without_a_journal_has_the_ledger_in_its_coverage",
    ),
    Mutant(
        "a month is as long as any other",
        "storage/numbering.py",
        'months = times.astype("datetime64[ms]").astype("datetime64[M]")',
        'months = (times // 2_629_746_000).astype("datetime64[M]")',
        f"{_INDEX}::test_each_interval_is_counted_by_its_own_calendar",
    ),
    Mutant(
        "a change of a watermark leaves the version of the ledger",
        "storage/journal/reader.py",
        '_ACCOUNTS = f"SELECT id, {_SERIES}, first_ms, watermark_ms, retired_ms FROM series"'
        "  # noqa: S608",
        '_ACCOUNTS = f"SELECT id, {_SERIES}, first_ms, retired_ms FROM series"',
        f"{_INDEX}::test_the_version_tells_each_change_of_the_ledger",
    ),
    Mutant(
        "a gap that ends where a range begins is in it",
        "storage/journal/reader.py",
        '"to_ms > ?",',
        '"to_ms >= ?",',
        f"{_QUERIES}::test_a_gap_that_only_touches_a_range_is_not_in_it",
    ),
    Mutant(
        "a coarse candle ends with a piece that was read",
        "storage/coarse.py",
        "columns: dict[str, Any] = _reduced(whole)",
        "columns: dict[str, Any] = whole",
        f"{_COARSE}::test_row_groups_are_read_one_at_a_time",
    ),
    Mutant(
        "the candle that covers the begin of a chart counts as a point",
        "storage/coarse.py",
        "from_ms = series.interval.next_open_time_ms(from_ms)",
        "pass",
        f"{_COARSE}::test_a_range_that_begins_within_a_candle_is_no_coarser",
    ),
    Mutant(
        "a coarse candle opens with its last candle",
        "storage/coarse.py",
        '"open": columns["open"][firsts],',
        '"open": columns["open"][lasts],',
        f"{_COARSE}::test_a_coarse_candle_has_the_first_open_the_last_close_and_the_sums",
    ),
    Mutant(
        "REST wins over a file in a chart",
        "storage/coarse.py",
        "return attrs.evolve(changes, replacing=replacing, filling=filling).over(table)",
        "return overlay(overlay(table, replacing), filling)",
        f"{_COARSE}::test_rows_of_the_archive_fill_and_do_not_replace",
    ),
    Mutant(
        "files that overlap are read one after the other",
        "storage/coarse.py",
        "if some and file.first_ms > max(one.last_ms for one in some):",
        "if some:",
        f"{_COARSE}::test_files_that_overlap_are_one_series",
    ),
    Mutant(
        "a width is no multiple of the interval",
        "storage/widths.py",
        "if is_coarser and (width.months"
        " or (own_ms is not None and not width.duration_ms % own_ms)):",
        "if is_coarser:",
        f"{_WIDTHS}::test_each_width_is_a_multiple_of_its_interval",
    ),
)
