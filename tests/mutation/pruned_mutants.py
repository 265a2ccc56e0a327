"""Ways to forget that a lake alone has a month of a store."""

from tests.mutation.mutant import Mutant

_PRUNED = "storage/test_pruned.py"
_MONTHS = "lake/test_month_reader.py"
_KILL = f"{_PRUNED}::test_a_kill_while_files_are_removed_makes_no_gaps[months]"

PRUNED: tuple[Mutant, ...] = (
    Mutant(
        "a pruned month is due",
        "storage/holdings.py",
        "return tuple(Span(from_ms, to_ms).without(self.pruned)) if from_ms < to_ms else ()",
        "return (Span(from_ms, to_ms),) if from_ms < to_ms else ()",
        f"{_PRUNED}::test_a_month_in_the_middle_makes_two_spans",
    ),
    Mutant(
        "a month that is pruned during a comparison is a hole",
        "storage/holdings.py",
        "if not any(one.missing() for one in looks):",
        "if looks:",
        f"{_PRUNED}::test_a_month_that_is_pruned_during_the_look_is_no_hole",
    ),
    Mutant(
        "a gap is made of a pruned month",
        "storage/journal/ledger.py",
        "due = tuple(gap.span.without(self._pruned.within(series, gap.span)))",
        "due = (gap.span,)",
        _KILL,
    ),
    Mutant(
        "a delisted gap of a pruned month is asked for again",
        "storage/journal/ledger.py",
        "pruned = self._pruned.within(series, Span(0, _EVER_MS))",
        "pruned: list[Span] = []",
        f"{_PRUNED}::test_gaps_of_a_pruned_month_stay_closed",
    ),
    Mutant(
        "a file that was pruned and is still listed is a fault",
        "storage/check.py",
        "and not _may_be_pruned(one, pruned.get(one.series, ()), layout)",
        "",
        _KILL,
    ),
    Mutant(
        "a pruned month is due in the calendar",
        "storage/cells.py",
        "due -= by_kind[IN_LAKE * groups :][:groups]",
        "pass",
        f"{_PRUNED}::test_the_calendar_has_nothing_due_in_a_pruned_month[False]",
    ),
    Mutant(
        "gaps of a pruned month count in the calendar",
        "storage/ledger_index.py",
        "gaps = _beside(months, gaps)",
        "gaps = [*months, *gaps]",
        f"{_PRUNED}::test_a_gap_over_the_begin_of_a_month_counts_outside[False]",
    ),
    Mutant(
        "a page does not see that a month was pruned",
        "storage/journal/reader.py",
        "sums = repr((accounts, self._rows(_LEDGER_SUMS), self._rows(_PRUNED_SUMS)))",
        "sums = repr((accounts, self._rows(_LEDGER_SUMS)))",
        f"{_PRUNED}::test_the_calendar_has_nothing_due_in_a_pruned_month[False]",
    ),
    Mutant(
        "a read of a pruned month gives fewer candles in silence",
        "reading/candles.py",
        "if pruned.months and not has_lake:",
        "if False:",
        f"{_PRUNED}::test_reading_a_pruned_month_names_the_lake",
    ),
    Mutant(
        "the lake's row wins over a newer one of the store",
        "reading/candles.py",
        "tables[one] = there if here is None else overlay(there, here)",
        "tables[one] = there if here is None else overlay(here, there)",
        f"{_MONTHS}::test_the_row_of_the_store_wins",
    ),
    Mutant(
        "a lake with fewer candles is believed",
        "lake/month_reader.py",
        "if rows is None or count < month.rows:",
        "if rows is None:",
        f"{_MONTHS}::test_a_lake_with_fewer_candles_is_refused[None]",
    ),
    Mutant(
        "another lake is believed",
        "lake/month_reader.py",
        "if table.id != months[0].lake:",
        "if False:",
        f"{_MONTHS}::test_a_lake_that_is_gone_or_another_one_is_refused",
    ),
    Mutant(
        "a lake that was set back is believed",
        "lake/month_reader.py",
        "if version < known:",
        "if False:",
        f"{_MONTHS}::test_a_lake_that_was_set_back_is_refused",
    ),
    Mutant(
        "a damaged journal loses its pruned months",
        "storage/salvage.py",
        "journal.keep_pruned(list(_pruned(damaged, series)), dict(_addresses(damaged)))",
        "pass",
        f"{_PRUNED}::test_a_damaged_journal_gives_its_pruned_months",
    ),
    Mutant(
        "a snapshot has a hole where a month was pruned meanwhile",
        "storage/copy_stores.py",
        "made.keep_pruned(pruned.months, pruned.addresses)",
        "pass",
        f"{_PRUNED}::test_a_snapshot_knows_a_month_that_is_pruned_meanwhile",
    ),
    Mutant(
        "a new layout forgets the pruned months",
        "storage/copy_stores.py",
        "store.journal.keep_pruned(months, addresses)",
        "pass",
        f"{_PRUNED}::test_a_new_layout_keeps_the_pruned_months",
    ),
    Mutant(
        "a united store asks for what is pending in a pruned month",
        "storage/copy_stores.py",
        "*_cut(pending, due),",
        "*_cut(pending, spans),",
        f"{_PRUNED}::test_united_stores_have_a_month_again_if_one_has_all_of_it[False]",
    ),
    Mutant(
        "an export of a pruned month lacks it",
        "commands/export.py",
        "pruned = InLake.read(self.path).touching(span).only(lambda series: series in wanted)",
        "pruned = InLake()",
        f"{_PRUNED}::test_an_export_of_a_pruned_month_is_refused",
    ),
    Mutant(
        "candles of a pruned month are absent here, and are repaired",
        "commands/verify.py",
        "if one.open_time_ms not in unsure and not pruned.holds(one.open_time_ms)",
        "if one.open_time_ms not in unsure",
        "commands/test_verify.py::test_pruned_months_are_passed_over[rest]",
    ),
)
