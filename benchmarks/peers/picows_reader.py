"""The limit of a WebSocket in Python: picows on uvloop, which only counts frames."""

import ssl

import picows
import uvloop

from benchmarks.peers.counting import Asked, Counter, quiet


class _Listener(picows.WSListener):
    """Counts frames, up to as many as were announced."""

    def __init__(self) -> None:
        super().__init__()
        self._counter = Counter(self._expect)
        self._received = 0
        self._target = -1

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        if frame.msg_type == picows.WSMsgType.TEXT:
            self._received += 1
            if self._received == self._target:
                self._counter.all()

    def _expect(self, frames: int, _size: int) -> None:
        self._target = quiet(lambda: self._received) + frames


async def _main() -> None:
    asked = Asked()
    [streams] = asked.streams
    url = f"{asked.websocket}/stream?streams={'/'.join(streams)}"
    context = ssl.create_default_context(cafile=asked.ca) if asked.ca else None
    transport, _ = await picows.ws_connect(_Listener, url, ssl_context=context)
    await transport.wait_disconnected()


if __name__ == "__main__":
    uvloop.run(_main())
