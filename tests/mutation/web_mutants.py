"""Mutants of what a recorder or a store answers over HTTP, and to whom."""

from tests.mutation.mutant import Mutant

__all__ = ["WEB"]

_SERVER = "monitor/test_http_server.py"
_STREAM = "monitor/test_http_stream.py"
_ACCESS = "monitor/test_access.py"
_LOGIN = "monitor/test_login.py"
_ENDPOINTS = "monitor/test_endpoints.py"
_ASSETS = "monitor/page/test_assets.py"
_SERVICE = "monitor/test_service.py"
_SERVE = "commands/test_serve.py"

WEB = (
    # Access
    Mutant(
        "any Host is answered",
        "monitor/access.py",
        'if _called_name(request.headers.get("host", "")) in self.hosts:',
        "if True:",
        f"{_ACCESS}::test_any_other_host_is_misdirected",
    ),
    Mutant(
        "a name behind which a known one stands is answered",
        "monitor/access.py",
        "found = _HOST.fullmatch(header)",
        "found = _HOST.match(header)",
        f"{_ACCESS}::test_any_other_host_is_misdirected",
    ),
    Mutant(
        "any token passes",
        "monitor/access.py",
        'return scheme.lower() == "bearer" and is_right',
        'return scheme.lower() == "bearer"',
        f"{_ACCESS}::test_any_other_token_is_refused_with_a_challenge",
    ),
    Mutant(
        "the token passes by another scheme",
        "monitor/access.py",
        'return scheme.lower() == "bearer" and is_right',
        "return is_right",
        f"{_ACCESS}::test_any_other_token_is_refused_with_a_challenge",
    ),
    Mutant(
        "tokens are compared until they differ",
        "monitor/access.py",
        "is_same = hmac.compare_digest(shown.encode(), token.encode())",
        "is_same = shown == token",
        f"{_ACCESS}::test_tokens_are_compared_in_constant_time",
    ),
    # The login
    Mutant(
        "a cookie lasts for ever",
        "monitor/access.py",
        "if is_ours and now < int(expiry):",
        "if is_ours:",
        f"{_LOGIN}::test_a_cookie_ends_after_thirty_days_and_with_its_token",
    ),
    Mutant(
        "a cookie is not signed",
        "monitor/access.py",
        "if is_ours and now < int(expiry):",
        "if now < int(expiry):",
        f"{_LOGIN}::test_a_cookie_that_was_changed_is_none",
    ),
    Mutant(
        "a foreign page may post",
        "monitor/login.py",
        "if not self.access.is_own_origin(request):",
        "if False:",
        f"{_LOGIN}::test_only_pages_of_this_server_may_post",
    ),
    Mutant(
        "tokens can be guessed without end",
        "monitor/login.py",
        "if self._is_closed():",
        "if False:",
        f"{_LOGIN}::test_after_ten_wrong_tokens_none_is_looked_at_for_a_minute",
    ),
    Mutant(
        "a wrong token is counted after its pause",
        "monitor/login.py",
        'self._wrong.append(trio.current_time())\nlogger.warning("monitor: login: a wrong token")\n'
        "await trio.sleep(_PAUSE_SECONDS)",
        "await trio.sleep(_PAUSE_SECONDS); self._wrong.append(trio.current_time())",
        f"{_LOGIN}::test_after_ten_wrong_tokens_none_is_looked_at_for_a_minute",
    ),
    Mutant(
        "the query of a view is markup in the form",
        "monitor/login.py",
        "text = _FORM.format(style=_STYLE, problem=said, query=html.escape(_query_of(request)))",
        "text = _FORM.format(style=_STYLE, problem=said, query=_query_of(request))",
        f"{_LOGIN}::test_a_query_is_never_markup_nor_another_place",
    ),
    # The server
    Mutant(
        "connections have no limit",
        "monitor/http_server.py",
        "is_full = len(self._held) >= self.most_connections",
        "is_full = False",
        f"{_SERVER}::test_one_connection_more_than_the_most_is_closed_at_once",
    ),
    Mutant(
        "the place of a connection is never free again",
        "monitor/http_server.py",
        "self._held.discard(place)",
        "pass",
        f"{_SERVER}::test_one_connection_more_than_the_most_is_closed_at_once",
    ),
    Mutant(
        "idle connections lock others out",
        "monitor/http_server.py",
        "others = self._idle if len(self._new) < most_new and self._idle else self._new",
        "others = self._new",
        f"{_SERVER}::test_a_new_connection_takes_the_place_of_the_one_that_is_idle_longest",
    ),
    Mutant(
        "sockets that ask nothing end kept connections",
        "monitor/http_server.py",
        "most_new = self.most_connections - self.most_connections // _KEPT_SHARE",
        "most_new = self.most_connections + 1",
        f"{_SERVER}::test_sockets_that_ask_nothing_make_room_and_leave_kept_connections_alone",
    ),
    Mutant(
        "a connection in the middle of a request is taken for idle",
        "monitor/http_server.py",
        "begin()",
        "pass",
        f"{_SERVER}::test_a_new_connection_takes_the_place_of_the_one_that_is_idle_longest",
    ),
    Mutant(
        "a head has no deadline",
        "monitor/http_server.py",
        "seconds, waits = _HEAD_SECONDS, self._new",
        'seconds, waits = float("inf"), self._new',
        f"{_SERVER}::test_a_header_byte_each_second_is_cut_off_after_ten",
    ),
    Mutant(
        "a write has no deadline",
        "monitor/http_server.py",
        "with trio.move_on_after(_WRITE_SECONDS) as writing:",
        "with trio.CancelScope() as writing:",
        f"{_SERVER}::test_a_reader_that_never_reads_is_given_up_after_ten_seconds",
    ),
    Mutant(
        "a head may be as long as it likes",
        "monitor/http_server.py",
        "connection = h11.Connection(h11.SERVER, max_incomplete_event_size=_HEAD_BYTES)",
        "connection = h11.Connection(h11.SERVER, max_incomplete_event_size=2**30)",
        f"{_SERVER}::test_what_is_no_request_is_answered_and_ends_the_connection",
    ),
    Mutant(
        "a body may be as long as it likes",
        "monitor/http_server.py",
        'if found.method != "POST" or len(body) > MOST_BODY_BYTES:',
        'if found.method != "POST":',
        f"{_SERVER}::test_a_longer_body_of_a_post_is_refused_before_it_has_come",
    ),
    Mutant(
        "gzip is sent to everybody",
        "monitor/http_server.py",
        "if not request.accepts_gzip:",
        "if False:",
        f"{_SERVER}::test_who_takes_gzip_gets_it",
    ),
    Mutant(
        "a failure is taken for what a reader has already",
        "monitor/http_message.py",
        "if response.etag is None or response.status != _GOOD or not is_read:",
        "if response.etag is None or not is_read:",
        f"{_SERVER}::test_a_failure_is_never_unchanged",
    ),
    # Streams
    Mutant(
        "streams take all connections",
        "monitor/http_server.py",
        "if response.stream is not None and self._streams >= self.most_streams:",
        "if False:",
        f"{_STREAM}::test_streams_leave_connections_for_other_readers",
    ),
    Mutant(
        "the place of a stream is never free again",
        "monitor/http_server.py",
        "self._streams -= 1",
        "pass",
        f"{_STREAM}::test_streams_leave_connections_for_other_readers",
    ),
    Mutant(
        "a chunk has no deadline",
        "monitor/http_stream.py",
        "with trio.move_on_after(_WRITE_SECONDS), suppress(*_LOST):",
        "with suppress(*_LOST):",
        f"{_STREAM}::test_a_reader_that_does_not_read_is_given_up_after_ten_seconds",
    ),
    Mutant(
        "a reader that goes is noticed at the next chunk",
        "monitor/http_stream.py",
        "sending.start_soon(self._notice_end)",
        "pass",
        f"{_STREAM}::test_a_reader_that_goes_is_noticed_at_once",
        is_slow=True,
    ),
    # What is answered
    Mutant(
        "metrics are rendered for each reader",
        "monitor/endpoints.py",
        "if self._rendered is None or self._rendered[0] is not found:",
        "if True:",
        f"{_ENDPOINTS}::test_many_readers_share_one_rendering",
    ),
    Mutant(
        "series are gathered for each snapshot",
        "monitor/endpoints.py",
        "if self._series is None or now >= self._series[0] + _SERIES_SECONDS:",
        "if True:",
        f"{_ENDPOINTS}::test_series_are_gathered_only_if_asked_for_and_each_five_seconds",
    ),
    Mutant(
        "hidden files of the page's folder are served",
        "monitor/page/assets.py",
        'if one.name.startswith("."):',
        "if False:",
        f"{_ASSETS}::test_no_other_path_is_a_file",
    ),
    Mutant(
        "a bug of the page ends the watch",
        "monitor/watch.py",
        "except Exception:\n# It must not end the watch: health would stay as it is for ever.",
        "except KeyError:",
        f"{_SERVICE}::test_a_page_that_cannot_follow_leaves_health_as_it_is",
        is_slow=True,
    ),
    Mutant(
        "other machines see a store without a token",
        "commands/serve.py",
        "if settings.is_public and not has_token:",
        "if False:",
        f"{_SERVE}::test_what_cannot_be_served_is_said_in_a_line",
        is_slow=True,
    ),
)
