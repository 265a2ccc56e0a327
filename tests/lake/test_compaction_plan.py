"""Which files are rewritten together: small ones of past days, overlapping ones of past months."""

from datetime import UTC, datetime

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kline_trio.lake.compaction_plan import (
    LATE_SECONDS,
    SMALL_BYTES,
    SORTED,
    DataFile,
    Job,
    Partition,
    jobs_of,
)

NOVEMBER = Partition("spot", "1m", "2026-11")
HOUR, DAY, MB = 3_600, 86_400, 1 << 20


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


NOW = at("2026-11-10T12:30")
AFTER = at("2026-12-03T00:00")


def file(
    name: str,
    last: str = "2026-11-01T00:59",
    symbols: str = "A-Z",
    size: int = MB,
    rows: int = 1_000,
) -> DataFile:
    first, _, final = symbols.partition("-")
    path = f"trade_type=spot/time_interval=1m/month=2026-11/{name}.parquet"
    return DataFile(path, size, rows, first, final, at(last))


def made(
    number: int, symbols: str, last: str = "2026-11-01T00:59", size: int = 100 * MB
) -> DataFile:
    return file(f"{SORTED}{number}", last, symbols, size, 1_000_000)


def groups(*files: DataFile, now: float) -> list[set[str]]:
    jobs = jobs_of(NOVEMBER, files, now)
    assert all(job.partition == NOVEMBER for job in jobs)
    return [
        {one.path.rsplit("/")[-1].removesuffix(".parquet") for one in job.files} for job in jobs
    ]


def test_the_end_of_a_month() -> None:
    assert NOVEMBER.end == at("2026-12-01T00:00")
    assert Partition("spot", "1m", "2026-12").end == at("2027-01-01T00:00")


def test_the_files_of_past_days_are_rewritten_and_those_of_today_are_not() -> None:
    files = [file(f"part-{day}", f"2026-11-{day:02}T10:59") for day in (8, 9, 10)]
    assert groups(*files, now=NOW) == [{"part-8", "part-9"}]


def test_a_day_is_past_three_hours_after_its_end() -> None:
    files = [file("part-1", "2026-11-08T23:59"), file("part-2", "2026-11-09T23:59")]
    assert groups(*files, now=at("2026-11-10T02:59")) == [{"part-1"}]
    assert groups(*files, now=at("2026-11-10T03:00")) == [{"part-1", "part-2"}]


def test_a_file_that_reaches_into_today_waits() -> None:
    assert groups(file("part-1", "2026-11-10T00:00"), now=NOW) == []


def test_small_sorted_files_are_joined_with_new_ones_and_large_ones_are_left() -> None:
    files = [
        file("part-1"),
        made(1, "A-Z", size=SMALL_BYTES - 1),
        made(2, "A-Z", size=SMALL_BYTES),
    ]
    assert groups(*files, now=NOW) == [{"part-1", "sorted-1"}]
    assert groups(*files[1:], now=NOW) == []


def test_a_month_is_rewritten_as_a_whole_two_days_after_its_end() -> None:
    files = [file("part-1", "2026-11-30T23:59"), made(1, "A-Z"), made(2, "A-Z")]
    assert groups(*files, now=NOVEMBER.end + LATE_SECONDS - 1) == [{"part-1"}]
    assert groups(*files, now=NOVEMBER.end + LATE_SECONDS) == [{"part-1", "sorted-1", "sorted-2"}]


def test_files_of_a_past_month_without_a_common_symbol_stay_apart() -> None:
    files = [made(1, "A-F"), made(2, "G-M"), made(3, "N-Z"), file("part-1", symbols="H-H")]
    files[3] = attrs.evolve(files[3], rows=20_000)
    assert groups(*files, now=AFTER) == [{"sorted-2", "part-1"}]
    assert groups(*files[:3], now=AFTER) == []


def test_a_few_late_rows_do_not_cause_a_large_file_to_be_written_again() -> None:
    files = [made(1, "A-F"), file("part-1", symbols="B-C", rows=9_000)]
    assert groups(*files, now=AFTER) == []
    more = attrs.evolve(files[1], rows=11_000)
    assert groups(files[0], more, now=AFTER) == [{"sorted-1", "part-1"}]
    many = [file(f"part-{n}", symbols="B-C", rows=10) for n in range(8)]
    assert len(groups(files[0], *many[:7], now=AFTER)) == 0
    assert len(groups(files[0], *many, now=AFTER)) == 1
    small = attrs.evolve(files[0], size=MB)
    assert groups(small, files[1], now=AFTER) == [{"sorted-1", "part-1"}]


def test_a_file_that_a_merge_has_written_anew_is_sorted_again() -> None:
    anew = file("part-1", symbols="A-F", size=100 * MB, rows=1_000_000)
    assert groups(anew, made(2, "G-Z"), now=AFTER) == [{"part-1"}]


def test_an_empty_partition_has_no_jobs() -> None:
    assert groups(now=NOW) == groups(now=AFTER) == []


def test_a_job_counts_its_files() -> None:
    job = Job(NOVEMBER, (file("part-1"), file("part-2", size=5, rows=7)))
    assert (job.size, job.rows) == (MB + 5, 1_007)


@st.composite
def partitions(draw: st.DrawFn) -> list[DataFile]:
    files = []
    for n in range(draw(st.integers(0, 12))):
        first, last = sorted(
            draw(st.tuples(st.sampled_from("ABCDEFGH"), st.sampled_from("ABCDEFGH")))
        )
        name = draw(st.sampled_from([f"part-{n}", f"{SORTED}{n}"]))
        day = draw(st.integers(1, 30))
        size = draw(st.integers(1, 200 * MB))
        rows = draw(st.integers(1, 1_000_000))
        files.append(file(name, f"2026-11-{day:02}T12:00", f"{first}-{last}", size, rows))
    return files


@given(partitions(), st.integers(0, 40))
def test_no_file_is_in_two_jobs_and_what_is_left_of_a_past_month_is_cheap(
    files: list[DataFile], days: int
) -> None:
    now = at("2026-11-01T12:00") + days * DAY
    jobs = jobs_of(NOVEMBER, files, now)
    taken = [one.path for job in jobs for one in job.files]
    assert len(taken) == len(set(taken))
    assert set(taken) <= {one.path for one in files}
    left = [one for one in files if one.path not in set(taken)]
    if now >= NOVEMBER.end + LATE_SECONDS:
        assert sum(not one.is_sorted for one in left) < 8 * 8
    # After the jobs, each has one sorted file in place of its own: then nothing is left to do.
    after = left + [
        attrs.evolve(
            job.files[0],
            path=f"x/{SORTED}-job{n}.parquet",
            size=job.size,
            rows=job.rows,
            first_symbol=min(one.first_symbol for one in job.files),
            last_symbol=max(one.last_symbol for one in job.files),
            last_begin=max(one.last_begin for one in job.files),
        )
        for n, job in enumerate(jobs)
    ]
    assert jobs_of(NOVEMBER, after, now) == ()


@pytest.mark.parametrize("name", ["part-1", "other"])
def test_only_compaction_names_its_files_sorted(name: str) -> None:
    assert not file(name).is_sorted
    assert file(f"{SORTED}abc").is_sorted
