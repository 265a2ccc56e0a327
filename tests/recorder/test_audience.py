"""Who listens along gets copies, and can hold nobody up."""

from datetime import UTC, datetime

from kline_trio.candle import Candle, ReceivedCandle, Series
from kline_trio.recorder.audience import Audience

BTC = Series("spot", "BTCUSDT", "1m")


def received(count: int) -> list[ReceivedCandle]:
    moment = datetime(2024, 1, 1, tzinfo=UTC)
    return [
        ReceivedCandle(BTC, Candle(n * 60_000, 1, 1, 1, 1, 1, 1, 1, 1, 1), moment)
        for n in range(count)
    ]


async def test_each_reader_gets_every_copy_and_ends_with_the_recorder() -> None:
    audience = Audience()
    one, two = audience.join(10), audience.join(10)
    audience.publish(received(3))
    audience.leave()
    assert [item async for item in one] == received(3)
    assert [item async for item in two] == received(3)
    assert (one.lost, two.lost) == (0, 0)


async def test_a_slow_reader_loses_its_own_copies_and_knows_how_many() -> None:
    audience = Audience()
    slow, quick = audience.join(2), audience.join(10)
    audience.publish(received(5))
    audience.leave()
    assert [item async for item in slow] == received(2)
    assert slow.lost == 3
    assert len([item async for item in quick]) == 5
