"""Which recorder records which symbol, if several share the work (pure).

Rendezvous hashing: each shard draws a number for each symbol, and the greatest number wins. If a
shard is added, only the symbols that it wins move; no other symbol changes its shard. (Thaler and
Ravishankar, "Using Name-Based Mappings to Increase Hit Rates", 1998.)
"""

import hashlib
import re
from collections.abc import Collection, Mapping

import attrs

_SHAPE = re.compile(r"([0-9]{1,4})/([0-9]{1,4})", re.ASCII)
MOST_SHARDS = 1_000


@attrs.frozen
class Shard:
    """One of several equal parts of all symbols. The parts count from 1."""

    number: int
    count: int

    def __attrs_post_init__(self) -> None:
        if not 1 <= self.number <= self.count <= MOST_SHARDS:
            raise ValueError(f"shard {self}: write 1/{MOST_SHARDS} to {MOST_SHARDS}/{MOST_SHARDS}")

    @classmethod
    def from_text(cls, text: str) -> "Shard":
        """Return the shard of a text such as `2/4`.

        Raises:
          ValueError: the text names no shard.
        """
        match = _SHAPE.fullmatch(text)
        if match is None:
            raise ValueError(f'"{text}" is no shard: write "2/4" for the second of four')
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def owns(self, trade_type: str, symbol: str) -> bool:
        """Return whether this shard records a symbol of a market, at all intervals."""
        return owner(trade_type, symbol, self.count) == self.number


@attrs.frozen(kw_only=True)
class Neighbours:
    """The recorders of a lake, as one of them sees them."""

    copies: int
    """How many recorders of its shard were there lately, itself included."""
    sharers: int
    """How many recorders share its address, itself included."""
    handed_over: Mapping[str, Collection[str]] = attrs.field(factory=dict)
    """By market, the symbols of other shards that it holds and need not hold any more: their owner
    has held them long enough."""


def owner(trade_type: str, symbol: str, count: int) -> int:
    """Return the number of the shard that records a symbol, of so many shards."""
    return max(range(1, count + 1), key=lambda number: (_draw(trade_type, symbol, number), number))


def _draw(trade_type: str, symbol: str, number: int) -> bytes:
    # A hash that is the same in every process and version, unlike hash().
    key = f"{trade_type} {symbol} {number}".encode()
    return hashlib.blake2b(key, digest_size=8).digest()
