"""What a connection expects of its streams; pure."""

from kline_trio.exchange.subscription import Subscription


def test_a_stream_suspected_again_and_again_in_one_silence_is_named_when_patience_ends() -> None:
    subscription = Subscription()
    named = []
    for second in range(20):
        subscription.watch("a@kline_1s", second)
        named.append(subscription.silent(second, 6))
    # Then a silence begins anew: with the next suspicion, not before.
    assert [second for second, names in enumerate(named) if names] == [6, 13]


def test_a_stream_that_gave_something_is_given_the_whole_patience_again() -> None:
    subscription = Subscription()
    subscription.watch("a@kline_1s", 0)
    subscription.mark_heard("a@kline_1s")
    subscription.watch("a@kline_1s", 5)
    assert subscription.silent(10, 6) == ()
    assert subscription.silent(11, 6) == ("a@kline_1s",)
