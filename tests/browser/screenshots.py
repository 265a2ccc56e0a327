"""Make the pictures of README and docs: a recorder of two years, well and in trouble.

    python -m tests.browser.screenshots [FOLDER] [--seconds 360]

The exchange runs at real speed from now on, so that all times on the page fit together; a picture
differs from its last one by them. Fonts are the system's: Debian's fonts-noto-core is wanted.
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page

from kline_trio.candle import Series
from kline_trio.storage.journal.ledger import Reason
from tests.browser.browsing import Scheme, chromium_path, open_chromium, open_visitor
from tests.browser.exchange import ObedientExchange
from tests.browser.recording import OrderedExchange, Recording, open_exchange, open_recording
from tests.browser.stores import BTC, CommonGap, Ledger, store_of_candles
from tests.browser.views import open_overview
from tests.faulty_exchange import plausible_symbols

__all__ = ["main"]

_FOLDER = Path(__file__).resolve().parents[2] / "docs" / "images"
_STORE = "candles"
_SYMBOLS = {"spot": 12, "usdt_futures": 10, "coin_futures": 4}
_INTERVALS = {"BTCUSDT": ("1m", "5m", "1h"), "ETHUSDT": ("1m", "1h")}
_COMMON = (
    CommonGap(tuple(_SYMBOLS), 68, 4, 25, Reason.RECORDER_DOWN),
    CommonGap(("spot",), 37, 6, 120, Reason.EXCHANGE_HAD_NONE),
    CommonGap(("usdt_futures", "coin_futures"), 12, 9, 10, Reason.RECORDER_DOWN),
)
_TROUBLE_SECONDS = 150
_STRUCK = ("ETHUSDT", "SOLUSDT", "XRPUSDT")
_DRAWN_MS = 2_500
_MINUTE_MS = 60_000
_HOUR_MS = 3_600_000


def main(arguments: list[str]) -> None:
    """Make all pictures."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.browser.screenshots", description=__doc__
    )
    parser.add_argument("folder", type=Path, nargs="?", default=_FOLDER)
    parser.add_argument(
        "--seconds", type=int, default=360, help="how long to record before the first picture"
    )
    options = parser.parse_args(arguments)
    chromium = chromium_path()
    if chromium is None:
        sys.exit("CHROMIUM ABSENT: apt-get install chromium")
    options.folder.mkdir(parents=True, exist_ok=True)
    with _demonstration() as (exchange, recording), open_chromium(chromium) as browser:
        time.sleep(options.seconds)
        _take(browser, recording, options.folder / "page-dark.png", "dark")
        _take(browser, recording, options.folder / "page-light.png", "light")
        _take(browser, recording, options.folder / "phone.png", "dark", size="phone")
        _take_series(browser, recording, options.folder / "series-dark.png", "dark")
        _take_series(browser, recording, options.folder / "series-light.png", "light")
        for symbol in _STRUCK:
            exchange.begin("Silence", stream=f"{symbol.lower()}@kline_1m")
        exchange.begin("RestFault", status=503)
        time.sleep(min(options.seconds, _TROUBLE_SECONDS))
        _take(browser, recording, options.folder / "trouble.png", "dark", verdict="bad")


@contextmanager
def _demonstration() -> Iterator[tuple[OrderedExchange, Recording]]:
    """Record into a store of two years."""
    with ExitStack() as running:
        # Its name is in the pictures.
        folder, series = Path(tempfile.gettempdir()) / _STORE, _recorded()
        folder.mkdir()
        running.callback(shutil.rmtree, folder)
        _make_store(folder / "data", series, _now_ms() // _MINUTE_MS * _MINUTE_MS)
        exchange = running.enter_context(
            open_exchange(folder, "--start-ms", str(_now_ms()), "--speed", "1")
        )
        streams = [(one.trade_type, one.symbol, one.time_interval) for one in series]
        yield (
            exchange,
            running.enter_context(open_recording(folder, exchange, streams, tables="")),
        )


def _now_ms() -> int:
    return round(time.time() * 1_000)


def _recorded() -> list[Series]:
    return [
        Series(name, symbol, interval)
        for name, count in _SYMBOLS.items()
        for symbol in plausible_symbols(name, count)
        for interval in _INTERVALS.get(symbol, ("1m",))
    ]


def _make_store(path: Path, series: list[Series], end_ms: int) -> None:
    # The chart goes on with the exchange's own prices.
    exchange = ObedientExchange(start_ms=end_ms, speed=1.0, symbols=0, forming=True)
    price = float(exchange.closed_candle("spot", "BTCUSDT", "1m", end_ms).open)
    store_of_candles(path, end_ms, last_price=price, has_pending=False)
    others = [one for one in series if one != BTC]
    Ledger(series=others, share=0.012, has_pending=False, end_ms=end_ms, common=_COMMON).write(path)


def _take(
    browser: Browser,
    recording: Recording,
    path: Path,
    scheme: Scheme,
    size: str = "desktop",
    verdict: str = "ok",
) -> None:
    with open_visitor(browser, size, scheme) as visitor:
        open_overview(visitor.page, recording).expect_verdict(verdict)
        _write(visitor.page, path)


def _take_series(browser: Browser, recording: Recording, path: Path, scheme: Scheme) -> None:
    with open_visitor(browser, "desktop", scheme) as visitor:
        from_ms = _now_ms() - 20 * _HOUR_MS
        visitor.page.goto(f"{recording.url}?series=spot/BTCUSDT/1m&from={from_ms}")
        visitor.page.locator("#series .chart[aria-label]").wait_for()
        _write(visitor.page, path)


def _write(page: Page, path: Path) -> None:
    page.wait_for_timeout(_DRAWN_MS)
    page.screenshot(path=path, animations="disabled")
    print(f"{path}: {path.stat().st_size / 1e3:.0f} kB", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
