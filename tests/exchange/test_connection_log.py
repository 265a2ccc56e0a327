"""What is said of connections: a line when something changes, not when it stays."""

import pytest

from kline_trio.exchange.connection_log import ConnectionLog


def test_a_shutdown_that_is_announced_again_and_again_is_a_line_a_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    log = ConnectionLog("spot")
    for second in range(0, 150, 3):
        log.shutting_down(float(second))
    assert caplog.messages == ["spot: the exchange is about to close this connection"] * 3
