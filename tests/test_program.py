"""The name of the program as it was called."""

import sys

import pytest

from kline_trio.program import program_name


@pytest.mark.parametrize(
    ("called", "name"),
    [
        ("/home/you/.venv/bin/kline-trio", "kline-trio"),
        ("kline-trio", "kline-trio"),
        ("/home/you/kline_trio/kline_trio/__main__.py", "python -m kline_trio"),
        ("-m", "python -m kline_trio"),
        ("my_program.py", "python -m kline_trio"),
        ("", "python -m kline_trio"),
    ],
)
def test_hints_name_the_command_that_was_called(
    called: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [called, "status"])
    assert program_name() == name


def test_without_arguments_the_module_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [])
    assert program_name() == "python -m kline_trio"
