"""Mutants of what reads and checks a lake."""

from tests.mutation.mutant import Mutant

_READER = "lake/test_reader.py"
_CHECK = "lake/test_check.py"

LAKE_READERS = (
    Mutant(
        "a lake's rows are read in the order of its files",
        "lake/reader.py",
        "rows = rows.sort_by(BEGIN)",
        "pass",
        f"{_READER}::test_two_recorders_make_one_table_and_each_has_its_coverage",
    ),
    Mutant(
        "a candle that is twice in a lake is read twice",
        "lake/reader.py",
        "if twice := int(np.count_nonzero(np.diff(begins) == 0)):",
        "if twice := int(np.count_nonzero(np.diff(begins) < 0)):",
        f"{_READER}::test_a_candle_that_is_there_twice_is_an_error",
    ),
    Mutant(
        "the last month of a time is left out",
        "lake/reader.py",
        'f"month >= {literal(month_of(from_ms))} AND month <= {literal(month_of(to_ms - 1))}",',
        'f"month >= {literal(month_of(from_ms))} AND month < {literal(month_of(to_ms - 1))}",',
        f"{_READER}::test_read_gives_the_same_frame",
    ),
    Mutant(
        "the end of a time is inclusive in a lake",
        "lake/query.py",
        """return [f'"{name}" >= {first}', f'"{name}" < {end}']""",
        """return [f'"{name}" >= {first}', f'"{name}" <= {end}']""",
        f"{_READER}::test_read_gives_the_same_frame",
    ),
    Mutant(
        "symbols of a lake get each other's rows",
        "lake/reader.py",
        'order = np.argsort(codes, kind="stable")',
        "order = np.arange(len(codes))",
        f"{_READER}::test_read_of_several_symbols_gives_the_same_table",
    ),
    Mutant(
        "a filled gap is a reason",
        "lake/ledger_tables.py",
        "if state != State.FILLED:",
        "if state:",
        f"{_READER}::test_a_candle_that_is_neither_there_nor_in_the_coverage_is_named_so",
    ),
    Mutant(
        "what is not published yet is said to be lost",
        "lake/reader.py",
        "account.first_ms < gap.to_ms and gap.from_ms < account.watermark_ms",
        "account.first_ms < gap.to_ms",
        f"{_READER}::test_candles_that_no_recorder_has_accounted_for_yet_are_not_published_yet",
    ),
    Mutant(
        "a lake's history repeats what two recorders saw",
        "storage/universe.py",
        "if state.get(names) != one.listing:",
        "if True:",
        f"{_READER}::test_what_several_recorders_saw_of_a_market_is_one_history",
    ),
    Mutant(
        "the missing extra is a traceback",
        "reading/address.py",
        'if error.name is None or error.name.partition(".")[0] not in _EXTRA:',
        "if True:",
        f"{_READER}::test_a_store_is_read_without_the_packages_of_lakes",
    ),
    Mutant(
        "a key counts once in each file of a lake",
        "lake/check.py",
        "twice[rows] = ~is_first | ((flat[places] & masks) != 0)",
        "twice[rows] = ~is_first",
        f"{_CHECK}::test_each_key_counts_once_in_any_files_and_the_rest_are_twice",
    ),
    Mutant(
        "a key counts once for each batch of a lake",
        "lake/check.py",
        "twice[rows] = ~is_first | ((flat[places] & masks) != 0)",
        "twice[rows] = (flat[places] & masks) != 0",
        f"{_CHECK}::test_each_key_counts_once_in_any_files_and_the_rest_are_twice",
    ),
    Mutant(
        "candles of another month are good",
        "lake/check.py",
        'yield f"is of another month than {self.month}", possible & ~within',
        "pass",
        f"{_CHECK}::test_a_row_that_cannot_be_is_named",
    ),
    Mutant(
        "a recorder's gaps explain nothing",
        "lake/check.py",
        "absences = tuple(gaps.get((recorder, series), ()))",
        "absences = tuple(one for several in gaps.values() for one in several)[:0]",
        f"{_CHECK}::test_a_good_lake_has_no_faults_and_all_is_counted",
    ),
    Mutant(
        "a removed candle is no hole",
        "lake/check.py",
        "held[series] += spans",
        "held[series] += joined([Span(spans[0].from_ms, spans[-1].to_ms)])",
        f"{_CHECK}::test_a_candle_that_was_removed_is_a_hole",
    ),
    Mutant(
        "bounds that hide rows are good",
        "lake/check.py",
        "outside |= beyond.to_numpy(zero_copy_only=False)",
        "beyond.to_numpy(zero_copy_only=False)",
        f"{_CHECK}::test_bounds_in_the_log_that_hide_rows_are_found",
    ),
    Mutant(
        "an export of a lake leaves out no month",
        "lake/reader.py",
        "for part in month.common_with(span):",
        "for part in [month]:",
        "commands/test_lake_check.py::test_an_export_of_a_lake_is_that_of_the_store",
    ),
)
