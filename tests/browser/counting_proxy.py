"""A proxy before the monitor that knows how many event streams are open."""

import trio

from tests.fault_proxy import FaultProxy, _Link

__all__ = ["CountingProxy"]

_STREAM = b"GET /api/v1/stream"


class CountingProxy(FaultProxy):
    """`FaultProxy`, with a count of the event streams that go through it."""

    def __init__(self, target_port: int, seed: int = 1) -> None:
        super().__init__(target_port, seed)
        self.opened = 0
        """How many streams were asked for so far."""
        self._streams: set[_Link] = set()

    @property
    def streams(self) -> int:
        """How many are open now."""
        return self._tell(lambda: len(self._streams & self._links))

    async def _pass_on(self, data: bytes, link: _Link, sink: trio.SocketStream) -> None:
        # A browser sends the head of a request in one piece, on a connection without another one.
        if sink is link.server and b" HTTP/1.1\r\n" in data:
            self._streams.discard(link)
            if data.startswith(_STREAM):
                self._streams.add(link)
                self.opened += 1
        await super()._pass_on(data, link, sink)
