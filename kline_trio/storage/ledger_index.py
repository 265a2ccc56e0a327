"""The ledger as columns in memory: what each series lacked and when, some 20 bytes a gap."""

import array
import hashlib
import itertools
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from kline_trio.candle import MAX_TIME_MS, TRADE_TYPES, Series, Source
from kline_trio.errors import DamagedError
from kline_trio.interval import INTERVALS as _BY_NAME
from kline_trio.interval import Span
from kline_trio.spans import joined
from kline_trio.storage.arguments import store_folder
from kline_trio.storage.catalog import candle_files, log_damage, open_files
from kline_trio.storage.disk import disk_errors
from kline_trio.storage.files import span_of, status_of
from kline_trio.storage.gaps import coverage_columns, has_journal
from kline_trio.storage.held import journal_parts
from kline_trio.storage.journal.ledger import Reason, SeriesAccount, State
from kline_trio.storage.journal.reader import JournalView, journal_view
from kline_trio.storage.numbering import Numbers, numbers_from, numbers_until
from kline_trio.storage.paths import coverage_path, journal_path

STORED, REFILLED, PENDING, ABSENT, IN_LAKE = range(5)
"""What became of a gap. A gap that the stream filled late is stored like any candle. Pruned months
are kept as gaps, too: they are IN_LAKE, and not due."""
REASONS = tuple(Reason)
_REASONS = {reason: code for code, reason in enumerate(REASONS)}
_KINDS = {
    (state, source): {State.PENDING: PENDING, State.CLOSED: ABSENT, State.IN_LAKE: IN_LAKE}.get(
        state, STORED if source is Source.STREAM else REFILLED
    )
    for state in State
    for source in (None, *Source)
}
INTERVALS = tuple(_BY_NAME.values())
_CODES = {name: code for code, name in enumerate(_BY_NAME)}
_NO_ACCOUNT = SeriesAccount(MAX_TIME_MS, 0)
_NO_CANDLE = 2**40
"""More than the number of any candle."""
_AT_ONCE = 10_000
_NONSENSE = (KeyError, ValueError, TypeError, OverflowError)

GapRow = tuple[Any, int, int, str, str, str | None]
"""A key of the series, the gap's span as two times, its reason, state and source."""


@attrs.frozen(eq=False)
class Accounts:
    """What is due of each series, in columns; candles are told by their numbers."""

    interval: npt.NDArray[np.int8]
    """Index into `INTERVALS`."""
    market: npt.NDArray[np.int8]
    """Index into `TRADE_TYPES`."""
    first: Numbers
    """The first due candle."""
    mark: Numbers
    """The candles before are stored or part of a gap."""
    is_over: npt.NDArray[np.bool_]
    """Whether nothing after `end` is due, however late it is."""
    end: Numbers
    """If the series is over: the first candle after the due ones. Else the same as `mark`."""


@attrs.frozen(eq=False)
class Gaps:
    """The gaps of all series in columns, by series and time. None overlap."""

    offset: Numbers
    """Where the gaps of each series begin; and at last, how many gaps there are."""
    begin: Numbers
    """The number of the first candle."""
    end: Numbers
    """The number of the last candle, and one."""
    kind: npt.NDArray[np.int8]
    """`STORED`, `REFILLED`, `PENDING`, `ABSENT` or `IN_LAKE`."""
    reason: npt.NDArray[np.int8]
    """Index into `REASONS`."""


@attrs.frozen(eq=False)
class LedgerIndex:
    """The accounts and the gaps of a store at one moment."""

    series: tuple[Series, ...]
    """All with an account or a gap, sorted."""
    version: str
    """The same ledger has the same text."""
    accounts: Accounts
    gaps: Gaps

    @classmethod
    def read(cls, store_path: Path) -> "LedgerIndex":
        """Read the ledger from the journal.

        A copy of the files without a journal has it in `coverage.parquet`; what is due begins and
        ends there with what the footers of the files say that they hold.

        Raises:
          KlineTrioError: the journal, the coverage or the disk refuses.
        """
        with disk_errors(store_path):
            try:
                if not has_journal(store_folder(store_path)):
                    return _of_copy(store_path)
                with journal_view(store_path) as journal:
                    return _of_journal(journal)
            except _NONSENSE as error:
                problem = f"it holds what kline_trio never writes: {error}"
                raise DamagedError(f"the ledger of {store_path} is damaged: {problem}") from error

    @classmethod
    def of(
        cls,
        version: str,
        accounts: Mapping[Series, SeriesAccount],
        rows: Iterable[GapRow],
        series_of: Callable[[Any], Series],
        *,
        is_copy: bool = False,
    ) -> "LedgerIndex":
        """Return the index of accounts and gaps.

        A series with gaps and no account begins with its first gap and ends with its last.

        Args:
          version: of the ledger.
          accounts: of the series that have one.
          rows: the gaps of all series.
          series_of: returns the series of a row's key.
          is_copy: whether each account is only the span from the first to the last stored candle.
        """
        columns = _Columns.of(rows)
        owners = [series_of(key) for key in columns.keys]
        series = sorted({*accounts, *owners})
        gaps = columns.gaps(series, owners)
        return cls(tuple(series), version, _accounts(series, accounts, gaps, is_copy=is_copy), gaps)


