"""Answers as bytes, and how seldom they are made."""

import csv
import io
import json
import math

import trio

from kline_trio.monitor.http_message import Response
from kline_trio.monitor.page.answers import csv_answer, error_answer, json_answer, json_of
from kline_trio.monitor.page.shared_answers import SharedAnswers


def test_texts_are_passed_on_as_they_are() -> None:
    wild = {"symbol": "<script>alert(1)</script>", "other": "币安人生USDT", "line": "a\nb\u2028"}
    body = json_of(wild)
    assert json.loads(body) == wild
    assert b"\n" not in body, "an event of a stream is one line"


def test_numbers_that_are_none_become_null() -> None:
    assert json_of({"a": math.nan, "b": math.inf, "c": 0.1}) == b'{"a":null,"b":null,"c":0.1}'


def test_a_path_that_is_no_utf_8_does_not_break_an_answer() -> None:
    body = json_of({"store": "/data/\udcff", "number": math.nan, "symbol": "币"})
    assert json.loads(body) == {"store": "/data/\\udcff", "number": None, "symbol": "币"}


def test_csv_quotes_what_would_be_read_as_another_cell() -> None:
    rows: list[list[object]] = [["a,b", 'c"d', None, 1.5], ["=1+1", "x\ny", "币", 2]]
    response = csv_answer("some", ("one", "two", "three", "four"), rows)
    [head, first, second] = csv.reader(io.StringIO(response.body.decode()))
    assert head == ["one", "two", "three", "four"]
    assert first == ["a,b", 'c"d', "", "1.5"]
    assert second == ["=1+1", "x\ny", "币", "2"]


def test_an_error_is_json() -> None:
    response = error_answer(404, 'no "<script>" here')
    assert (response.status, response.etag) == (404, None)
    assert json.loads(response.body) == {"error": 'no "<script>" here'}


async def test_an_answer_is_rendered_once_for_all_that_ask_for_the_same() -> None:
    shared, rendered = SharedAnswers(), []

    def render() -> Response:
        rendered.append(1)
        return json_answer({"n": len(rendered)})

    answers: list[bytes] = []

    async def ask(question: str, version: int) -> None:
        answers.append((await shared.get(question, version, render)).body)

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(ask, "a", 1)
    assert answers == [b'{"n":1}'] * 10
    await ask("a", 2)
    await ask("b", 2)
    assert answers[-2:] == [b'{"n":2}', b'{"n":3}']


async def test_only_the_last_answers_are_kept() -> None:
    shared, rendered = SharedAnswers(), []

    def render() -> Response:
        rendered.append(1)
        return Response(body=b"x")

    for question in range(100):
        await shared.get(question, 1, render)
        await shared.get(0, 1, render)
    assert len(rendered) == 100
    assert len(shared._kept) < 40


async def test_long_answers_are_kept_only_while_they_are_few() -> None:
    shared = SharedAnswers()
    for question in range(20):
        await shared.get(question, 1, lambda: Response(body=bytes(1_000_000)))
    assert sorted(map(str, shared._kept)) == sorted(map(str, range(12, 20)))
    await shared.get("long", 1, lambda: Response(body=bytes(20_000_000)))
    assert list(shared._kept) == ["long"]
