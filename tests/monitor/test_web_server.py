"""The web server as a whole: how many readers it takes, and where it is."""

import resource

import pytest

from kline_trio.monitor.web_server import most_connections


def test_many_files_for_few_readers_are_left_to_recording(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for limit, most in ((1_024, 64), (256, 16), (20_000, 64), (8, 1)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, limit=limit: (limit, limit))
        assert most_connections() == most
    infinite = resource.RLIM_INFINITY
    monkeypatch.setattr(resource, "getrlimit", lambda _: (infinite, infinite))
    assert most_connections() == 64
