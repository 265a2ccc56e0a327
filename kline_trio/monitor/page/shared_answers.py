"""Answers that many readers share: each is rendered once, in a worker thread."""

from collections import OrderedDict
from collections.abc import Callable, Hashable

import attrs
import trio

from kline_trio.monitor.http_message import Response

_MOST_KEPT = 32
_MOST_KEPT_BYTES = 8_000_000
"""Most have less than 100 kB. A calendar of many rows and cells in trouble has some megabytes."""


@attrs.define(eq=False)
class SharedAnswers:
    """The answers that were rendered last."""

    _kept: OrderedDict[Hashable, tuple[Hashable, Response]] = attrs.field(
        init=False, factory=OrderedDict
    )
    """By question, with the version of what was asked."""
    _lock: trio.Lock = attrs.field(init=False, factory=trio.Lock)

    async def get(
        self, question: Hashable, version: Hashable, render: Callable[[], Response]
    ) -> Response:
        """Return the kept answer to a question, or render it: one answer at a time, in a thread.

        Args:
          question: equal questions have equal answers, as long as the version is the same.
          version: of what is asked.
          render: makes the answer.
        """
        async with self._lock:
            known = self._kept.get(question)
            if known is not None and known[0] == version:
                self._kept.move_to_end(question)
                return known[1]
            response = await trio.to_thread.run_sync(render, abandon_on_cancel=True)
            self._kept[question] = (version, response)
            self._kept.move_to_end(question)
            self._forget()
            return response

    def _forget(self) -> None:
        """Forget the answers that were asked for the longest time ago; the last one stays."""
        size = sum(len(response.body) for _, response in self._kept.values())
        while len(self._kept) > _MOST_KEPT or (size > _MOST_KEPT_BYTES and len(self._kept) > 1):
            _, (_, oldest) = self._kept.popitem(last=False)
            size -= len(oldest.body)
