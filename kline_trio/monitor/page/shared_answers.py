"""Answers that many readers share: each is rendered once, in a worker thread."""

from collections import OrderedDict
from collections.abc import Callable, Hashable

import attrs
import trio

from kline_trio.monitor.http_message import Response

_MOST_KEPT = 32
"""Some have 100 kB."""


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
        """Return the answer to a question, by the lock one at a time.

        Args:
          question: equal questions have equal answers, as long as the version is the same.
          version: of what is asked.
          render: makes the answer, in a thread.
        """
        async with self._lock:
            known = self._kept.get(question)
            if known is not None and known[0] == version:
                self._kept.move_to_end(question)
                return known[1]
            response = await trio.to_thread.run_sync(render, abandon_on_cancel=True)
            self._kept[question] = (version, response)
            self._kept.move_to_end(question)
            while len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)
            return response
