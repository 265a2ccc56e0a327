"""Make foreign text safe for a line of a log or a terminal: printable, and of bounded length."""

_SHOWN_CHARACTERS = 200
_LINE_CHARACTERS = 4_000
"""All lines of ours are shorter."""


def escaped(text: str) -> str:
    """Return the text with each unprintable character as a backslash escape.

    Letters of all scripts stay. Characters that move the cursor, end a line or change the direction
    of writing are escaped.
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


def shown(text: str, most: int = _SHOWN_CHARACTERS) -> str:
    """Return the first characters of a foreign text, escaped. Dots stand for the rest.

    Args:
      text: from a server, a proxy or a file.
      most: how many characters to show.
    """
    return escaped(text[:most]) + ("..." if len(text) > most else "")


def one_line(text: str) -> str:
    """Return a text of ours, which may quote foreign text, as one line of bounded length."""
    return shown(text, _LINE_CHARACTERS)
