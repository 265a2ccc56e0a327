"""What a tab holds and what its first view took, by the protocol of Chromium's own tools."""

import json
from typing import Any

import attrs
from playwright.sync_api import Browser, CDPSession, Page

__all__ = ["Inspector"]

_PAINTED = """
() => new Promise((resolve) => new PerformanceObserver((list) => {
  for (const entry of list.getEntriesByName("first-contentful-paint")) resolve(entry.startTime);
}).observe({ type: "paint", buffered: true }))
"""
_COLLECTIONS = 3
"""What a finalizer frees is garbage of the next collection."""
_WAIT_MS = 20.0
_MOST_WAITS = 500


@attrs.define(eq=False)
class Inspector:
    """Looks into one tab, and into the shared workers of its browser."""

    page: Page
    _of_page: CDPSession
    _of_browser: CDPSession
    _answers: dict[int, dict[str, Any]] = attrs.field(init=False, factory=dict)
    _asked: int = attrs.field(init=False, default=0)

    @classmethod
    def of(cls, browser: Browser, page: Page) -> "Inspector":
        """Attach to a tab of a browser."""
        inspector = cls(page, page.context.new_cdp_session(page), browser.new_browser_cdp_session())
        inspector._of_browser.on(
            "Target.receivedMessageFromTarget", lambda event: inspector._hear(event)
        )
        return inspector

    def first_paint_ms(self) -> float:
        """Return when the page first showed a text or an image, since its navigation began."""
        moment: float = self.page.evaluate(_PAINTED)
        return moment

    def heap_bytes(self) -> int:
        """Collect all garbage of the tab; return what is left."""
        for _ in range(_COLLECTIONS):
            self._of_page.send("HeapProfiler.collectGarbage")
        return int(self._of_page.send("Runtime.getHeapUsage")["usedSize"])

    def worker_heap_bytes(self) -> int:
        """Collect all garbage of the browser's shared workers; return what is left."""
        targets = self._of_browser.send("Target.getTargets")["targetInfos"]
        return sum(
            self._heap_bytes_of(one["targetId"])
            for one in targets
            if one["type"] == "shared_worker"
        )

    def nodes(self) -> int:
        """Return how many nodes of documents the tab holds, those that are out of sight too."""
        return int(self._of_page.send("Memory.getDOMCounters")["nodes"])

    def _heap_bytes_of(self, target: str) -> int:
        # Playwright gives no session of a shared worker, so messages are wrapped by hand.
        session = self._of_browser.send(
            "Target.attachToTarget", {"targetId": target, "flatten": False}
        )["sessionId"]
        try:
            for _ in range(_COLLECTIONS):
                self._ask(session, "HeapProfiler.collectGarbage")
            return int(self._ask(session, "Runtime.getHeapUsage")["usedSize"])
        finally:
            self._of_browser.send("Target.detachFromTarget", {"sessionId": session})

    def _ask(self, session: str, method: str) -> dict[str, Any]:
        self._asked += 1
        message = json.dumps({"id": self._asked, "method": method})
        self._of_browser.send(
            "Target.sendMessageToTarget", {"sessionId": session, "message": message}
        )
        for _ in range(_MOST_WAITS):
            if self._asked in self._answers:
                result: dict[str, Any] = self._answers.pop(self._asked)["result"]
                return result
            self.page.wait_for_timeout(_WAIT_MS)
        raise AssertionError(f"{method}: no answer of the worker")

    def _hear(self, event: dict[str, Any]) -> None:
        answer = json.loads(event["message"])
        if "id" in answer:
            self._answers[answer["id"]] = answer
