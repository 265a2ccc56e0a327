"""Mutants of the way from a candle that does not come to its row in the ledger, and back."""

from tests.mutation.mutant import Mutant

__all__ = ["COMPLETENESS"]

_ARCHIVE = "recorder/test_completing.py"
_AUDITOR = "recorder/test_auditor.py"
_FILLER = "recorder/test_gap_filler.py"
_MERGER = "recorder/test_merger.py"
_QUIET = "storage/test_archive_rows.py"
_SOURCE = "recorder/test_rest_source.py"
_STATE = "recorder/test_series_state.py"

COMPLETENESS = (
    Mutant(
        "of a series that was taken out before its scan the recorder is called down",
        "recorder/series_state.py",
        "retired_ms = min(started_ms, interval.open_time_ms(began_ms))",
        "pass",
        "recorder/test_series_state.py"
        "::test_what_closed_after_a_series_was_taken_out_before_its_scan_was_not_configured",
    ),
    Mutant(
        "memory moves before the commit",
        "recorder/auditor.py",
        "if gaps:\n"
        "await run(self.storage.store.journal.settle, gaps, accounts)\n"
        "self.series.confirm(dues, accounts)",
        "self.series.confirm(dues, accounts)\n"
        "if gaps:\n"
        "    await run(self.storage.store.journal.settle, gaps, accounts)",
        f"{_AUDITOR}::test_without_space_nothing_is_adopted_and_all_is_computed_anew",
    ),
    Mutant(
        "a watermark moves without its gaps",
        "recorder/auditor.py",
        "await run(self.storage.store.journal.settle, gaps, accounts)",
        "await run(self.storage.store.journal.settle, (), accounts)",
        f"{_AUDITOR}::test_a_gap_and_its_watermark_are_one_transaction_of_that_series_only",
    ),
    Mutant(
        "a scan's watermark moves without its gaps",
        "recorder/auditor.py",
        "await run(store.journal.settle, gaps, {**retired, **started})",
        "await run(store.journal.settle, (), {**retired, **started})",
        f"{_AUDITOR}::test_a_stop_at_any_moment_leaves_no_watermark_ahead_of_its_gaps",
    ),
    Mutant(
        "gaps are computed before the door is held",
        "recorder/auditor.py",
        "async with self.storage.commit_door.held() as run:\n"
        "if not self.may_judge():\n"
        "return False\n"
        "times = self._times_ms()\n"
        "dues = [due for due in self.series.due(times) if due.gaps][:_SERIES_AT_ONCE]",
        "times = self._times_ms()\n"
        "dues = [due for due in self.series.due(times) if due.gaps][:_SERIES_AT_ONCE]\n"
        "async with self.storage.commit_door.held() as run:",
        f"{_AUDITOR}::test_a_candle_that_comes_while_the_door_is_waited_for_is_not_named",
    ),
    Mutant(
        "gaps are named while candles wait for space",
        "recorder/auditor.py",
        "if not self.may_judge():\nreturn False",
        "pass",
        f"{_AUDITOR}::test_no_gap_is_named_if_space_runs_out_while_the_door_is_waited_for",
    ),
    Mutant(
        "a connection that is behind is waited for without end",
        "recorder/auditor.py",
        "times[name] = max(behind_ms, now_ms - _BEHIND_MS)",
        "times[name] = behind_ms",
        f"{_AUDITOR}::test_a_connection_that_is_behind_is_waited_for_but_for_no_more_than_45_s",
    ),
    Mutant(
        "a connection that is behind is not waited for",
        "recorder/auditor.py",
        "times[name] = max(behind_ms, now_ms - _BEHIND_MS)",
        "times[name] = now_ms",
        f"{_AUDITOR}::test_a_connection_that_is_behind_is_waited_for_but_for_no_more_than_45_s",
    ),
    Mutant(
        "a series that nobody records is retired at the scan, not from the begin on",
        "recorder/auditor.py",
        "name: clock.began_ms",
        "name: clock.now_ms",
        f"{_AUDITOR}::test_a_series_taken_out_before_a_late_scan_was_not_configured_from_the_start_on",
    ),
    Mutant(
        "a backfill retires what it does not fetch",
        "recorder/auditor.py",
        "retired = self._not_recorded(accounts) if self.is_recorder else {}",
        "retired = self._not_recorded(accounts)",
        f"{_AUDITOR}::test_a_backfill_retires_nothing_and_names_what_closes_meanwhile_as_its_absence",
    ),
    Mutant(
        "a backfill says that it should have received what closes meanwhile",
        "recorder/series_state.py",
        "since_then = Reason.NOT_RECEIVED if is_recorder else Reason.RECORDER_DOWN",
        "since_then = Reason.NOT_RECEIVED",
        f"{_STATE}::test_what_closes_while_a_backfill_runs_is_the_recorders_absence",
    ),
    Mutant(
        "a watermark goes back to a candle that comes once more",
        "recorder/series_state.py",
        "mark_ms = max(account.watermark_ms, min([until_ms, *self._candles.in_flight]))",
        "mark_ms = min([until_ms, *self._candles.in_flight])",
        f"{_STATE}::test_what_comes_once_more_during_a_scan_moves_no_watermark_back",
    ),
    Mutant(
        "what a symbol lost as delisted is not asked for when it trades again",
        "recorder/auditor.py",
        "reopened = await run(self.storage.store.journal.reopen, [one.series for one in again])",
        "reopened = ()",
        f"{_AUDITOR}::test_what_was_closed_as_delisted_is_pending_again_when_its_symbol_trades",
    ),
    Mutant(
        "a series is sealed without asking",
        "recorder/series_state.py",
        "if one.state is GapState.PENDING and (one.span.from_ms < end.from_ms or is_new):\n"
        "return None",
        "pass",
        f"{_STATE}::test_nothing_is_sealed_that_was_not_asked_for",
    ),
    Mutant(
        "an end lies before trades that came",
        "recorder/series_state.py",
        "self._end = self._candle_after(max(seen_ms, self._traded_ms))",
        "self._end = self._candle_after(seen_ms)",
        f"{_STATE}::test_an_end_that_is_dated_by_a_clock_that_is_behind_lies_after_the_trades_that_came",
    ),
    Mutant(
        "the end does not wait for one candle more",
        "recorder/series_state.py",
        "return self._end is not None and self.watermark_ms >= self._end.to_ms",
        "return self._end is not None",
        f"{_STATE}::test_the_end_waits_for_one_candle_more",
    ),
    Mutant(
        "a watermark passes a candle in flight",
        "recorder/series_state.py",
        "return min([self.judged_ms, *self.in_flight, *self.lost])",
        "return self.judged_ms",
        f"{_STATE}::test_a_candle_in_flight_is_no_gap_and_no_watermark_passes_it",
    ),
    Mutant(
        "a scan's watermark passes a candle in flight",
        "recorder/series_state.py",
        "mark_ms = max(account.watermark_ms, min([until_ms, *self._candles.in_flight]))",
        "mark_ms = max(account.watermark_ms, until_ms)",
        f"{_STATE}::test_a_candle_in_flight_during_a_scan_holds_the_watermark_back",
    ),
    Mutant(
        "a candle that was dropped is forgotten",
        "recorder/series_state.py",
        "candles.lost.add(open_time_ms)",
        "pass",
        f"{_STATE}::test_a_candle_that_was_judged_as_in_flight_and_is_dropped_becomes_a_gap",
    ),
    Mutant(
        "what comes during a scan is a gap",
        "recorder/series_state.py",
        "if self.state is State.SCANNING or open_time_ms >= candles.judged_ms:",
        "if open_time_ms >= candles.judged_ms:",
        f"{_STATE}::test_a_candle_committed_during_a_scan_is_no_gap",
    ),
    Mutant(
        "events do not wait for a commit",
        "recorder/series_state.py",
        "while self._events and self.state in _SETTLED:",
        "while self._events:",
        f"{_STATE}::test_events_during_a_scan_count_after_it_in_their_order",
    ),
    Mutant(
        "one answer closes a gap",
        "recorder/rest_source.py",
        "elif wait is None and is_sure:",
        "elif wait is None:",
        f"{_SOURCE}::test_one_answer_closes_nothing_whatever_is_recorded_of_earlier_attempts",
    ),
    Mutant(
        "two answers that differ agree",
        "recorder/rest_source.py",
        "if one.claim == claim and (one.host != host or now - one.at >= APART_SECONDS):",
        "if one.host != host or now - one.at >= APART_SECONDS:",
        f"{_SOURCE}::test_rows_beside_a_hole_are_taken_when_two_answers_have_the_same_values",
    ),
    Mutant(
        "two answers of one host within a second are two",
        "recorder/rest_source.py",
        "if one.claim == claim and (one.host != host or now - one.at >= APART_SECONDS):",
        "if one.claim == claim:",
        f"{_SOURCE}::test_one_answer_closes_nothing_whatever_is_recorded_of_earlier_attempts",
    ),
    Mutant(
        "an answer about something else counts as an attempt",
        "recorder/rest_source.py",
        "if not answer.is_complete:",
        "if False:",
        f"{_SOURCE}::test_rows_of_another_time_say_nothing_of_what_is_absent",
    ),
    Mutant(
        "a bad row closes its time at once",
        "recorder/rest_source.py",
        "is_sure = confirm(series, span, answer.host, now, _SPOILED)",
        "is_sure = True",
        f"{_SOURCE}::test_a_row_that_cannot_be_closes_its_own_time_when_it_comes_twice",
    ),
    Mutant(
        "one answer about the newest candle ends a symbol",
        "recorder/rest_source.py",
        "if is_sure and not is_denied:",
        "if not is_denied:",
        f"{_SOURCE}::test_one_wrong_answer_about_the_newest_candle_calls_no_symbol_ended",
    ),
    Mutant(
        "answers with other newest candles agree on an end",
        "recorder/rest_source.py",
        "ended_ms = last_ms if last_ms < refill.span.from_ms else None",
        "ended_ms = 0 if last_ms < refill.span.from_ms else None",
        f"{_SOURCE}::test_two_answers_with_other_newest_candles_call_no_symbol_ended",
    ),
    Mutant(
        "an end before stored candles is believed",
        "recorder/rest_source.py",
        "is_denied = stored_ms < refill.span.from_ms",
        "is_denied = False",
        f"{_SOURCE}::test_a_newest_candle_of_before_stored_ones_calls_no_symbol_ended",
    ),
    Mutant(
        "rows that were moved by whole candles are taken",
        "recorder/rest_source.py",
        "unconfirmed = [] if answer.is_whole else self._unconfirmed(series, gaps, answer, now)",
        "unconfirmed: list[Span] = []",
        f"{_SOURCE}::test_rows_that_were_moved_by_whole_candles_are_not_taken",
    ),
    Mutant(
        "one answer about the first candle is believed",
        "recorder/rest_source.py",
        "is_sure = first is not None and first.open_time_ms == oldest_ms",
        "is_sure = True",
        f"{_SOURCE}::test_a_first_candle_that_is_another_the_second_time_is_not_believed",
    ),
    Mutant(
        "what lies behind a stored candle was not listed yet",
        "recorder/rest_source.py",
        "before = Span(0, first.open_time_ms if stored_ms is None else stored_ms)",
        "before = Span(0, first.open_time_ms)",
        f"{_SOURCE}::test_nothing_behind_a_stored_candle_was_not_listed_yet",
    ),
    Mutant(
        "an asked series is never released",
        "recorder/gap_queue.py",
        "self._taken.discard(series)",
        "pass",
        f"{_FILLER}::test_a_series_is_released_when_its_question_fails",
    ),
    Mutant(
        "a series is asked for twice at the same time",
        "recorder/gap_queue.py",
        "self._taken.add(series)",
        "pass",
        f"{_FILLER}::test_each_of_many_series_is_asked_for_once",
    ),
    Mutant(
        "the oldest gap is asked for first",
        "storage/journal/ledger.py",
        "ORDER BY to_ms DESC, series_id LIMIT ?3",
        "ORDER BY to_ms ASC, series_id LIMIT ?3",
        f"{_FILLER}::test_the_newest_gap_is_asked_for_first",
    ),
    Mutant(
        "what the exchange does not have is asked for at once again",
        "recorder/gap_filler.py",
        "self.backoff.put_off(series, outcome.wait_seconds, trio.current_time())",
        "pass",
        f"{_FILLER}::test_what_the_exchange_does_not_have_waits_and_others_go_on",
    ),
    Mutant(
        "the queue is not read without news",
        "recorder/gap_queue.py",
        "self._read_at, last = trio.current_time() + _LOOK_SECONDS, None",
        "self._read_at, last = math.inf, None",
        f"{_FILLER}::test_a_row_that_no_bell_told_of_is_found_within_a_minute",
    ),
    Mutant(
        "a released series is not looked at again",
        "recorder/gap_queue.py",
        "self._read_at = -math.inf",
        "pass",
        f"{_FILLER}::test_a_long_gap_is_asked_for_page_after_page_without_a_pause",
    ),
    Mutant(
        "rows are held against a time of before they were looked at",
        "recorder/gap_queue.py",
        "last = rows[-1]\n"
        "times = [math.inf if one.series in self._taken else self.ready_at(one) for one in rows]\n"
        "# After them: each of them has looked at the clock for itself.\n"
        "now = trio.current_time()",
        "last, now = rows[-1], trio.current_time()\n"
        "times = [math.inf if one.series in self._taken else self.ready_at(one) for one in rows]",
        f"{_FILLER}::test_a_gap_is_asked_for_on_a_clock_that_runs_on_between_two_looks",
    ),
    Mutant(
        "what is still forming is asked for",
        "recorder/gap_filler.py",
        "until_ms = min(end_ms, self.until_ms)",
        "until_ms = self.until_ms",
        f"{_FILLER}::test_of_a_gap_that_still_forms_only_what_has_closed_is_asked_for",
    ),
    Mutant(
        "candles are told of before their commit",
        "recorder/gap_filler.py",
        "await retry_while_full(\n"
        "self.storage.commit_door.run, self.storage.store.journal.refill, outcome.refills\n"
        ")",
        "self.committed([ReceivedCandle(series, one, self.now(), Source.REST)"
        " for one in outcome.candles])\n"
        "await retry_while_full("
        "self.storage.commit_door.run, self.storage.store.journal.refill, outcome.refills)",
        f"{_FILLER}::test_candles_are_told_of_after_their_commit",
    ),
    Mutant(
        "a merge that had no space is tried again at once",
        "recorder/merger.py",
        "again.not_before = trio.current_time() + RETRY_SECONDS",
        "pass",
        f"{_MERGER}::test_a_merge_rests_after_want_of_room_whatever_comes_meanwhile",
    ),
    Mutant(
        "a flat stretch of an archive file is believed",
        "recorder/archive_source.py",
        "if not batch.is_last_resort:",
        "if False:",
        f"{_ARCHIVE}::test_a_flat_stretch_in_a_file_is_asked_of_rest",
    ),
    Mutant(
        "an archive's rows are lost where REST refuses to confirm them",
        "storage/journal/ledger.py",
        "if lacking.reason is Reason.ARCHIVE_QUIET:",
        "if False:",
        f"{_ARCHIVE}::test_where_rest_refuses_a_flat_stretch_the_archives_rows_are_taken",
    ),
    Mutant(
        "a repair replaces good candles by an archive's quiet ones",
        "commands/verify.py",
        "unsure = _unsure(series, here, theirs)",
        "unsure = set[int]()",
        "commands/test_verify.py::test_candles_with_trades_are_kept_where_the_archive_is_quiet",
    ),
    Mutant(
        "any answer of the busiest symbol is a halt of the market",
        "recorder/halts.py",
        "is_quiet = is_whole and not any(one.trade_num for one in refill.candles)",
        "is_quiet = is_whole",
        "recorder/test_halts.py::test_another_answer_is_no_halt",
    ),
    Mutant(
        "a few quiet symbols are a halt of the market",
        "recorder/halts.py",
        "if np.count_nonzero(alike) < _LEAST_SYMBOLS:",
        "if not alike.any():",
        "recorder/test_halts.py::test_a_few_symbols_are_no_market",
    ),
    Mutant(
        "others wait for the busiest symbol for ever",
        "recorder/halts.py",
        "return None if is_answered or now > day.seen_at + _WAIT_SECONDS else busiest",
        "return None if is_answered else busiest",
        f"{_FILLER}::test_nobody_waits_for_a_busiest_symbol_that_does_not_answer",
    ),
    Mutant(
        "a new symbol is in the universe's file before the journal knows of it",
        "recorder/series_set.py",
        "return all(one.series.trade_type != trade_type for one in begins)",
        "return True",
        "recorder/test_following.py"
        "::test_a_stop_soon_after_a_symbol_was_seen_in_the_list_loses_none_of_its_candles",
    ),
    Mutant(
        "all quiet symbols of a halt are asked for at once",
        "recorder/gap_filler.py",
        "if gap.reason is not Reason.ARCHIVE_QUIET:",
        "if True:",
        f"{_FILLER}::test_of_a_market_that_is_quiet_the_busiest_symbol_is_asked_for_first",
    ),
    Mutant(
        "a file that is flat from end to end is believed",
        "storage/archive_rows.py",
        "expected = np.where(rows_around > 0, trades_around * lengths / rows_around, np.inf)",
        "expected = np.where(rows_around > 0, trades_around * lengths / rows_around, 0.0)",
        f"{_QUIET}::test_where_all_is_flat_nothing_speaks_for_it",
    ),
    Mutant(
        "a long night is judged by its first and last minutes",
        "storage/archive_rows.py",
        "reach = np.maximum(lengths, _LEAST_ROWS_AROUND)",
        "reach = np.minimum(lengths, 1)",
        f"{_QUIET}::test_the_quiet_of_an_illiquid_symbol_is_harmless",
    ),
    Mutant(
        "a late candle beyond the watermark stays pending",
        "storage/journal/ledger.py",
        "self._last_ms[series] = max(self._last_ms.get(series, 0), gap.span.to_ms)",
        "pass",
        "storage/journal/test_ledger.py::test_a_late_candle_of_the_stream_fills_its_absence",
    ),
)
