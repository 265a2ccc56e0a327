"""Foreign text in lines of ours."""

import pytest

from kline_trio.quoting import escaped, one_line, shown


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("Proxy \x1b[31mred\x1b[0m", r"Proxy \x1b[31mred\x1b[0m"),
        ("one\r\ntwo\tthree", r"one\r\ntwo\tthree"),
        ("\x9b2J\x7f\0", r"\x9b2J\x7f\x00"),
        ("abc\u202edef\u2028", r"abc\u202edef\u2028"),
        ("data-\udcff.pqt", r"data-\udcff.pqt"),
        ("币安人生 naïve ที่", "币安人生 naïve ที่"),
    ],
)
def test_what_is_not_printable_is_escaped_and_letters_stay(text: str, line: str) -> None:
    assert escaped(text) == line
    assert escaped(text).isprintable()


def test_a_long_text_is_cut_before_it_is_escaped() -> None:
    assert shown("\x1b" * 1_000, 3) == r"\x1b\x1b\x1b..."
    assert shown("abc", 3) == "abc"
    assert len(shown("x" * 100_000)) < 300
    assert len(one_line("\n" * 100_000)) < 10_000