def ledger_version(store_path: Path) -> str:
    """Return the version that an index would have now. This is much cheaper than to read it.

    Raises:
      KlineTrioError: the journal or the disk refuses.
    """
    with disk_errors(store_path):
        if not has_journal(store_folder(store_path)):
            return _version_of_copy(store_path)
        with journal_view(store_path) as journal:
            return journal.ledger_version()


def ledger_stamp(store_path: Path) -> Hashable:
    """Return what the file system says of the ledger's files: as before, if nothing has changed.

    A running recorder changes it each second, whether the ledger has changed or not.

    Raises:
      DiskError: the disk refuses.
    """
    with disk_errors(store_path):
        database, log, *_ = journal_parts(journal_path(store_path))
        found = [*map(status_of, (database, log, coverage_path(store_path)))]
        if found[0] is None:
            return _version_of_copy(store_path)
        return tuple(one and (one.st_ino, one.st_size, one.st_mtime_ns) for one in found)


def _of_journal(journal: JournalView) -> LedgerIndex:
    version, ids = journal.ledger_version(), journal.series_by_id()
    gaps: Iterable[GapRow] = journal.gap_columns()
    if pruned := journal.pruned():
        keys = {series: key for key, series in ids.items()}
        why = (Reason.PRUNED, State.IN_LAKE, None)
        months = [(keys[one.series], one.span.from_ms, one.span.to_ms, *why) for one in pruned]
        gaps = _beside(months, gaps)
    return LedgerIndex.of(version, journal.accounts(), gaps, ids.__getitem__)


def _beside(months: Iterable[GapRow], gaps: Iterable[GapRow]) -> Iterator[GapRow]:
    """Give pruned months, and the parts of gaps outside them."""
    taken: dict[Any, list[Span]] = defaultdict(list)
    for one in months:
        yield one
        taken[one[0]].append(Span(*one[1:3]))
    pruned = {key: joined(spans) for key, spans in taken.items()}
    for one in gaps:
        key, from_ms, to_ms, *rest = one
        if key not in pruned:
            yield one
            continue
        for part in Span(from_ms, to_ms).without(pruned[key]):
            yield (key, part.from_ms, part.to_ms, *rest)


def _of_copy(store_path: Path) -> LedgerIndex:
    version, rows = _version_of_copy(store_path), _coverage_rows(store_path)
    held: dict[Series, list[tuple[Span, int]]] = defaultdict(list)
    for _, owner, file in open_files(candle_files(store_path), log_damage):
        if (span := span_of(file)) is not None:
            held[owner].append((span, file.metadata.num_rows))
    accounts = {
        one: SeriesAccount(
            min(span.from_ms for span, _ in files), max(span.to_ms for span, _ in files)
        )
        for one, files in held.items()
    }
    index = LedgerIndex.of(version, accounts, rows, lambda key: Series(*key), is_copy=True)
    return attrs.evolve(
        index, accounts=_proven(index, {one: _sure_rows(files) for one, files in held.items()})
    )


def _sure_rows(files: list[tuple[Span, int]]) -> int:
    """Return how many candles files hold, by the span and the rows of each.

    Return 0 if some overlap, as after a move that was cut off: both may hold the same candles.
    """
    spans = sorted(span for span, _ in files)
    is_apart = all(one.to_ms <= other.from_ms for one, other in itertools.pairwise(spans))
    return sum(rows for _, rows in files) if is_apart else 0


def _proven(index: LedgerIndex, held: Mapping[Series, int]) -> Accounts:
    """Return the accounts of a copy, by the number of stored rows of each series.

    If rows, gaps and pruned months are fewer than the due candles, it is not known which candles
    lack: then none of the series is accounted for.
    """
    gaps, accounts = index.gaps, index.accounts
    lacks = np.where(np.isin(gaps.kind, (PENDING, ABSENT, IN_LAKE)), gaps.end - gaps.begin, 0)
    sums = np.concatenate([[0], np.cumsum(lacks)])[gaps.offset]
    rows = np.array([held.get(one, 0) for one in index.series], np.int64)
    is_proven = rows + np.diff(sums) >= accounts.end - accounts.first
    return attrs.evolve(accounts, mark=np.where(is_proven, accounts.mark, accounts.first))


def _coverage_rows(store_path: Path) -> list[GapRow]:
    names = ["trade_type", "symbol", "time_interval", "from", "to", "reason", "state", "filled_by"]
    columns = coverage_columns(store_path, names)
    keys = zip(*columns[:3], strict=True)
    rows: list[GapRow] = list(zip(keys, *columns[3:], strict=True))
    if months := [one for one in rows if one[4] == State.IN_LAKE]:
        return list(_beside(months, (one for one in rows if one[4] != State.IN_LAKE)))
    return rows


