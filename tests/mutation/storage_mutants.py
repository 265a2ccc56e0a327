"""Mutants of what touches the disk."""

from tests.mutation.mutant import Mutant

__all__ = ["STORAGE"]

_PARQUET = "storage/test_parquet.py"
_OTHERS = f"{_PARQUET}::test_a_file_of_something_else_is_left_alone"
_SYNCS = f"{_PARQUET}::test_every_rename_follows_a_sync_and_is_followed_by_two"
_SEAL = "storage/test_footer.py"
_FOOTER = f"{_SEAL}::test_row_groups_of_two_files_are_those_of_one"
_COPIES = "storage/test_copy_stores.py"
_READER = "storage/test_reader.py"
_VIEW = "storage/journal/test_reader.py"
_KEPT = "storage/test_row_group_copy.py"
_DISK = "storage/test_disk.py"
_FILES = "storage/test_files.py"
_DAMAGE = "storage/test_damage.py"
_HELD = "storage/test_held.py"
_COMPARISON = "storage/test_holdings.py"

STORAGE = (
    # Files that are held open
    Mutant(
        "a deleted journal is written into",
        "storage/held.py",
        "if not _is_at(path, inode):",
        "if False:",
        f"{_HELD}::test_nothing_is_accepted_into_a_journal_that_is_not_ours_any_more[_unlink]",
    ),
    Mutant(
        "a deleted log is written into",
        "storage/held.py",
        "self._beside.setdefault(path, _inode(status))",
        "pass",
        f"{_HELD}::test_nothing_is_accepted_into_a_journal_that_is_not_ours_any_more[_unlink_wal]",
    ),
    Mutant(
        "a journal that was overwritten is written into",
        "storage/held.py",
        "is_changed = self._times != _times_of(status) or self._is_shorter",
        "is_changed = self._is_shorter",
        f"{_HELD}::test_nothing_is_accepted_into_a_journal_that_is_not_ours_any_more[_append]",
    ),
    Mutant(
        "a journal that was overwritten in its own time is written into",
        "storage/held.py",
        "if is_changed or os.pread(self._descriptor, len(_MAGIC), 0) != _MAGIC:",
        "if is_changed:",
        f"{_HELD}::test_nothing_is_accepted_into_a_journal_that_is_not_ours_any_more"
        "[_overwrite_in_its_own_time]",
    ),
    Mutant(
        "what went into a deleted journal counts as accepted",
        "storage/held.py",
        "self.note()\nself.check()",
        "self.note()",
        f"{_HELD}::test_what_is_taken_away_during_a_commit_is_not_spoken_of",
    ),
    Mutant(
        "to delete the lock lets a second recorder in",
        "storage/held.py",
        "lock_folder(folder)",
        "pass",
        f"{_HELD}::test_a_lock_that_is_taken_away_lets_nobody_in_and_ends_its_holder[_unlink_lock]",
    ),
    Mutant(
        "a journal of this process is copied",
        "storage/journal/reader.py",
        "if is_open_here or not _is_abandoned(lock):",
        "if not _is_abandoned(lock):",
        f"{_HELD}::test_no_code_of_this_process_drops_the_locks_of_sqlite",
    ),
    Mutant(
        "a journal that was taken away is lost",
        "storage/salvage.py",
        "if is_taken_away:\n_write_anew(journal, store_path)",
        "pass",
        f"{_HELD}::test_a_journal_that_was_taken_away_is_written_anew_at_the_end[_unlink]",
    ),
    Mutant(
        "a pipe in the place of a candle file is waited for",
        "storage/files.py",
        "if not stat.S_ISREG(status.st_mode):",
        "if path.is_dir():",
        f"{_HELD}::test_a_candle_file_s_place_can_be_taken_by_what_is_no_file[pipe]",
        is_slow=True,
    ),
    # Files as they are read back
    Mutant(
        "a file of another owner is merged into",
        "storage/files.py",
        "if owner != series:",
        "if False:",
        _OTHERS,
    ),
    Mutant(
        "a file with other columns is taken for one of ours",
        "storage/files.py",
        "if owner is not None and not columns.equals(schema(owner)):",
        "if False:",
        _OTHERS,
    ),
    Mutant(
        "equal times within a row group pass",
        "storage/files.py",
        "if not pc.all(pc.less(begins[:-1], begins[1:]), min_count=0).as_py():",
        "if not pc.all(pc.less_equal(begins[:-1], begins[1:]), min_count=0).as_py():",
        _OTHERS,
    ),
    Mutant(
        "the order within a row group is not looked at",
        "storage/files.py",
        "if not pc.all(pc.less(begins[:-1], begins[1:]), min_count=0).as_py():",
        "if False:",
        _OTHERS,
    ),
    Mutant(
        "a seal that is missing is missed by nobody",
        "storage/files.py",
        "if not sealed and must_be_sealed(file):",
        "if False:",
        f"{_PARQUET}::test_a_file_that_lost_its_seal_is_left_alone",
    ),
    Mutant(
        "pages are read without their checksums",
        "storage/files.py",
        "file = pq.ParquetFile(source, page_checksum_verification=True)",
        "file = pq.ParquetFile(source)",
        f"{_FILES}::test_no_flipped_bit_in_a_page_is_read",
    ),
    Mutant(
        "a sector that cannot be read is no damage",
        "storage/files.py",
        "if isinstance(error, OSError) and error.errno not in (None, errno.EIO):",
        "if isinstance(error, OSError) and error.errno is not None:",
        f"{_FILES}::test_nonsense_and_sectors_that_cannot_be_read_are_damage",
    ),
    Mutant(
        "the CRC of a file forgets all but its last piece",
        "storage/files.py",
        "crc32 = zlib.crc32(chunk, crc32)",
        "crc32 = zlib.crc32(chunk)",
        f"{_FILES}::test_a_crc_is_over_all_pieces",
    ),
    Mutant(
        "what is wrong with a seal passes",
        "storage/footer.py",
        'if footer[at : at + len(UNSEALED)] != b"%08x" % zlib.crc32(unsealed(footer)):',
        "if False:",
        f"{_SEAL}::test_a_flipped_bit_in_a_footer_is_named",
    ),
    Mutant(
        "the seal is over the footer with the seal in it",
        "storage/footer.py",
        "return footer[:at] + UNSEALED.encode() + footer[at + len(UNSEALED) :]",
        "return footer",
        f"{_SEAL}::test_a_written_file_is_sealed",
    ),
    # Footers
    Mutant(
        "a list of fifteen is written as a short one",
        "storage/footer.py",
        "if len(groups) < _LONG_LIST:",
        "if len(groups) <= _LONG_LIST:",
        _FOOTER,
    ),
    Mutant(
        "a list of fourteen is written as a long one",
        "storage/footer.py",
        "if len(groups) < _LONG_LIST:",
        "if len(groups) < _LONG_LIST - 1:",
        "storage/test_footer.py::test_its_parts_make_up_the_whole",
    ),
    Mutant(
        "a number of seven bits takes two bytes",
        "storage/footer.py",
        "while value > 0x7F:",
        "while value >= 0x7F:",
        "storage/test_footer.py::test_its_parts_make_up_the_whole",
    ),
    Mutant(
        "row groups are numbered from their own file's begin",
        "storage/footer.py",
        "groups = [*copied, *(_numbered(one, first + n) for n, one in enumerate(self.groups))]",
        "groups = [*copied, *(_numbered(one, n) for n, one in enumerate(self.groups))]",
        "storage/test_footer.py::test_a_row_group_that_tells_its_place_tells_the_new_one",
    ),
    Mutant(
        "the rows of row groups that were kept are not counted",
        "storage/footer.py",
        "rows_field = bytes([1 << 4 | _I64]) + _varint(rows + self.rows << 1)",
        "rows_field = bytes([1 << 4 | _I64]) + _varint(self.rows << 1)",
        _FOOTER,
    ),
    # Merges
    Mutant(
        "a file is not synced before it gets its name",
        "storage/parquet.py",
        "seal(file)\nsync_file(file)",
        "seal(file)",
        _SYNCS,
    ),
    Mutant(
        "the folder of a renamed file is not synced",
        "storage/parquet.py",
        "replace_durably(temporary, target)",
        "temporary.replace(target)",
        _SYNCS,
    ),
    Mutant(
        "what was written is not read back",
        "storage/parquet.py",
        "crc32, newest_ms = _verified(temporary, series, rows, copied, begin_crc32)",
        "crc32 = __import__('kline_trio.storage.files').storage.files.crc32_of(temporary)\n"
        "newest_ms = 0",
        f"{_PARQUET}::test_a_write_that_went_wrong_is_noticed_before_the_rename",
    ),
    Mutant(
        "what fills gaps replaces what is there",
        "storage/changes.py",
        "filled = overlay(held, without(self.filling, held))",
        "filled = overlay(held, self.filling)",
        "storage/journal/test_ledger.py::test_rest_replaces_nothing_and_a_differing_value_is_kept_in_sight",
    ),
    Mutant(
        "a temporary file is left behind",
        "storage/parquet.py",
        "temporary.unlink(missing_ok=True)",
        "pass",
        f"{_PARQUET}::test_a_failing_disk_leaves_the_old_file_or_the_new",
    ),
    Mutant(
        "row groups of other bytes are copied",
        "storage/row_group_copy.py",
        "if whole != self.whole_crc32:",
        "if False:",
        f"{_KEPT}::test_of_a_file_that_is_not_known_all_is_read",
    ),
    Mutant(
        "a row group that the new rows touch is copied",
        "storage/row_group_copy.py",
        "if not is_full or bounds_ms(file, group, BEGIN)[1] >= before_ms:",
        "if not is_full:",
        f"{_KEPT}::test_a_late_row_has_all_from_its_row_group_on_read",
    ),
    # The disk
    Mutant(
        "the folder above a new folder is not synced",
        "storage/disk.py",
        "folder.mkdir(exist_ok=True)\nsync_folder(folder.parent)",
        "folder.mkdir(exist_ok=True)",
        f"{_DISK}::test_each_folder_that_is_made_is_synced_in_the_one_above",
    ),
    Mutant(
        "a file is unlinked before its new name is durable",
        "storage/disk.py",
        "sync_folder(new.parent)\nif not is_renamed:",
        "if not is_renamed:",
        f"{_DISK}::test_a_file_that_is_moved_has_a_durable_name_at_every_moment",
    ),
    Mutant(
        "a copy gets its name before it is durable",
        "storage/disk.py",
        'with temporary.open("rb") as file:\nsync_file(file)',
        "pass",
        f"{_DISK}::test_without_hard_links_a_file_is_moved_as_a_copy",
    ),
    Mutant(
        "a snapshot that fails leaves its folder behind",
        "storage/new_store.py",
        "_sweep(work)\nwork.rmdir()",
        "pass",
        f"{_COPIES}::test_one_that_fails_leaves_nothing_behind",
    ),
    Mutant(
        "a name is spelled as the locale spells it",
        "storage/names.py",
        'return os.fsdecode(text.encode("utf-8", "surrogateescape"))',
        "return text",
        "storage/test_names.py::test_a_store_is_the_same_under_every_locale",
    ),
    Mutant(
        "a full disk is an error like others",
        "storage/disk.py",
        "kind = DiskFullError if error.errno in _NO_ROOM else DiskError",
        "kind = DiskError",
        f"{_DISK}::test_want_of_room_is_told_from_other_errors",
    ),
    Mutant(
        "a network disk is known by its kind alone",
        "storage/disk.py",
        'kind.startswith("fuse") and _NETWORK_SOURCE.match(found.device)',
        "False",
        "storage/test_store.py::test_every_kind_of_network_disk_is_refused",
    ),
    Mutant(
        "a symbol that was delisted counts as misspelt",
        "storage/universe.py",
        "if (names := listed.get(one.trade_type)) and one.symbol not in names",
        "if (names := listed.get(one.trade_type))",
        "storage/test_status.py::test_a_misspelt_symbol_is_named",
    ),
    # Rows against the ledger
    Mutant(
        "what a file has lost is laid to the stream",
        "storage/journal/writer.py",
        "gap = Gap(series, lost, account.watermark_ms, Reason.LOST_FROM_FILE)",
        "gap = Gap(series, lost, account.watermark_ms, Reason.NOT_RECEIVED)",
        f"{_DAMAGE}::test_what_a_file_of_a_retired_series_has_lost_is_named_at_a_start",
    ),
    Mutant(
        "a file that an older list of files lacks is not looked through",
        "storage/catalog.py",
        "with journal_view(store_path) as journal:\n"
        "for owner, from_ms in wanted.items():\n"
        "later = (ms for ms in journal.waiting_ms(owner) if ms >= from_ms)\n"
        "found[owner] += owner.interval.runs(later)\n"
        "# By the same moment of the journal: a candle that has left it is in a file listed here.\n"
        "old = {\n"
        "store_path / file.path\n"
        "for file in journal.files()\n"
        "if not (file.series in wanted and _may_hold(file, layout, wanted[file.series]))\n"
        "}",
        "with journal_view(store_path) as earlier:\n"
        "    young = {\n"
        "        store_path / file.path\n"
        "        for file in earlier.files()\n"
        "        if file.series in wanted and _may_hold(file, layout, wanted[file.series])\n"
        "    }\n"
        "with journal_view(store_path) as journal:\n"
        "    for owner, from_ms in wanted.items():\n"
        "        later = (ms for ms in journal.waiting_ms(owner) if ms >= from_ms)\n"
        "        found[owner] += owner.interval.runs(later)\n"
        "    old = {store_path / file.path for file in journal.files()} - young",
        f"{_DAMAGE}::test_a_candle_that_is_merged_while_the_journal_is_looked_through_is_stored",
    ),
    Mutant(
        "candles of files that stay closed count as missing",
        "storage/holdings.py",
        "return [attrs.evolve(look, account=None) for look in looks]",
        "return looks",
        f"{_COMPARISON}::test_a_later_look_is_only_at_files_with_pending_candles",
    ),
    Mutant(
        "gap rows and filled rows of a comparison are two transactions",
        "storage/journal/writer.py",
        "for span in stored:\n"
        "# From an unknown source.\n"
        "self._ledger.change_pending(series, span, state=State.FILLED)",
        'one.execute("COMMIT")\n'
        'one.execute("BEGIN IMMEDIATE")\n'
        "for span in stored:\n"
        "    self._ledger.change_pending(series, span, state=State.FILLED)",
        "storage/faults/test_commands.py"
        "::test_merge_relayout_and_repair_can_be_stopped_at_any_call[kill]",
        is_slow=True,
    ),
    # Snapshots, and stores into one
    Mutant(
        "a snapshot links files before it copies the journal",
        "storage/copy_stores.py",
        "with journal_view(store_path) as journal:\n"
        "journal.copy_to(journal_path(work))\n"
        "copied = _link_files(store_path, work, on_step)",
        "copied = _link_files(store_path, work, on_step)\n"
        "with journal_view(store_path) as journal:\n"
        "    journal.copy_to(journal_path(work))",
        f"{_COPIES}::test_what_is_merged_while_files_are_linked_is_in_the_copy_of_the_journal",
    ),
    Mutant(
        "a snapshot inside its store is made",
        "storage/copy_stores.py",
        "if into.is_relative_to(store_path):",
        "if False:",
        f"{_COPIES}::test_a_place_that_will_not_do_is_refused",
    ),
    Mutant(
        "files younger than the journal's copy are not told to it",
        "storage/copy_stores.py",
        "if known.get(place) != entry:",
        "if False:",
        f"{_COPIES}::test_a_file_that_is_newer_than_the_copy_of_the_journal_is_told_to_it",
    ),
    Mutant(
        "a tie wins when stores are united",
        "storage/copy_stores.py",
        "wins |= ~decided & (theirs_value > mine_value)",
        "wins |= ~decided & (theirs_value >= mine_value)",
        f"{_COPIES}::test_a_disagreement_names_both_values",
    ),
    Mutant(
        "a later column overrules an earlier one",
        "storage/copy_stores.py",
        "wins |= ~decided & (theirs_value > mine_value)",
        "wins |= theirs_value > mine_value",
        f"{_COPIES}::test_more_trades_win_over_more_volume",
    ),
    Mutant(
        "of two values the lesser is kept",
        "storage/copy_stores.py",
        "new[pc.is_valid(at).to_numpy(zero_copy_only=False)] = wins",
        "new[pc.is_valid(at).to_numpy(zero_copy_only=False)] = ~wins",
        f"{_COPIES}::test_a_disagreement_names_both_values",
    ),
    Mutant(
        "what is pending hides what another store has closed",
        "storage/copy_stores.py",
        "*_cut(closed, spans),",
        "*_cut(pending, due), *_cut(closed, spans),",
        f"{_COPIES}::test_the_ledger_goes_along",
    ),
    Mutant(
        "a folder with something in it is replaced",
        "storage/new_store.py",
        "if into.exists() and (not into.is_dir() or any(into.iterdir())):",
        "if into.exists() and not into.is_dir():",
        f"{_COPIES}::test_what_is_there_is_not_written_over",
    ),
    # The journal's readers
    Mutant(
        "a copy of a journal that changed meanwhile is read",
        "storage/journal/reader.py",
        "if _generation(journal, wal) == before:",
        "if True:",
        f"{_VIEW}::test_a_copy_in_which_database_and_log_do_not_belong_together_is_made_again",
    ),
    Mutant(
        "a log is copied before its database",
        "storage/journal/reader.py",
        "shutil.copyfile(journal, copy)\nwal_copy.unlink(missing_ok=True)",
        "wal_copy.unlink(missing_ok=True)",
        f"{_VIEW}::test_a_copy_in_which_database_and_log_do_not_belong_together_is_made_again",
    ),
    Mutant(
        "the last candle that was asked for is left out",
        "storage/journal/reader.py",
        '" AND open_time_ms >= ? AND open_time_ms < ? ORDER BY open_time_ms"',
        '" AND open_time_ms > ? AND open_time_ms < ? ORDER BY open_time_ms"',
        f"{_READER}::test_start_is_inclusive_and_end_is_not_and_naive_times_are_utc",
    ),
    # Reading
    Mutant(
        "a row group that ends with the first moment is left out",
        "storage/catalog.py",
        "if first_ms < end_ms and last_ms >= start_ms:",
        "if first_ms < end_ms and last_ms > start_ms:",
        f"{_READER}::test_the_last_candle_of_a_file_is_found_by_its_own_time",
    ),
    Mutant(
        "the file wins over the journal",
        "storage/changes.py",
        "return overlay(filled, self.replacing)",
        "return overlay(self.replacing, filled)",
        f"{_READER}::test_the_journal_wins_over_the_file",
    ),
    Mutant(
        "files are looked at before the journal",
        "storage/catalog.py",
        "with journal_view(store_path) as journal:\n"
        "waiting = {one: journal.candles(one, start_ms, end_ms) for one in wanted}\n"
        "pieces: dict[Series, list[pa.Table]] = {one: [] for one in wanted}\n"
        "paths = files_named_after(store_path, wanted) if paths is None else paths\n"
        "for path, owner, file in open_files(paths, on_damage):\n"
        "if owner in pieces:\n"
        "pieces[owner].append(_rows(file, path, start_ms, end_ms).cast(schema(owner)))",
        "pieces: dict[Series, list[pa.Table]] = {one: [] for one in wanted}\n"
        "paths = files_named_after(store_path, wanted) if paths is None else paths\n"
        "for path, owner, file in open_files(paths, on_damage):\n"
        "    if owner in pieces:\n"
        "        pieces[owner].append(_rows(file, path, start_ms, end_ms).cast(schema(owner)))\n"
        "with journal_view(store_path) as journal:\n"
        "    waiting = {one: journal.candles(one, start_ms, end_ms) for one in wanted}",
        f"{_READER}::test_what_is_merged_while_it_is_read_is_read",
    ),
    Mutant(
        "an export misses what a merge moves meanwhile",
        "storage/export.py",
        "if not any(ms in span for ms in self.waiting_ms):",
        "if True:",
        "storage/test_export.py::test_candles_that_a_merge_moves_meanwhile_are_not_lost",
    ),
    Mutant(
        "the ledger of an unknown series is empty",
        "reading/reports.py",
        'if "symbol" in wanted and not table.num_rows:',
        "if False:",
        "storage/test_reports.py::test_coverage_of_one_series_only",
    ),
    Mutant(
        "a moment between two milliseconds is rounded down",
        "storage/arguments.py",
        'stamp = stamp.ceil("ms")',
        'stamp = stamp.floor("ms")',
        f"{_READER}::test_start_is_inclusive_and_end_is_not_and_naive_times_are_utc",
    ),
    Mutant(
        "of two tables the older one wins",
        "storage/table.py",
        "return pa.concat_tables([without(older, newer), newer]).sort_by(BEGIN)",
        "return pa.concat_tables([older, without(newer, older)]).sort_by(BEGIN)",
        "storage/test_table.py::test_overlay_is_dict_union",
    ),
    Mutant(
        "tables that touch in one candle are put behind each other",
        "storage/table.py",
        "if older[BEGIN][-1].value < newer[BEGIN][0].value:",
        "if older[BEGIN][-1].value <= newer[BEGIN][0].value:",
        "storage/test_table.py::test_overlay_is_dict_union",
    ),
    Mutant(
        "files of newer formats are read",
        "storage/table.py",
        "if version > FORMAT_VERSION:",
        "if False:",
        "storage/test_table.py::test_newer_formats_are_refused",
    ),
    Mutant(
        "two placeholders may stand side by side",
        "storage/layout.py",
        "if before is not None and (not text or text.isalnum()):",
        "if False:",
        "storage/test_layout.py::test_unusable_templates_say_why",
    ),
    Mutant(
        "parts of a path may begin with a dot",
        "storage/layout.py",
        'if part.startswith((".", "_")) or not part:',
        "if not part:",
        "storage/test_layout.py::test_unusable_templates_say_why",
    ),
)
