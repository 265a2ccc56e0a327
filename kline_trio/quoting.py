"""Foreign text, made fit for a line of a log or a terminal: printable, and of bounded length."""

__all__ = ["escaped", "one_line", "shown"]

_SHOWN_CHARACTERS = 200
_LINE_CHARACTERS = 4_000
"""No line of ours is as long."""


def escaped(text: str) -> str:
    """Return the text with every character that is not printable as a backslash escape.

    Letters of every script stay. What moves a cursor, ends a line or turns the direction of
    writing does not.
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


def shown(text: str, most: int = _SHOWN_CHARACTERS) -> str:
    """Return the beginning of a foreign text, escaped; dots stand for the rest.

    Args:
      text: from outside: a server, a proxy, a file.
      most: how many of its characters are shown.
    """
    return escaped(text[:most]) + ("..." if len(text) > most else "")


def one_line(text: str) -> str:
    """Return a text of ours, into which others may have written, as one line of bounded length."""
    return shown(text, _LINE_CHARACTERS)
