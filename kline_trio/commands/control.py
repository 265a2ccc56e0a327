"""Ask a running recorder by its control socket; `monitor/control_socket.py` has the protocol.

Without Trio, and without the configuration's model: `status --live` takes a tenth of a second.
"""

import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from kline_trio.errors import ConfigError, NoAnswerError, NotAllowedError, NotRunningError
from kline_trio.monitor.control_socket import line_of, may_answer, peer_uid, socket_of

_ANSWER_SECONDS = 5.0
_MOST_LINE_BYTES = 1 << 28
"""Ten thousand series need a hundredth of this."""


def ask(store: Path, seconds: float = _ANSWER_SECONDS, **request: object) -> dict[str, Any]:
    """Return the answer of a store's recorder to a request.

    Raises:
      NotRunningError, NoAnswerError, ConfigError: as `answers`.
    """
    for line in answers(store, seconds, **request):
        if isinstance(answer := line.get("answer"), dict):
            return answer
    raise NoAnswerError("the recorder ended before it answered")


def answers(
    store: Path, seconds: float = _ANSWER_SECONDS, **request: object
) -> Iterator[dict[str, Any]]:
    """Send a request to a store's recorder, and give the lines of its answer.

    Args:
      store: the store's folder.
      seconds: how long to wait for each line.
      request: its keys.

    Raises:
      NotRunningError: no recorder listens.
      NoAnswerError: it does not answer in time, or cannot.
      ConfigError: the recorder's file has mistakes, a line each.
    """
    with closing(_connected(store, seconds)) as connection:
        try:
            with suppress(ConnectionError):  # the recorder may refuse before it has read
                connection.sendall(line_of(request))
            with connection.makefile("rb") as lines:
                while line := lines.readline(_MOST_LINE_BYTES):
                    yield _decoded(line)
        except TimeoutError:
            raise NoAnswerError(f"the recorder gave no answer for {seconds:g} s") from None
        except OSError as error:
            problem = error.strerror or str(error)
            raise NoAnswerError(f"the recorder closed the connection: {problem}") from None


def _connected(store: Path, seconds: float) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(seconds)
    try:
        connection.connect(str(socket_of(store)))
    except PermissionError:
        connection.close()
        raise NotAllowedError("another user's recorder can be asked by that user alone") from None
    except TimeoutError:
        connection.close()
        raise NoAnswerError(f"the recorder gave no answer for {seconds:g} s") from None
    except OSError:
        # There is no socket, one that is left over, or a path that is too long for one.
        connection.close()
        raise NotRunningError(f"no recorder of {store} runs") from None
    if not may_answer(uid := peer_uid(connection), store):
        connection.close()
        raise NoAnswerError(f"uid {uid} answers, who does not own the store")
    return connection


def _decoded(line: bytes) -> dict[str, Any]:
    try:
        found: Mapping[str, Any] = json.loads(line)
        error, problems = found.get("error"), found.get("problems", [])
    except (ValueError, AttributeError):
        raise NoAnswerError("the recorder's answer is no line of JSON") from None
    if problems:
        raise ConfigError([str(one) for one in problems])
    if error is not None:
        raise NoAnswerError(str(error))
    return dict(found)
