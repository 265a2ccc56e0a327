"""A bounded memory of what was worked out."""

from typing import Generic, TypeVar

__all__ = ["Memory"]

_K = TypeVar("_K")
_V = TypeVar("_V")


class Memory(Generic[_K, _V]):
    """Keeps what was put in last, twice ``size`` at most.

    Two dictionaries take turns, for to keep the order of use costs more than what is remembered.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._new: dict[_K, _V] = {}
        self._old: dict[_K, _V] = {}

    def get(self, key: _K) -> _V | None:
        """Return what is remembered."""
        value = self._new.get(key)
        return self._old.get(key) if value is None else value

    def put(self, key: _K, value: _V) -> None:
        """Remember something; what is old may be forgotten for it."""
        if len(self._new) >= self._size:
            self._old, self._new = self._new, {}
        self._new[key] = value
