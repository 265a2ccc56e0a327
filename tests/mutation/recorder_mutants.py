"""Mutants of the recorder wing."""

from tests.mutation.mutant import Mutant

__all__ = ["RECORDER"]

_BACKOFF = "recorder/test_backoff.py"
_POOL = "recorder/test_connection_pool.py"

RECORDER = (
    Mutant(
        "a pattern that matches nothing is named at each look",
        "recorder/recording.py",
        "self._idle.add(line)",
        "pass",
        "recorder/test_following.py::test_a_pattern_that_matches_nothing_is_named_once",
    ),
    Mutant(
        "tail rounds prices",
        "commands/record.py",
        'return f"{Decimal(repr(number)):f}".removesuffix(".0")',
        'return f"{number:g}"',
        "commands/test_record.py::test_it_prints_the_digits_that_the_exchange_sent",
    ),
    Mutant(
        "what follows is said at once too",
        "recorder/grouped_log.py",
        "return self._quiet_until if self._waiting else math.inf",
        "return -math.inf",
        "recorder/test_gap_filler.py::test_a_storm_of_many_series_is_a_few_lines",
    ),
    Mutant(
        "a line of the log is written as others have put it together",
        "commands/log.py",
        "return one_line(record.getMessage() + error)",
        "return record.getMessage() + error",
        "commands/test_log.py::test_foreign_text_cannot_steer_the_terminal_nor_forge_a_line",
    ),
    Mutant(
        "a command that ended without a reason ended well",
        "commands/signals.py",
        "return requests.may_end",
        "return True",
        "commands/test_signals.py::test_a_lost_cancelled_is_no_end",
    ),
    Mutant(
        "a look that a merge has outdated is compared again as it is",
        "recorder/housekeeping.py",
        "look = await storage.merge_door.run(comparison.look_again, look.series)",
        "await storage.merge_door.run(comparison.look_again, look.series)",
        "recorder/test_housekeeping.py::test_a_look_that_a_merge_has_outdated_is_replaced_by_another",
    ),
    Mutant(
        "a halt of a whole market ends its series",
        "recorder/universe.py",
        "return market.most_trading >= _LEAST_TRADING and 2 * market.trading < market.most_trading",
        "return False",
        "recorder/test_following.py::test_a_halt_of_a_whole_market_ends_no_series",
        is_slow=True,
    ),
    Mutant(
        "a list that lost most is believed at once",
        "recorder/universe.py",
        "lacks_most = bool(known) and (not seen or 2 * lost > len(known))",
        "lacks_most = False",
        "recorder/test_universe.py::test_a_list_that_lost_most_is_looked_at_twice",
    ),
    Mutant(
        "a success leaves the market's count of failures",
        "recorder/backoff.py",
        "for one in (series, series.trade_type):",
        "for one in (series,):",
        f"{_BACKOFF}::test_a_success_ends_the_series_rest_and_begins_its_market_s_count_anew",
    ),
    Mutant(
        "a success leaves the series' count of failures",
        "recorder/backoff.py",
        "for one in (series, series.trade_type):",
        "for one in (series.trade_type,):",
        f"{_BACKOFF}::test_a_success_ends_the_series_rest_and_begins_its_market_s_count_anew",
    ),
    Mutant(
        "a success cuts short the rest that others' failures began",
        "recorder/backoff.py",
        "self._pauses[one].failures = 0",
        "self._pauses[one] = _Pause()",
        f"{_BACKOFF}::test_a_success_that_was_asked_before_others_failed_does_not_cut_their_rest_short",
    ),
    Mutant(
        "what fails together is several failures",
        "recorder/backoff.py",
        "if self.until <= now:",
        "if True:",
        f"{_BACKOFF}::test_what_fails_while_the_market_rests_is_the_same_failure",
    ),
    Mutant(
        "rests grow without end",
        "recorder/backoff.py",
        "self.until = now + doubled(first_seconds, self.failures, _LONGEST_SECONDS)",
        "self.until = now + doubled(first_seconds, self.failures, math.inf)",
        f"{_BACKOFF}::test_each_failure_in_a_row_doubles_the_rest_up_to_a_minute",
    ),
    Mutant(
        "a connection retires before both have delivered the same stretch",
        "recorder/connection_pool.py",
        "enough_ms = newest.ready_ms + _OVERLAP_MS",
        "enough_ms = newest.ready_ms",
        f"{_POOL}::test_a_new_life_that_lags_is_waited_for_too",
    ),
    Mutant(
        "only the new connection's time counts before the old one retires",
        "recorder/connection_pool.py",
        "and (min(one.newest_ms, newest.newest_ms) >= enough_ms or is_overdue)",
        "and (newest.newest_ms >= enough_ms or is_overdue)",
        f"{_POOL}::test_an_old_life_is_replaced_only_when_both_have_delivered_the_same_stretch_of_time",
    ),
    Mutant(
        "a connection whose time stands still is waited for for ever",
        "recorder/connection_pool.py",
        "and (min(one.newest_ms, newest.newest_ms) >= enough_ms or is_overdue)",
        "and (min(one.newest_ms, newest.newest_ms) >= enough_ms)",
        f"{_POOL}::test_an_old_life_whose_time_stands_still_is_not_waited_for_for_ever",
    ),
    Mutant(
        "dials of other markets are not counted",
        "recorder/connection_pool.py",
        "return max(self._dialled_at + _DIAL_SPACING_SECONDS, self.dials.next_at())",
        "return self._dialled_at + _DIAL_SPACING_SECONDS",
        f"{_POOL}::test_no_more_is_dialled_in_five_minutes_than_half_of_what_is_allowed",
    ),
    Mutant(
        "of fewer copies the first stay, whatever they deliver",
        "recorder/connection_pool.py",
        "shard.slots.sort(key=_seniority)",
        "pass",
        f"{_POOL}::test_of_fewer_copies_those_stay_that_deliver",
    ),
    Mutant(
        "a connection that was heard leaves its slot's failures",
        "recorder/connection_pool.py",
        "slot.failures = slot.stalls = 0",
        "pass",
        "recorder/test_listener.py::test_data_resets_backoff_and_patience",
    ),
    Mutant(
        "a slower connection brings an outdated candle back",
        "recorder/event_sink.py",
        "event.candle == last.candle or event.event_time_ms < last.event_time_ms",
        "event.candle == last.candle",
        "recorder/test_listener.py::test_of_a_revised_candle_the_state_that_was_sent_last_stays",
    ),
    Mutant(
        "connections that began together end together",
        "recorder/connection_pool.py",
        "age = self.max_age_seconds * (1 - next(chances) / 10)",
        "age = self.max_age_seconds",
        f"{_POOL}::test_lives_that_began_together_do_not_end_together",
    ),
    Mutant(
        "a list in which nothing trades is followed by a backfill",
        "symbols.py",
        "if any(one.is_trading for one in listed.values()):",
        "if True:",
        "commands/test_backfill.py::test_a_list_in_which_nothing_trades_is_asked_for_again",
    ),
    Mutant(
        "the last series is removed without a word",
        "recorder/recording.py",
        "if before and not self.series:",
        "if False:",
        "recorder/test_recording.py::test_to_remove_what_is_not_recorded_or_all_that_is_is_told",
    ),
)
