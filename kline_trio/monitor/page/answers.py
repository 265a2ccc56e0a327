"""Answers in JSON and CSV, with a tag by which a browser sees that nothing has changed (pure)."""

import csv
import hashlib
import io
from collections.abc import Iterable, Sequence

import msgspec

from kline_trio.monitor.http_message import Response

_JSON = "application/json"
_CSV = "text/csv; charset=utf-8"
_TAG_BYTES = 12


def json_of(value: object) -> bytes:
    """Return values as JSON, in UTF-8; a number that is not finite becomes null."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        # A path that is no UTF-8 has lone surrogates, which UTF-8 cannot hold.
        return msgspec.json.encode(_shown(msgspec.to_builtins(value)))


def _shown(value: object) -> object:
    """Return values of JSON with each lone surrogate as a visible escape."""
    match value:
        case str():
            return value.encode(errors="backslashreplace").decode()
        case dict():
            return {_shown(key): _shown(one) for key, one in value.items()}
        case list() | tuple():
            return [_shown(one) for one in value]
    return value


def tag_of(body: bytes) -> str:
    """Return a digest of a body, for its ETag."""
    return hashlib.blake2b(body, digest_size=_TAG_BYTES).hexdigest()


def json_answer(value: object) -> Response:
    """Return an answer with values as JSON."""
    return json_body_answer(json_of(value))


def json_body_answer(body: bytes) -> Response:
    """Return an answer that is JSON already."""
    return Response(body=body, content_type=_JSON, etag=tag_of(body))


def csv_answer(name: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Response:
    """Return an answer with a table as CSV.

    Args:
      name: of the file that a browser keeps.
      columns: the names of the columns.
      rows: their values.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    body = text.getvalue().encode(errors="backslashreplace")
    # The names of files are ours: ASCII letters and dots.
    disposition = ("content-disposition", f'attachment; filename="{name}.csv"')
    return Response(body=body, content_type=_CSV, etag=tag_of(body), headers=(disposition,))


def error_answer(status: int, text: str) -> Response:
    """Return an answer that says what is wrong."""
    return Response(status=status, body=json_of({"error": text}), content_type=_JSON)
