"""Which series come to their end, and which of those that had ended trade again."""

from collections.abc import Collection, Iterable, Mapping

import attrs

from kline_trio.candle import ReceivedCandle, Series

__all__ = ["Endings"]


@attrs.define(eq=False)
class Endings:
    """What the exchange's lists say of the series, and what of that is in the ledger by now.

    A list is some minutes old when it is looked at again: a series may trade while it is sealed,
    and again later. Whatever is closed as delisted counts until its symbol is seen to trade.
    """

    _noticed_ms: dict[Series, int | None] = attrs.field(init=False, factory=dict)
    """Of symbols traded no more: the end of the candle in which that was noticed."""
    _traded: frozenset[Series] = attrs.field(init=False, default=frozenset())
    _reopened: set[Series] = attrs.field(init=False, factory=set)
    """Those among the traded of which nothing is closed as delisted any more."""

    def see(self, ended: Iterable[Series], traded: Iterable[Series]) -> None:
        """The exchange's lists say this now of what is recorded.

        Args:
          ended: whose symbols are traded no more.
          traded: whose symbols are.
        """
        self._noticed_ms = {one: self._noticed_ms.get(one) for one in ended}
        self._traded = frozenset(traded)
        self._reopened &= self._traded

    def came(self, batch: Iterable[ReceivedCandle]) -> None:
        """These are stored by now: what has trades after its end was noticed had not ended then."""
        if self._noticed_ms:
            for item in batch:
                noticed_ms = self._noticed_ms.get(item.series)
                is_after = noticed_ms is not None and item.candle.open_time_ms >= noticed_ms
                if is_after and item.candle.trade_num:
                    self._noticed_ms[item.series] = None

    def is_noticed(self, series: Series, noticed_ms: int) -> bool:
        """Whether the symbol is traded no more since that candle, and the series not sealed yet."""
        return self._noticed_ms.get(series) == noticed_ms

    def to_reopen(self, known: Collection[Series]) -> list[Series]:
        """Of which of these whatever is closed as delisted is to be asked for anew."""
        return sorted(one for one in self._traded - self._reopened if one in known)

    def reopened(self, series: Iterable[Series]) -> None:
        """That is done of these."""
        self._reopened.update(self._traded.intersection(series))

    def over(
        self, now_ms: Mapping[str, int | None], watermarks_ms: Mapping[Series, int]
    ) -> dict[Series, int]:
        """What has ended, and the end of the candle in which that was seen.

        Only when one more candle has passed: it is the first of which the exchange can say that
        there is none.

        Args:
          now_ms: by trade type, what time it is there, if that is known.
          watermarks_ms: up to where the series are accounted for.
        """
        found = {}
        for series, noticed_ms in self._noticed_ms.items():
            told_ms = now_ms[series.trade_type]
            if noticed_ms is not None:
                next_ms = series.interval.end_time_ms(noticed_ms)
                if series in watermarks_ms and watermarks_ms[series] >= next_ms:
                    found[series] = noticed_ms
            elif told_ms is not None:
                interval = series.interval
                self._noticed_ms[series] = interval.end_time_ms(interval.open_time_ms(told_ms))
        return found

    def forget(self, series: Series) -> None:
        """It is sealed, or recorded no more; it may be again."""
        self._noticed_ms.pop(series, None)
        self._reopened.discard(series)
