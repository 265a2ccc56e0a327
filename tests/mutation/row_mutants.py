"""Mutants of archive rows, of checks, and of the small files beside the candles."""

from tests.mutation.mutant import Mutant

__all__ = ["ROWS"]

_ARCHIVE = "storage/test_archive_rows.py"
_BAD_ROW = f"{_ARCHIVE}::test_a_bad_row_is_counted_and_harms_no_other"
_TOGETHER = f"{_ARCHIVE}::test_files_of_which_there_is_something_to_tell_are_not_read_as_one"
_CHECK = "storage/test_check.py"
_UNIVERSE = "storage/test_universe.py"
_DISK = "storage/test_disk.py"

ROWS = (
    # Rows of archives
    Mutant(
        "of several rows of one time the last counts",
        "storage/archive_rows.py",
        "_, first = np.unique(begins[wanted], return_index=True)",
        "first = len(wanted) - 1 - np.unique(begins[wanted][::-1], return_index=True)[1]",
        f"{_ARCHIVE}::test_of_rows_of_one_time_the_first_in_the_file_counts",
    ),
    Mutant(
        "rows after the span are taken",
        "storage/archive_rows.py",
        "wanted = np.flatnonzero(good & (begins >= span.from_ms) & (begins < span.to_ms))",
        "wanted = np.flatnonzero(good & (begins >= span.from_ms) & (begins <= span.to_ms))",
        f"{_ARCHIVE}::test_rows_of_other_days_are_left_out_and_order_is_made",
    ),
    Mutant(
        "microseconds are taken for milliseconds",
        "storage/archive_rows.py",
        "columns[name] = np.where(micro, times // 1_000, times)",
        "pass",
        f"{_ARCHIVE}::test_header_or_not_milliseconds_or_microseconds",
    ),
    Mutant(
        "a row of another interval is taken",
        "storage/archive_rows.py",
        'yield "a row of another interval", columns[END] >= end_times_ms(begins, interval)',
        "",
        _BAD_ROW,
    ),
    Mutant(
        "an infinite price is taken",
        "storage/row_faults.py",
        "yield NOT_FINITE, reduce(or_, (~np.isfinite(columns[name]) for name in NUMBERS))",
        "",
        _BAD_ROW,
    ),
    Mutant(
        "a price that moves without a trade is taken",
        "storage/archive_rows.py",
        'yield "a row without trades whose price moves", (columns["trade_num"] <= 0) & moves',
        "",
        _BAD_ROW,
    ),
    Mutant(
        "files whose rows are twice the same are read as one",
        "storage/archive_rows.py",
        "in_order = (begins[:-1] < begins[1:]).all()",
        "in_order = (begins[:-1] <= begins[1:]).all()",
        _TOGETHER,
    ),
    Mutant(
        "files with rows of another day are read as one",
        "storage/archive_rows.py",
        "if not in_order or not ((from_ms <= begins) & (begins < to_ms)).all():",
        "if not in_order:",
        _TOGETHER,
    ),
    # Checks, comparisons, and other files
    Mutant(
        "the row before a row group is not its first row's neighbour",
        "storage/row_faults.py",
        "first = begins[0] - 1 if earlier_ms is None else earlier_ms",
        "first = begins[0] - 1",
        f"{_CHECK}::test_rows_are_counted_over_row_groups",
    ),
    Mutant(
        "a low above the close is no fault",
        "candle.py",
        '"a low above the open or the close": (("low", "open"), ("low", "close")),',
        '"a low above the open or the close": (("low", "open"),),',
        f"{_CHECK}::test_a_wrong_row_is_named",
    ),
    Mutant(
        "a wrong end is no fault",
        "storage/row_faults.py",
        'yield f"does not end {owner.time_interval} after its begin", possible & wrong_end',
        "",
        f"{_CHECK}::test_a_wrong_end_is_named",
    ),
    Mutant(
        "a small file beside the candles is not synced",
        "storage/sidecar.py",
        "seal(file)\nsync_file(file)",
        "seal(file)",
        f"{_DISK}::test_a_small_file_is_durable_before_it_has_its_name",
    ),
    Mutant(
        "a small file beside the candles is not read back",
        "storage/sidecar.py",
        "if lacks or not read_group(written, group, temporary).equals(piece):",
        "if lacks:",
        f"{_UNIVERSE}::test_what_does_not_come_back_as_it_was_written_does_not_replace_the_file",
    ),
    Mutant(
        "a symbol that is gone stays in the list",
        "storage/universe.py",
        "market.pop(listing.symbol, None)",
        "pass",
        f"{_UNIVERSE}::test_at_any_moment_the_rows_give_the_state_that_was_seen",
    ),
    Mutant(
        "what repeats the state before is written when universes are united",
        "storage/universe.py",
        "if state.get(names) != one.listing:",
        "if True:",
        f"{_UNIVERSE}::test_what_two_saw_one_after_the_other_is_one_row",
    ),
    Mutant(
        "a damaged page of a journal loses what is behind it",
        "storage/salvage.py",
        'for direction in ("ASC", "DESC"):',
        'for direction in ("ASC",):',
        "storage/test_store.py::test_the_readable_rows_of_a_damaged_journal_are_taken_over",
    ),
    Mutant(
        "a salvaged journal is moved before its successor is durable",
        "storage/salvage.py",
        "replace_durably(made, recovered_path(store_path))\n"
        "return rescued, _finish_salvage(store_path)",
        "made.replace(recovered_path(store_path))\nreturn rescued, _finish_salvage(store_path)",
        f"{_DISK}::test_a_salvaged_journal_is_durable_before_the_damaged_one_is_moved",
    ),
)
