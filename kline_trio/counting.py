"""Counts in words: `1 file`, `2,000 files`."""


def noun(number: float, singular: str, plural: str | None = None) -> str:
    """Return the form of a word that fits a number.

    Args:
      number: how many there are.
      singular: for one, perhaps with the words around it: `candle was`.
      plural: for any other number; None: the singular with an `s`.
    """
    if number == 1:
        return singular
    return f"{singular}s" if plural is None else plural


def counted(number: int, singular: str, plural: str | None = None) -> str:
    """Return a number and the form of a word that fits it: `1 file`, `2,000 files`.

    Args:
      number: how many there are.
      singular: for one, perhaps with the words around it: `candle was`.
      plural: for any other number; None: the singular with an `s`.
    """
    return f"{number:,} {noun(number, singular, plural)}"
