"""Mutants of what the page is told: the sentence, the calendar's rows, events and the stream."""

from tests.mutation.mutant import Mutant

__all__ = ["PAGE"]

_SUMMARY = "monitor/page/test_summary.py"
_SOURCES = "monitor/page/test_sources.py"
_ROWS = "monitor/page/test_calendar_rows.py"
_ZOOM = "monitor/page/test_zoom.py"
_EVENTS = "monitor/page/test_event_log.py"
_CHRONICLE = "monitor/page/test_chronicle.py"
_HISTORY = "monitor/page/test_history.py"
_STREAM = "monitor/page/test_event_stream.py"
_INDEX = "monitor/page/test_store_index.py"
_API = "monitor/page/test_api.py"
_ONLY_IF_WHOLE = f"{_SUMMARY}::test_complete_is_said_only_if_nothing_lacks"

PAGE = (
    # The sentence
    Mutant(
        "all is complete while candles are not accounted for",
        "monitor/page/summary.py",
        "return not (pending or totals.pending or totals.absent or totals.unaccounted)",
        "return not (pending or totals.pending or totals.absent)",
        _ONLY_IF_WHOLE,
    ),
    Mutant(
        "all is complete while the recorder's own count found something pending",
        "monitor/page/summary.py",
        "return not (pending or totals.pending or totals.absent or totals.unaccounted)",
        "return not (totals.pending or totals.absent or totals.unaccounted)",
        _ONLY_IF_WHOLE,
    ),
    Mutant(
        "all is complete before the recorder has counted",
        "monitor/page/summary.py",
        "if totals is None or not facts.is_counted:",
        "if totals is None:",
        _ONLY_IF_WHOLE,
    ),
    Mutant(
        "all is complete although series have no count yet",
        "monitor/page/summary.py",
        "if facts.uncounted:",
        "if facts.uncounted > 10:",
        _ONLY_IF_WHOLE,
    ),
    Mutant(
        "in trouble all is complete up to now",
        "monitor/page/summary.py",
        'then = "" if until_ms is None else f" up to {_time_of_day(until_ms, facts.now_ms)}"',
        'then = ""',
        _ONLY_IF_WHOLE,
    ),
    Mutant(
        "almost all is a hundred percent",
        "monitor/page/summary.py",
        "return math.floor(100 * _DECIMALS * stored / due) / _DECIMALS if due else None",
        "return round(100 * stored / due, 3) if due else None",
        f"{_SUMMARY}::test_a_hundred_percent_is_all",
    ),
    Mutant(
        "a ledger from before the exchange's time was known counts",
        "monitor/page/moment.py",
        "is_counted=has_times and self.found.store.counted_seconds is not None,",
        "is_counted=self.found.store.counted_seconds is not None,",
        f"{_SOURCES}::test_nothing_is_complete_before_the_exchanges_time_is_known",
    ),
    # What is due
    Mutant(
        "a candle is due before its recorder can have named it",
        "monitor/page/sources.py",
        "return _whole_minute(market.exchange_ms - grace_ms - _LATE_MS)",
        "return _whole_minute(market.exchange_ms)",
        f"{_SOURCES}::test_what_is_due_of_a_recorder_has_been_named_or_stored",
    ),
    Mutant(
        "due is what the exchange says now",
        "monitor/page/sources.py",
        "before = {one.trade_type: one for one in oldest.markets}",
        "before = {one.trade_type: one for one in newest.markets}",
        f"{_SOURCES}::test_due_is_what_the_exchange_said_some_seconds_ago",
    ),
    Mutant(
        "a recorder whose disk is full counts as one that names gaps",
        "monitor/page/sources.py",
        "can_write = store.full_why is None and store.committing_seconds < _STUCK_SECONDS",
        "can_write = store.committing_seconds < _STUCK_SECONDS",
        f"{_SOURCES}::test_a_recorder_that_cannot_write_names_no_gaps",
    ),
    Mutant(
        "the time before the start counts as looked at",
        "monitor/page/sources.py",
        "one.trade_type: Due(until_ms, can_write, one.began_ms)",
        "one.trade_type: Due(until_ms, can_write)",
        f"{_SOURCES}::test_the_time_since_the_last_run_is_not_accounted_for_until_it_was_looked_at",
    ),
    Mutant(
        "a recorder of another process is counted on from its first second",
        "monitor/page/sources.py",
        "heard = heartbeat.pid is None or _runs_for(heartbeat.pid, wall_clock()) > _SCAN_SECONDS",
        "heard = True",
        f"{_SOURCES}::test_a_recorder_of_another_process_that_has_just_begun_is_not_counted_on",
    ),
    Mutant(
        "the begin of a run moves on with the clock",
        "recorder/observer.py",
        "if name not in self._began_ms and rest.clock.began_ms is not None:",
        "if rest.clock.began_ms is not None:",
        "recorder/test_statistics.py"
        "::test_the_begin_of_a_run_is_kept_after_the_clock_has_forgotten_it",
    ),
    # The calendar's rows
    Mutant(
        "a search counts the whole market",
        "monitor/page/calendar_rows.py",
        "matching = [(number, one) for number, one in enumerate(every) if folding.has(one)]",
        "matching = list(enumerate(every))",
        f"{_ROWS}::test_a_match_opens_what_holds_it",
    ),
    Mutant(
        "one word of a search is enough",
        "monitor/page/calendar_rows.py",
        "return all(any(word in name for name in names) for word in self.words)",
        "return any(any(word in name for name in names) for word in self.words)",
        f"{_ROWS}::test_a_search_shows_what_it_matches",
    ),
    Mutant(
        "series are sorted as texts",
        "monitor/page/calendar_rows.py",
        "by_length = sorted(members, key=lambda pair: _ORDER[pair[1].time_interval])",
        "by_length = sorted(members, key=lambda pair: pair[1].time_interval)",
        f"{_ROWS}::test_an_open_symbol_shows_its_series_by_their_length",
    ),
    Mutant(
        "an end between two cells belongs to the next",
        "monitor/page/zoom.py",
        "last_ms = calendar.open_time_ms(now_ms if to_ms is None else max(0, to_ms - 1))",
        "last_ms = calendar.open_time_ms(now_ms if to_ms is None else to_ms)",
        f"{_ZOOM}::test_a_time_is_widened_to_whole_cells",
    ),
    # Events
    Mutant(
        "a gap heals at each look anew",
        "monitor/page/event_log.py",
        "elif place in self.seen_ms:",
        "elif False:",
        f"{_EVENTS}::test_a_gap_that_is_filled_between_two_looks_has_two_events",
    ),
    Mutant(
        "a gap heals before it was found",
        "monitor/page/event_log.py",
        "seen[place] = max(gap.first_seen_ms, now_ms[gap.series.trade_type])",
        "seen[place] = now_ms[gap.series.trade_type]",
        f"{_EVENTS}::test_nothing_heals_before_it_was_found",
    ),
    Mutant(
        "a list's first sight is a listing",
        "storage/universe.py",
        "if time_ms > first_ms.setdefault(trade_type, time_ms) and was != status:",
        "if was != status:",
        f"{_EVENTS}::test_the_universe_tells_what_came_after_the_first_list",
    ),
    Mutant(
        "each failed attempt is an event",
        "monitor/page/chronicle.py",
        "if outage is None:",
        "if True:",
        f"{_CHRONICLE}::test_an_outage_of_a_connection_is_one_event_until_it_delivers_again",
    ),
    # The last hour
    Mutant(
        "commits after the last look of a step are lost",
        "monitor/page/history.py",
        "by_number = {one.number: one for one in list(self._steps)[-2:]}",
        "by_number = {one.number: one for one in list(self._steps)[-1:]}",
        f"{_HISTORY}::test_the_lags_of_a_step_are_those_of_its_commits",
    ),
    Mutant(
        "rates are as if each step had been watched whole",
        "monitor/page/history.py",
        "round(step.frames / step.seconds, 1) if step.seconds else None,",
        "round(step.frames / STEP_SECONDS, 1) if step.seconds else None,",
        f"{_HISTORY}::test_a_market_that_is_recorded_again_counts_from_anew",
    ),
    # The stream
    Mutant(
        "a page without a chart takes the candles of others away",
        "monitor/page/event_stream.py",
        "if not self._by_series and self._has_series.is_set():",
        "if not self._by_series:",
        f"{_STREAM}::test_candles_come_whatever_other_pages_were_closed_before",
    ),
    Mutant(
        "the stream is silent while nothing changes",
        "monitor/page/event_stream.py",
        "if body != shown or now >= shown_at + _HEARTBEAT_SECONDS:",
        "if body != shown:",
        f"{_STREAM}::test_the_heartbeat_comes_each_five_seconds_without_a_change",
    ),
    Mutant(
        "the recorder copies candles for pages that have gone",
        "monitor/page/event_stream.py",
        "if not self._by_series:\nreturn False",
        "",
        f"{_STREAM}::test_without_charts_the_recorder_copies_no_candles",
    ),
    Mutant(
        "readers that have gone are kept",
        "monitor/page/event_stream.py",
        "self._leave(reader)",
        "pass",
        f"{_STREAM}::test_nothing_is_left_of_readers_that_have_gone",
    ),
    # The index
    Mutant(
        "a large ledger is read all the time",
        "monitor/page/store_index.py",
        "await trio.sleep(max(least, took_seconds / _MOST_SHARE))",
        "await trio.sleep(least)",
        f"{_INDEX}::test_a_large_store_is_read_for_one_percent_of_the_time",
    ),
    Mutant(
        "the ledger is read while nobody looks",
        "monitor/page/store_index.py",
        "if trio.current_time() > self._wanted_at + _IDLE_SECONDS:",
        "if False:",
        f"{_INDEX}::test_when_nobody_looks_the_index_is_dropped",
    ),
    Mutant(
        "a store that cannot be read any more looks as it did",
        "monitor/page/store_index.py",
        "self.latest = None",
        "pass",
        f"{_INDEX}::test_a_store_that_cannot_be_read_is_tried_again",
    ),
    # Answers
    Mutant(
        "a misspelled parameter is ignored",
        "monitor/page/parameters.py",
        "if name not in known:",
        "if False:",
        f"{_API}::test_a_wrong_question_is_refused_in_words",
    ),
    Mutant(
        "a cut table does not say so",
        "monitor/page/store_answers.py",
        'return {"truncated": len(rows) > limit}',
        'return {"truncated": False}',
        f"{_API}::test_gaps",
    ),
    Mutant(
        "a copy whose rows do not add up is complete",
        "storage/ledger_index.py",
        "return attrs.evolve(accounts, mark=np.where(is_proven, accounts.mark, accounts.first))",
        "return accounts",
        "storage/test_ledger_index.py"
        "::test_a_copy_with_a_hole_that_its_ledger_does_not_explain_is_not_complete",
    ),
)
