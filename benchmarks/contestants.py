"""Who is measured besides the recorder, and what runs them."""

from collections.abc import Mapping
from pathlib import Path

import attrs

__all__ = ["CONTESTANTS", "INSTALL", "OURS", "Contestant", "peers_python"]

OURS = "kline_trio"
INSTALL = (
    "python3 -m venv .venv-peers"
    " && .venv-peers/bin/pip install -r benchmarks/requirements-peers.txt"
)
"""What gives the peers their environment."""

_PYTHON = Path(__file__).parents[1] / ".venv-peers/bin/python"


@attrs.frozen
class Contestant:
    """A module of `benchmarks.peers`."""

    name: str
    module: str
    decodes: bool = True
    """Whether it looks into frames; otherwise it is a limit."""
    own: bool = False
    """Whether it runs in the project's environment."""
    refusals: Mapping[str, str] = attrs.field(factory=dict)
    """Why it cannot be run over plain sockets, or over TLS."""
    most_streams: int = 1_000_000


CONTESTANTS = (
    Contestant("trio-websocket + json", "trio_json", own=True),
    Contestant("the original design", "article"),
    Contestant("python-binance", "python_binance"),
    Contestant("unicorn-binance-websocket-api", "unicorn"),
    Contestant("ccxt pro", "ccxt_pro"),
    Contestant("cryptofeed", "crypto_feed", refusals={"plain": "takes only wss:// addresses"}),
    Contestant(
        "nautilus_trader",
        "nautilus",
        refusals={"TLS": "trusts only the authorities built into it"},
        most_streams=4_000,
    ),
    Contestant("picows alone", "picows_reader", decodes=False),
    Contestant("recv_into alone", "socket_reader", decodes=False, own=True),
)


def peers_python(asked: Path | None) -> Path | None:
    """The interpreter of the peers' environment, if there is one."""
    python = asked or _PYTHON
    return python if python.exists() else None
