"""Mutants of what speaks to Binance."""

from tests.mutation.mutant import Mutant

__all__ = ["EXCHANGE"]

_REST = "exchange/test_rest.py"
_WEIGHTS = "exchange/test_weights.py"
_SOCKETS = "exchange/test_no_socket_left.py"
_SIEVE = "exchange/test_sieve.py"
_STREAM = "exchange/test_sieved_stream.py"
_CONNECTION = "exchange/test_connection.py"
_KLINES = "exchange/test_klines.py"
_ARCHIVE = "exchange/test_archive.py"
_CLOCK = "exchange/test_clock.py"
_PROTOCOL = "exchange/test_protocol.py"
_WRONG_FRAME = f"{_PROTOCOL}::test_a_frame_that_cannot_be_true_says_why"

EXCHANGE = (
    # Requests and their budget
    Mutant(
        "weight is counted once though several hosts are tried",
        "exchange/rest.py",
        "await self.pool.spend(weight, urgency)",
        "await self.pool.spend(0 if tried else weight, urgency)",
        f"{_REST}::test_each_host_that_is_tried_costs_the_weight",
    ),
    Mutant(
        "an answer lowers our own count of weight",
        "exchange/weights.py",
        "self._used = max(self._used, used)",
        "self._used = used",
        f"{_WEIGHTS}::test_what_an_answer_says_is_used_only_adds_to_our_own_count",
    ),
    Mutant(
        "what an answer says is used is not counted",
        "exchange/weights.py",
        "self._used = max(self._used, used)",
        "pass",
        f"{_WEIGHTS}::test_what_an_answer_says_is_used_only_adds_to_our_own_count",
    ),
    Mutant(
        "the share of others is used too",
        "exchange/weights.py",
        "if self._used and self._used + weight > self.weight_per_minute * self.share:",
        "if self._used and self._used + weight > self.weight_per_minute:",
        f"{_WEIGHTS}::test_no_minute_ever_sees_more_than_the_share",
    ),
    Mutant(
        "a request that is too heavy never goes",
        "exchange/weights.py",
        "if self._used and self._used + weight > self.weight_per_minute * self.share:",
        "if self._used + weight > self.weight_per_minute * self.share:",
        f"{_WEIGHTS}::test_a_request_that_is_heavier_than_the_share_goes_alone",
    ),
    Mutant(
        "whoever gives up keeps its place in the queue",
        "exchange/weights.py",
        "self._queue.remove(ticket)",
        "pass",
        f"{_WEIGHTS}::test_who_gives_up_holds_nobody_up",
    ),
    Mutant(
        "a shorter block ends a longer one",
        "exchange/weights.py",
        "self._blocked_until = max(self._blocked_until, until)",
        "self._blocked_until = until",
        f"{_WEIGHTS}::test_a_block_holds_everybody",
    ),
    Mutant(
        "a host that failed stays first",
        "exchange/rest.py",
        "self._in_turn.rotate(-1)",
        "pass",
        f"{_REST}::test_a_host_that_works_is_kept_until_it_does_not",
    ),
    Mutant(
        "an answer without end is read",
        "exchange/rest.py",
        "if len(body) > _MAX_BODY_BYTES:",
        "if False:",
        f"{_REST}::test_an_endless_body_is_cut_off",
    ),
    Mutant(
        "a fault of the server is a refusal of the question",
        "exchange/rest.py",
        "if fault.code <= _ABOUT_THE_QUESTION:",
        "if fault.code < 0:",
        f"{_REST}::test_what_may_pass_is_no_refusal",
    ),
    Mutant(
        "a ban does not stop the others of the pool",
        "exchange/rest.py",
        "self.pool.block(self._block_seconds(response, fault.msg))",
        "pass",
        f"{_REST}::test_a_ban_stops_all_who_share_the_pool",
    ),
    Mutant(
        "a candle that still forms is taken from an answer",
        "exchange/klines.py",
        "and series.interval.end_time_ms(ms) > told_ms",
        "and False",
        f"{_KLINES}::test_a_row_is_closed_if_a_later_one_is_there_or_its_host_had_told_so",
    ),
    Mutant(
        "a row outside of its page is taken",
        "exchange/klines.py",
        "if type(open_time_ms) is not int or not asked.from_ms <= open_time_ms < asked.to_ms:",
        "if type(open_time_ms) is not int or not asked.from_ms <= open_time_ms <= asked.to_ms:",
        f"{_KLINES}::test_a_bad_row_is_counted_and_harms_no_other",
    ),
    Mutant(
        "of two rows that differ nothing is said",
        "exchange/klines.py",
        "elif candles.setdefault(open_time_ms, candle) != candle:",
        "elif candles.setdefault(open_time_ms, candle) is None:",
        f"{_KLINES}::test_two_rows_of_one_time_must_agree",
    ),
    Mutant(
        "a page asks for the begin of the next candle too",
        "exchange/klines.py",
        '"endTime": str(self.asked(series.interval).to_ms - 1),',
        '"endTime": str(self.asked(series.interval).to_ms),',
        f"{_REST}::test_klines_are_asked_with_both_ends_and_a_limit",
    ),
    Mutant(
        "a time that another host told proves a close",
        "exchange/rest.py",
        "answer = read_rows(body, series, page.span, asked, told_ms.get(host, 0))",
        "answer = read_rows(body, series, page.span, asked, max(told_ms.values(), default=0))",
        f"{_REST}::test_a_time_proves_a_close_if_the_same_host_told_it_before_it_was_asked",
    ),
    # Archives
    Mutant(
        "a file of an archive is not compared with its checksum",
        "exchange/archive.py",
        "if said and said[1].decode().lower() == hashlib.sha256(content).hexdigest():",
        "if said:",
        f"{_ARCHIVE}::test_a_mismatch_is_fetched_once_more",
    ),
    Mutant(
        "a month is asked for before it is published",
        "exchange/archive.py",
        "if now_ms >= _ms(following) + _MONTHLY_AFTER_MS and (",
        "if now_ms >= _ms(following) and (",
        f"{_ARCHIVE}::test_whole_months_are_one_file_and_the_newest_days_one_each",
    ),
    Mutant(
        "a zip file that swells is unpacked",
        "exchange/archive.py",
        "if len(text) > most:",
        "if False:",
        "storage/test_archive_rows.py::test_a_zip_file_has_one_member_that_does_not_swell",
    ),
    Mutant(
        "an answer other than a file is one",
        "exchange/archive.py",
        "if response.status_code != httpx2.codes.OK:",
        "if False:",
        f"{_ARCHIVE}::test_a_404_is_not_published_and_other_answers_are_no_file",
    ),
    # The clock
    Mutant(
        "the exchange's time goes back",
        "exchange/clock.py",
        "self.now_ms = max(time_ms, self.now_ms or 0)",
        "self.now_ms = time_ms",
        f"{_CLOCK}::test_it_never_goes_back_and_never_past_what_two_have_told",
    ),
    Mutant(
        "one frame moves the time on",
        "exchange/clock.py",
        "self.now_ms = max(self._second_ms, self.now_ms or 0)",
        "self.now_ms = max(self._newest[0], self.now_ms or 0)",
        f"{_CLOCK}::test_two_different_frames_come_as_far_as_the_next_candle",
    ),
    Mutant(
        "two frames lead any way on",
        "exchange/clock.py",
        "if self._second_ms is not None and self.reaches(self._second_ms):",
        "if self._second_ms is not None and self.now_ms is not None:",
        f"{_CLOCK}::test_a_frame_that_is_ahead_is_doubted_and_refuted_by_the_endpoint",
    ),
    Mutant(
        "the endpoint alone is believed",
        "exchange/clock.py",
        "self._believe(min(time_ms, self._newest[0]))",
        "self._believe(time_ms)",
        f"{_CLOCK}::test_an_endpoint_that_is_years_ahead_moves_nothing_however_often_it_says_so",
    ),
    Mutant(
        "a refuted frame stays a witness",
        "exchange/clock.py",
        "if self._newest is not None and self._newest[0] >= bound_ms:",
        "if False:",
        f"{_CLOCK}::test_a_frame_that_is_ahead_is_doubted_and_refuted_by_the_endpoint",
    ),
    Mutant(
        "beside frames candles are a witness of REST's time",
        "exchange/rest.py",
        "if not self.clock.confirm(time_ms) and is_silent:",
        "if not self.clock.confirm(time_ms):",
        f"{_REST}::test_after_a_silence_candles_confirm_it_and_beside_frames_nobody_asks",
    ),
    # The sieve
    Mutant(
        "a frame with two keys is left out",
        "exchange/sieve.py",
        "or payload.find(_KEY, key + 1) >= 0",
        "",
        f"{_SIEVE}::test_all_else_is_kept",
    ),
    Mutant(
        "a frame with an escape is left out",
        "exchange/sieve.py",
        "or _ESCAPE in payload",
        "",
        f"{_SIEVE}::test_all_else_is_kept",
    ),
    Mutant(
        "pings are life",
        "exchange/sieve.py",
        "self._is_data = not control",
        "self._is_data = True",
        f"{_SIEVE}::test_kept_and_dropped_frames_are_life_and_pings_are_not",
    ),
    Mutant(
        "frames after a CLOSE are sieved",
        "exchange/sieve.py",
        "if opcode == _CLOSE:",
        "if False:",
        f"{_SIEVE}::test_after_a_breach_or_a_close_everything_passes",
    ),
    Mutant(
        "fragments are sieved",
        "exchange/sieve.py",
        "self._fragmented = not fin",
        "pass",
        f"{_SIEVE}::test_a_fragmented_message_passes_whole",
    ),
    Mutant(
        "bytes that are yet to come are forgotten",
        "exchange/sieve.py",
        "self._left = max(0, position - size)",
        "self._left = 0",
        f"{_SIEVE}::test_long_frames_pass_as_they_come",
    ),
    Mutant(
        "a name in a frame that was left out is not heard of",
        "exchange/sieve.py",
        "if unseen:\nself._hear(data, start, end)",
        "pass",
        f"{_SIEVE}::test_dropped_frames_are_heard_of",
    ),
    Mutant(
        "an end before the handshake's answer passes",
        "exchange/sieved_stream.py",
        "if not data and not self.sieve.upgraded:",
        "if False:",
        f"{_SIEVE}::test_an_end_before_the_handshake_raises",
    ),
    Mutant(
        "what a read brought is lost if its taker is cut off",
        "exchange/sieved_stream.py",
        "self._surplus = self.sieve.feed(data)\ntry:\nawait self._report()",
        "fed = self.sieve.feed(data)\ntry:\n    await self._report()\n    self._surplus = fed",
        f"{_STREAM}::test_what_else_a_read_brought_survives_a_taker_that_is_cut_off",
    ),
    Mutant(
        "forming candles are told before closed ones",
        "exchange/sieved_stream.py",
        "if sieve.taken and self._on_closed is not None:\nawait self._on_closed(sieve.taken)",
        "",
        f"{_STREAM}::test_a_read_is_told_as_life_then_closed_candles_then_a_forming_one",
    ),
    # Frames and connections
    Mutant(
        "a frame whose names disagree is taken",
        "exchange/protocol.py",
        "if (name is not None and name != spelt) or frame.s not in (None, kline.s):",
        "if False:",
        _WRONG_FRAME,
    ),
    Mutant(
        "a candle that closed before its begin is taken",
        "exchange/protocol.py",
        "if kline.t > frame.E:",
        "if False:",
        _WRONG_FRAME,
    ),
    Mutant(
        "a stream of another symbol is taken",
        "exchange/protocol.py",
        "if series is None or series.symbol != kline.s:",
        "if series is None:",
        _WRONG_FRAME,
    ),
    Mutant(
        "a connection that retires drops what it has received",
        "exchange/connection.py",
        "if self._stream is None or not self._sieve.upgraded:",
        "if True:",
        f"{_CONNECTION}::test_what_was_received_before_it_retires_is_still_delivered",
    ),
    Mutant(
        "a slow consumer is a stall",
        "exchange/connection.py",
        "self._life.deadline = math.inf",
        "pass",
        f"{_CONNECTION}::test_a_slow_consumer_is_no_stall",
    ),
    Mutant(
        "a stream that ends a connection is left open",
        "exchange/connection.py",
        "await trio.aclose_forcefully(sieved)",
        "pass",
        f"{_CONNECTION}::test_cancelling_at_any_stage_leaves_no_open_stream",
    ),
    Mutant(
        "a shutdown that was announced is a loss",
        "exchange/connection.py",
        "self._shutting_down = True",
        "pass",
        f"{_CONNECTION}::test_a_shutdown_notice_ends_the_connection_and_is_told_once",
    ),
    Mutant(
        "a close of ours is told as one of the exchange",
        "exchange/connection.py",
        "self._closed_by_us = socket._wsproto.state is not ConnectionState.CLOSED  # noqa: SLF001",
        "self._closed_by_us = False",
        f"{_CONNECTION}::test_a_close_of_ours_is_not_told_as_one_of_the_exchange",
    ),
    Mutant(
        "a banner in the place of an HTTP answer is not named where the server waits on",
        "exchange/connection.py",
        "if self._is_no_http:",
        "if False:",
        f"{_CONNECTION}::test_a_server_that_speaks_no_http_is_named_by_what_it_sent",
    ),
    Mutant(
        "a refused request is not asked again in halves",
        "exchange/subscription.py",
        "if len(names) <= 1:",
        "if True:",
        f"{_CONNECTION}::test_a_refused_request_is_asked_again_in_halves_until_the_culprit_is_alone",
    ),
    Mutant(
        "requests go as fast as they can",
        "exchange/subscription.py",
        "await trio.sleep(2 / messages_per_second)",
        "await trio.sleep(0)",
        f"{_CONNECTION}::test_requests_are_batched_and_stay_under_half_of_the_rate_limit",
    ),
    # Sockets
    Mutant(
        "a dial that fails leaves its socket",
        "exchange/transport.py",
        "unless_ready.push_async_callback(trio.aclose_forcefully, stream)",
        "pass",
        f"{_SOCKETS}::test_a_dial_that_is_cancelled",
    ),
    Mutant(
        "a way through a proxy that fails leaves its socket",
        "exchange/tunnel.py",
        "await trio.aclose_forcefully(stream)",
        "pass",
        f"{_SOCKETS}::test_a_dial_that_is_cancelled",
    ),
    Mutant(
        "a request that is cancelled leaves its socket",
        "exchange/http_network.py",
        "self.socket.close()",
        "pass",
        f"{_SOCKETS}::test_a_request_that_is_cancelled",
    ),
    Mutant(
        "REST opens its sockets as httpx2 does",
        "exchange/http.py",
        "network_backend=Network(proxy),",
        "",
        f"{_SOCKETS}::test_a_request_that_is_cancelled",
    ),
    Mutant(
        "names in certificates are not checked",
        "exchange/tls.py",
        "context.minimum_version = ssl.TLSVersion.TLSv1_2",
        "context.check_hostname = False",
        "exchange/test_transport.py::test_tls_over_sockets",
    ),
    Mutant(
        "sending goes on after it was cut off in a record",
        "exchange/tls.py",
        "if self._cut_off:  # whatever came next would be nonsense to the peer",
        "if False:",
        "exchange/test_tls.py::test_after_a_record_sent_in_part_nothing_more_is_sent",
    ),
    Mutant(
        "a damaged record is passed over",
        "exchange/tls.py",
        "self._fault = _words(error)",
        "pass",
        "exchange/test_tls.py::test_a_record_tampered_with_breaks_it_after_those_before",
    ),
)
