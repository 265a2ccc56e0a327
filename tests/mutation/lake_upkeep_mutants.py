"""Mutants of what compacts and cleans up a lake, and of what is proven before."""

from tests.mutation.mutant import Mutant

__all__ = ["LAKE_UPKEEP"]

_UPKEEP = "lake/test_upkeep.py"
_LEASE = "lake/test_lease.py"
_PROOF = "lake/test_proof.py"
_VACUUM = "lake/test_vacuum.py"
_PLAN = "lake/test_compaction_plan.py"
_SORTING = "lake/test_sorting.py"

LAKE_UPKEEP = (
    Mutant(
        "a compaction replaces files that another program has replaced",
        "lake/upkeep.py",
        "if not {one.path for one in self.job.files} <= present:",
        "if False:",
        f"{_UPKEEP}::test_a_foreign_compaction_meanwhile_doubles_nothing[folder]",
    ),
    Mutant(
        "the library repeats a commit on a version that nobody has looked at",
        "lake/upkeep.py",
        "max_commit_retries=0,",
        "max_commit_retries=10,",
        f"{_UPKEEP}::test_a_foreign_compaction_in_the_moment_of_the_commit_doubles_nothing",
    ),
    Mutant(
        "a commit whose answer was lost counts as given up",
        "lake/upkeep.py",
        "if mine <= present:",
        "if False:",
        f"{_UPKEEP}::test_a_commit_whose_answer_was_lost_counts_as_done",
    ),
    Mutant(
        "a foreign compaction does not see ours",
        "lake/upkeep.py",
        "RemoveAction(one.path, True, _now_ms(), one.size, partition)  # noqa: FBT003",
        "RemoveAction(one.path, False, _now_ms(), one.size, partition)  # noqa: FBT003",
        f"{_UPKEEP}::test_a_foreign_compaction_that_began_before_ours_fails[folder]",
    ),
    Mutant(
        "a compaction commits after files of its own may have been removed",
        "lake/upkeep.py",
        "if boot_clock() > deadline:",
        "if False:",
        f"{_UPKEEP}::test_a_compactor_that_slept_for_a_day_commits_nothing",
    ),
    Mutant(
        "large files of single days stay apart when their month is over",
        "lake/compaction_plan.py",
        "if len(list(_overlapping(ours))) < len(ours):",
        "if False:",
        f"{_PLAN}::test_a_month_is_rewritten_as_a_whole_two_days_after_its_end",
    ),
    Mutant(
        "of two rows of a key, the lower rank stays",
        "lake/sorting.py",
        "better = rank(_row(table, other)) > rank(_row(table, best))",
        "better = rank(_row(table, other)) < rank(_row(table, best))",
        f"{_SORTING}::test_of_three_rows_of_a_key_the_highest_rank_stays",
    ),
    Mutant(
        "a renewed lease cannot be renewed again",
        "lake/lease.py",
        "self._etag = self._objects.replace(_PATH, content, self._etag)",
        "self._objects.replace(_PATH, content, self._etag)",
        f"{_LEASE}::test_a_holder_that_keeps_its_lease_stays_the_holder",
    ),
    Mutant(
        "a lease of the dead is held for ever",
        "lake/lease.py",
        "return None if has_expired else self.holder",
        "return self.holder",
        f"{_LEASE}::test_a_lease_whose_holder_has_died_expires_by_the_clock_of_the_store",
    ),
    Mutant(
        "a race with two winners is no reason to refuse an object store",
        "lake/proof.py",
        "if sum(won) != 1:",
        "if False:",
        f"{_PROOF}::test_a_store_that_fails_only_in_a_race_is_refused",
    ),
    Mutant(
        "a wrong clock makes files look old",
        "lake/vacuum.py",
        "if abs(error) > MOST_CLOCK_ERROR_SECONDS:",
        "if False:",
        f"{_VACUUM}::test_a_wrong_clock_is_refused[folder-400-6 min ahead of]",
    ),
    Mutant(
        "vacuum removes files that kline_trio did not make",
        "lake/vacuum.py",
        "left = [one for one in others if _OURS.fullmatch(PurePosixPath(one).name)]",
        "left = [one for one in others if True]",
        f"{_VACUUM}::test_files_of_a_program_that_was_killed_are_removed_and_foreign_ones_are_left",
    ),
)
