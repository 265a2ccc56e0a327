"""A bounded cache."""

from typing import Generic, TypeVar

__all__ = ["Recent"]

_K = TypeVar("_K")
_V = TypeVar("_V")


class Recent(Generic[_K, _V]):
    """Keeps the values put in last: at least ``size``, at most twice as many.

    Two dictionaries take turns: keeping the order of use costs more than the values do.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._new: dict[_K, _V] = {}
        self._old: dict[_K, _V] = {}

    def __len__(self) -> int:
        return len(self._new) + len(self._old)

    def get(self, key: _K) -> _V | None:
        """Return the value of a key; None if it is not kept."""
        value = self._new.get(key)
        return self._old.get(key) if value is None else value

    def put(self, key: _K, value: _V) -> None:
        """Keep a value; the oldest ones may be dropped for it."""
        if len(self._new) >= self._size:
            self._old, self._new = self._new, {}
        self._new[key] = value
