"""One publication: everything that the journal has as unpublished goes into the lake."""

from collections.abc import Callable
from pathlib import Path

import attrs

from kline_trio.candle import Series
from kline_trio.interval import Span
from kline_trio.lake.ledgers import Ledgers, last_revision, publish_revisions
from kline_trio.lake.location import Location
from kline_trio.lake.merge import merge_rows
from kline_trio.lake.plan import MOST_ROWS, Chunk, chunks
from kline_trio.lake.rows import lake_rows
from kline_trio.storage.catalog import stored_span
from kline_trio.storage.journal.outbox import EVER, Unpublished
from kline_trio.storage.journal.reader import journal_view


@attrs.frozen
class Published:
    """A part of a publication that is in the lake, for `Journal.published`."""

    spans: dict[Series, tuple[Span, ...]]
    sequence: int
    """The last sequence number of the journal that the publication saw."""
    rows: int
    """How many candles were sent."""
    inserted: int
    updated: int
    left: int
    """How many candles of this publication are still to come."""


def publish(
    location: Location,
    store_path: Path,
    on_part: Callable[[Published], None],
    pause: Callable[[int], None],
    most_rows: int = MOST_ROWS,
) -> int:
    """Publish what the journal has as unpublished, and what else the recorder knows.

    `Journal.begin_lake` was called before. Nothing of the store is changed: the caller gives each
    part to `Journal.published`, and the sequence number at the end. Whatever was published and not
    kept so is published again, which changes nothing in the lake.

    Args:
      location: the lake.
      store_path: the store's folder. A recorder may write to it meanwhile.
      on_part: called with each part that is in the lake.
      pause: waits before the n-th retry of a commit.
      most_rows: how many candles a commit has at most.

    Returns:
      the sequence number up to which everything is in the lake.

    Raises:
      LakeError: the lake cannot be used. All parts before are in it.
      KlineTrioError: the store cannot be read.
    """
    with journal_view(store_path) as journal:
        state = journal.lake()
        assert state is not None, "Journal.begin_lake comes first"
        found = journal.unpublished()
        ledgers = Ledgers.of(journal, store_path, state.recorder)
    wanted = unpublished_spans(store_path, found)
    left = sum(one.interval.count(span) for one, spans in wanted.items() for span in spans)
    for chunk in chunks(wanted, most_rows):
        rows = lake_rows(store_path, chunk.spans)
        inserted, updated = merge_rows(location, rows, pause)
        left -= _count(chunk)
        part = Published(
            dict(chunk.spans), found.sequence, rows.num_rows, inserted, updated, max(0, left)
        )
        on_part(part)
    after = last_revision(location, state.recorder)
    with journal_view(store_path) as journal:
        revisions = list(journal.revisions_after(after))
    publish_revisions(location, state.recorder, revisions, pause)
    ledgers.publish(location, pause)
    return found.sequence


def unpublished_spans(store_path: Path, found: Unpublished) -> dict[Series, tuple[Span, ...]]:
    """Return the spans that a look at the journal found, for the time that is stored.

    Raises:
      KlineTrioError: the store cannot be read.
    """
    wanted = dict(found.spans)
    for series, spans in found.spans.items():
        if any(span.to_ms >= EVER.to_ms for span in spans):
            whole = stored_span(store_path, series)
            wanted[series] = tuple(
                piece for span in spans for piece in (span.common_with(whole) if whole else ())
            )
    return {series: spans for series, spans in wanted.items() if spans}


def _count(chunk: Chunk) -> int:
    return sum(one.interval.count(span) for one, spans in chunk.spans.items() for span in spans)
