"""One line of the log for what happens to many within a short while."""

from collections.abc import Mapping

import trio
import trio.testing

from kline_trio.recorder.grouped_log import GroupedLog, first_names


async def test_the_first_is_said_at_once_and_what_follows_together(
    autojump_clock: trio.testing.MockClock,
) -> None:
    said: list[tuple[float, dict[str, int], str]] = []

    def say(names: Mapping[str, int], detail: str) -> None:
        said.append((trio.current_time(), dict(names), detail))

    gathered = GroupedLog(say)
    for number in range(1_000):
        gathered.add(f"S{number % 400}", f"detail {number}")
    assert said == [(0, {"S0": 1}, "detail 0")]
    gathered.flush()
    assert len(said) == 1
    await trio.sleep_until(gathered.due_at)
    gathered.flush()
    assert len(said) == 2
    assert sum(said[1][1].values()) == 999
    assert said[1][2] == "detail 999"
    gathered.add("late")
    gathered.close()
    gathered.close()
    assert [names for _, names, _ in said[2:]] == [{"late": 1}]
    await trio.sleep(60)
    gathered.add("much later")
    assert said[-1][:2] == (65, {"much later": 1})


def test_many_names_are_counted() -> None:
    assert first_names({"A": 1, "B": 1}) == "A, B"
    assert first_names(dict.fromkeys(map(str, range(1_012)), 1)).endswith("8, 9 and 1,002 more")