def _version_of_copy(store_path: Path) -> str:
    """Return a text that is another one when the coverage or a candle file is another one."""
    found = hashlib.blake2b(digest_size=8)
    for path in (coverage_path(store_path), *candle_files(store_path)):
        if (status := status_of(path)) is not None:
            found.update(repr((str(path), status.st_size, status.st_mtime_ns)).encode())
    return f"copy-{found.hexdigest()}"


@attrs.define(eq=False)
class _Columns:
    """Gaps in columns, as they are read; their times are not yet numbers of candles."""

    keys: dict[Any, int] = attrs.field(factory=dict)
    """The keys of series, each with its code."""
    _code: "array.array[int]" = attrs.field(factory=lambda: array.array("q"))
    _from_ms: "array.array[int]" = attrs.field(factory=lambda: array.array("q"))
    _to_ms: "array.array[int]" = attrs.field(factory=lambda: array.array("q"))
    _kind: "array.array[int]" = attrs.field(factory=lambda: array.array("b"))
    _reason: "array.array[int]" = attrs.field(factory=lambda: array.array("b"))

    @classmethod
    def of(cls, rows: Iterable[GapRow]) -> "_Columns":
        """Return the rows as columns."""
        found, rows = cls(), iter(rows)
        while some := list(itertools.islice(rows, _AT_ONCE)):
            keys, from_ms, to_ms, reasons, states, sources = zip(*some, strict=True)
            code = found.keys.setdefault
            found._code.extend([code(key, len(found.keys)) for key in keys])
            found._from_ms.extend(from_ms)
            found._to_ms.extend(to_ms)
            found._kind.extend(map(_KINDS.__getitem__, zip(states, sources, strict=True)))
            found._reason.extend(map(_REASONS.__getitem__, reasons))
        return found

    def gaps(self, series: Sequence[Series], owners: Sequence[Series]) -> Gaps:
        """Return the gaps by their series' place in a sequence, and by time.

        Args:
          series: the sequence.
          owners: the series of each key.
        """
        place = {one: at for at, one in enumerate(series)}
        places = np.array([place[one] for one in owners], np.int64)
        owner = places[np.frombuffer(self._code, np.int64)]
        begin, end = np.empty_like(owner), np.empty_like(owner)
        times_ms = [np.frombuffer(one, np.int64) for one in (self._from_ms, self._to_ms)]
        interval = _interval_codes(series)[owner]
        for code in np.unique(interval).tolist():
            chosen = interval == code
            for numbers, times in zip((begin, end), times_ms, strict=True):
                numbers[chosen] = numbers_from(INTERVALS[code], times[chosen])
        order = np.lexsort((begin, owner))
        owner, begin, end = owner[order], begin[order], end[order]
        # In a damaged journal gaps may overlap: the earlier one keeps the candles.
        furthest = np.maximum.accumulate(owner * _NO_CANDLE + end) - owner * _NO_CANDLE
        begin[1:] = np.maximum(begin[1:], np.where(owner[1:] == owner[:-1], furthest[:-1], 0))
        kind, reason = (np.frombuffer(one, np.int8)[order] for one in (self._kind, self._reason))
        offset = np.searchsorted(owner, np.arange(len(series) + 1))
        return Gaps(offset, begin, np.maximum(begin, end), kind, reason)


def _interval_codes(series: Sequence[Series]) -> npt.NDArray[np.int8]:
    return np.array([_CODES[one.time_interval] for one in series], np.int8)


def _accounts(
    series: Sequence[Series],
    known: Mapping[Series, SeriesAccount],
    gaps: Gaps,
    *,
    is_copy: bool,
) -> Accounts:
    interval = _interval_codes(series)
    accounts = [known.get(one) for one in series]
    first, mark = np.empty(len(series), np.int64), np.empty(len(series), np.int64)
    for code in np.unique(interval).tolist():
        chosen = np.flatnonzero(interval == code)
        some = [accounts[at] or _NO_ACCOUNT for at in chosen.tolist()]
        first[chosen] = numbers_from(INTERVALS[code], [one.first_ms for one in some])
        mark[chosen] = numbers_until(INTERVALS[code], [one.watermark_ms for one in some])
    has_none = np.array([one is None for one in accounts], bool)
    is_over = has_none | is_copy
    is_over |= np.array([one is not None and one.retired_ms is not None for one in accounts], bool)
    end = mark.copy()
    # The gaps of these tell what was due.
    wider = np.flatnonzero((has_none | is_copy) & (np.diff(gaps.offset) > 0))
    first[wider] = np.minimum(first[wider], gaps.begin[gaps.offset[wider]])
    end[wider] = np.maximum(end[wider], gaps.end[gaps.offset[wider + 1] - 1])
    mark = np.where(is_copy, end, np.maximum(mark, first))
    market = np.array([TRADE_TYPES.index(one.trade_type) for one in series], np.int8)
    return Accounts(interval, market, first, mark, is_over, end)
