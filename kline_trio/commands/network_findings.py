"""The findings of `doctor` about network and exchange: pure, from what the probes saw."""

from collections.abc import Collection, Iterable, Mapping, Sequence

import attrs

from kline_trio.candle import Series
from kline_trio.commands.finding import Finding, Verdict
from kline_trio.counting import counted
from kline_trio.duration import duration_text
from kline_trio.exchange.connection_events import CloseReason, Disconnected
from kline_trio.exchange.markets import Market
from kline_trio.exchange.probe import HttpProbe, Reached, RouteProbe, Stage
from kline_trio.listing import Listing
from kline_trio.selection import Selection
from kline_trio.symbols import idle_patterns, select_series, unknown_symbols

_CLOCK_SECONDS = 1.0
"""How far the local clock may be off."""
_BUSY_SHARE = 0.8
"""From this share of a minute's request weight on, little is left for the recorder."""
_MOST_LINES = 10
"""Of symbols with the same fault; a line counts the others."""
_DAY_SECONDS = 86_400.0
_AGAIN = "look whether the exchange announces maintenance, and try again"
_OTHER_HOST = "https://data-api.binance.vision"
"""Spot's host for market data only, which serves more locations (Binance docs, "Market Data
Only")."""
_ARCHIVE = "https://data.binance.vision"


# The way to a host


def judge_name(reached: Reached) -> tuple[Finding, ...]:
    """Return the finding about the name that was resolved on the way to a target, if any was."""
    if reached.name is None or reached.failed is Stage.CONFIG:
        return ()
    if reached.failed is Stage.DNS:
        key = "[connection] proxy" if reached.proxy else "[endpoints]"
        advice = (
            f"correct the name under {key}; if it is right, look at network and DNS of this"
            " machine, as by `getent hosts NAME`"
        )
        return (Finding("dns", reached.name, Verdict.ERROR, reached.problem, advice),)
    message = counted(len(reached.addresses), "address", "addresses")
    return (Finding("dns", reached.name, Verdict.OK, message),)


def judge_proxies(reached: Collection[Reached]) -> tuple[Finding, ...]:
    """Return the findings about the proxies, each once, or that there is none."""
    proxies = dict.fromkeys(one.proxy for one in reached if one.proxy is not None)
    if not proxies:
        if any(one.failed is Stage.CONFIG for one in reached):
            return ()
        return (Finding("proxy", "none", Verdict.OK, "all connections are direct"),)
    findings = []
    for proxy in proxies:
        through = [one for one in reached if one.proxy == proxy and one.failed is not Stage.DNS]
        failed = [one for one in through if one.failed is Stage.PROXY]
        for one in failed:
            message = f"no tunnel to {one.target}: {one.problem}"
            findings.append(
                Finding("proxy", proxy.url, Verdict.ERROR, message, _proxy_advice(one.problem))
            )
        if through and not failed:
            message = f"opens tunnels to {counted(len(through), 'host')}"
            findings.append(Finding("proxy", proxy.url, Verdict.OK, message))
    return tuple(findings)


def _proxy_advice(problem: str) -> str:
    if "407" in problem or "auth" in problem.lower():
        return "correct the name and the password in the URL of the proxy"
    if problem.startswith("HTTP "):
        return "allow the host and its port in the settings of the proxy, or use another proxy"
    return "start the proxy, or correct [connection] proxy or HTTPS_PROXY; `direct` uses none"


def judge_connection(reached: Reached) -> tuple[Finding, ...]:
    """Return the finding about TCP and TLS; none if the attempt ended before."""
    subject = str(reached.target)
    if reached.failed is Stage.CONFIG:
        advice = "correct [connection] proxy, or HTTPS_PROXY of the environment"
        return (Finding("proxy", subject, Verdict.ERROR, reached.problem, advice),)
    if reached.failed is Stage.CONNECT:
        advice = (
            "look whether a firewall blocks the port, and compare host and port with the defaults,"
            " which the command init writes"
        )
        return (Finding("connect", subject, Verdict.ERROR, reached.problem, advice),)
    if reached.failed is Stage.TLS:
        advice = _tls_advice(reached.problem)
        return (Finding("tls", subject, Verdict.ERROR, reached.problem, advice),)
    if reached.failed is not None:
        return ()
    if not reached.target.is_secure:
        message = f"connected in {reached.seconds:.2f} s, without TLS"
        return (Finding("connect", subject, Verdict.OK, message),)
    message = f"certificate accepted, {reached.seconds:.2f} s"
    return (Finding("tls", subject, Verdict.OK, message),)


def _tls_advice(problem: str) -> str:
    problem = problem.lower()
    if "expired" in problem or "not yet valid" in problem:
        return "set the clock of this machine; if the clock is right, the certificate is too old"
    if "hostname mismatch" in problem or "not valid for" in problem:
        return "correct the host: another server answers, such as the login page of a network"
    if "certificate" in problem:
        return (
            "name the authority's certificate under [connection] ca_file if a firewall or proxy of"
            " your network replaces certificates; else install the system's certificates"
        )
    return "correct the port, or look for a firewall or proxy that breaks TLS"


# Routes


def judge_route(probe: RouteProbe, market: Market) -> Finding:
    """Return the finding about a WebSocket route."""
    subject = f"{market.trade_type} {probe.url}"
    if probe.first_frame_seconds is not None:
        message = f"first frame of {probe.stream} after {probe.first_frame_seconds:.1f} s"
        return Finding("route", subject, Verdict.OK, message)
    message, advice = _route_fault(probe, market)
    return Finding("route", subject, Verdict.ERROR, message, advice)


def _route_fault(probe: RouteProbe, market: Market) -> tuple[str, str]:
    ended = probe.ended
    default = _default(f"[endpoints.{market.trade_type}] websocket", probe.url, market.websocket)
    if probe.refusal is not None:
        return f"the stream {probe.stream} is refused: {probe.refusal}", default
    if probe.bad_frames:
        frames = "; ".join(probe.bad_frames)
        return f"no valid frame of {probe.stream} came: {frames}", default
    if ended is None or ended.why is CloseReason.STALLED:
        nothing = f"no frame of {probe.stream} came within {probe.frame_seconds:g} s"
        if not probe.is_acknowledged:
            message = f"the connection is accepted, but not the subscription, and {nothing}"
            return message, f"{default}; if a proxy is in use, look whether it passes WebSockets on"
        if probe.url != market.websocket:
            default += ": routes for other kinds of streams accept klines and send none"
        return f"connection and subscription are accepted, but {nothing}", default
    if ended.why is CloseReason.REFUSED:
        return f"the handshake is refused: {ended.detail}", _route_refusal_advice(ended, default)
    if ended.why is CloseReason.UNREACHABLE:
        return f"not reached: {ended.detail}", (
            f"{default}, and look whether a firewall or proxy blocks WebSockets"
        )
    message = f"the connection ended before a frame came: {ended.detail}"
    return message, (
        "try again in a minute; if it ends again, look for a firewall or proxy that cuts WebSockets"
    )


def _default(key: str, url: str, default: str) -> str:
    """Return the advice to use the default of a key, unless it is in use."""
    return _AGAIN if url == default else f"set {key} to the default, {default}"


def _route_refusal_advice(ended: Disconnected, default: str) -> str:
    if ended.status == 451:
        return "use a proxy in another location ([connection] proxy)"
    if ended.status in (418, 429):
        wait = f"{ended.retry_after_seconds:g} s" if ended.retry_after_seconds else "some minutes"
        return f"wait {wait}, and look for other programs at this address that connect too often"
    if ended.status == 403:
        return "wait some minutes; if it stays, use another address or a proxy"
    return default


# REST


def judge_host(probe: HttpProbe, market: Market, host: str) -> Finding:
    """Return the finding about a REST host, by its answer to a request for the time."""
    subject = f"{market.trade_type} {host}"
    if probe.server_time_ms is not None:
        return _judge_weight(probe, market, subject)
    verdict = Verdict.WARNING if probe.status == 429 else Verdict.ERROR
    message, advice = _host_fault(probe, market, host)
    return Finding("rest", subject, verdict, message, advice)


def _judge_weight(probe: HttpProbe, market: Market, subject: str) -> Finding:
    message = f"answers in {probe.seconds:.2f} s"
    if probe.used_weight is None:
        return Finding("rest", subject, Verdict.OK, message)
    message += f"; this address has used {probe.used_weight:,}"
    message += f" of {market.weight_per_minute:,} weight in this minute"
    if probe.used_weight < _BUSY_SHARE * market.weight_per_minute:
        return Finding("rest", subject, Verdict.OK, message)
    advice = (
        "find the programs at this address that send so many requests, and stop them; the exchange"
        " bans an address that exceeds its weight"
    )
    return Finding("rest", subject, Verdict.WARNING, message, advice)


def _host_fault(probe: HttpProbe, market: Market, host: str) -> tuple[str, str]:
    """Return what is wrong with an answer that holds no time, and what to do."""
    key = f"[endpoints.{market.trade_type}] rest"
    wait = f"{probe.retry_after_seconds:,} s" if probe.retry_after_seconds else "some minutes"
    status = f"HTTP {probe.status}"
    default = _default(key, host, market.rest)
    match probe.status:
        case None:
            return probe.problem, f"{default}, and look whether a firewall or proxy blocks it"
        case 451:
            is_spot = market.trade_type == "spot" and host != _OTHER_HOST
            other = f', as "{_OTHER_HOST}"' if is_spot else ""
            return f"{status}: not served to this location", (
                f"name another host under {key}{other}, or use a proxy in another location"
                " ([connection] proxy)"
            )
        case 403:
            return f"{status}: a web firewall refuses this address", (
                f"wait some minutes; if it stays, use another address or a proxy, or name another"
                f" host under {key}"
            )
        case 418:
            return f"{status}: this address is banned", (
                f"stop all programs at this address that send requests, for {wait}; then lower"
                " [rest] weight_share"
            )
        case 429:
            return f"{status}: the request weight of this address is used up", (
                f"find the programs at this address that send so many requests; wait {wait}, and"
                " lower [rest] weight_share"
            )
        case 200:
            return "HTTP 200, but the body is not the exchange's time", (
                f"open {host} in a browser: a firewall, a proxy or the login page of a network may"
                f" answer in the host's place; if not, {default}"
            )
        case int() if probe.status >= 500:
            return _with_fault(status, probe), _AGAIN
        case _:
            return _with_fault(f"{status} for {probe.url}", probe), default


def _with_fault(message: str, probe: HttpProbe) -> str:
    return f"{message}: {probe.fault}" if probe.fault else message


def judge_clock(probe: HttpProbe, trade_type: str) -> tuple[Finding, ...]:
    """Return the finding about the local clock, by the time in an answer.

    The exchange read its clock at a time between request and answer. So the middle of the two is
    the best guess, and wrong by half the round trip at most.
    """
    if probe.server_time_ms is None:
        return ()
    half_seconds = probe.seconds / 2
    ahead_seconds = (probe.sent_ms - probe.server_time_ms) / 1_000 + half_seconds
    way = "ahead of" if ahead_seconds > 0 else "behind"
    off = _duration(abs(ahead_seconds))
    message = f"the local clock is {off} {way} the exchange's, give or take {half_seconds:.2f} s"
    if abs(ahead_seconds) - half_seconds <= _CLOCK_SECONDS:
        return (Finding("clock", trade_type, Verdict.OK, message),)
    advice = (
        "set the clock by NTP, as by `timedatectl set-ntp true`, unless the exchange is a simulated"
        " one; only labels such as those of the log are affected"
    )
    return (Finding("clock", trade_type, Verdict.WARNING, message, advice),)


def _duration(seconds: float) -> str:
    text = f"{seconds:,.2f} s"
    return f"{text} ({duration_text(seconds)})" if seconds >= _DAY_SECONDS else text


# Archive and symbols


def judge_archive(probe: HttpProbe, host: str) -> Finding:
    """Return the finding about the archive host, by its answer to a request for a checksum.

    A fault is a warning: REST has the same candles, and fetches years of them slower.
    """
    if probe.status == 200 and _is_checksum(probe.body):
        name = probe.url.rpartition("/")[2]
        return Finding("archive", host, Verdict.OK, f"publishes {name}")
    effect = "; history comes from REST alone, which is slower"
    if probe.status is None:
        message, advice = probe.problem, "look whether a firewall or proxy blocks the host"
    elif probe.status == 200:
        message = f"the body of {probe.url} is no checksum"
        advice = _default("[endpoints] archive", host, _ARCHIVE)
    elif probe.status == 404:
        message = f"HTTP 404: there is no {probe.url}"
        advice = _default("[endpoints] archive", host, _ARCHIVE)
    elif probe.status in (403, 451):
        message = f"HTTP {probe.status}: the host refuses this address or location"
        advice = "try again in an hour; if it stays, use a proxy ([connection] proxy)"
    else:
        message, advice = f"HTTP {probe.status} for {probe.url}", "try again in some minutes"
    return Finding("archive", host, Verdict.WARNING, message + effect, advice)


def _is_checksum(body: bytes) -> bool:
    digits = body.split(maxsplit=1)[:1]
    return bool(digits) and len(digits[0]) == 64 and digits[0].isalnum()


def judge_symbols(
    trade_type: str,
    series: Iterable[Series],
    patterns: Iterable[Selection],
    listed: Mapping[str, Listing],
) -> tuple[Finding, ...]:
    """Return the findings about the symbols and patterns of a market.

    Args:
      trade_type: the market.
      series: the named series of all markets.
      patterns: of all markets.
      listed: the market's list, by symbol.
    """
    of_market = [one for one in series if one.trade_type == trade_type]
    own = [one for one in patterns if one.trade_type == trade_type]
    chosen = select_series(of_market, own, {trade_type: listed})
    findings = _limited(trade_type, _unlisted(trade_type, chosen, listed))
    findings += _limited(trade_type, _idle_symbols(trade_type, chosen, listed))
    for line in idle_patterns(own, trade_type, listed):
        subject, _, what = line.partition(": ")
        advice = f"correct it under [streams.{trade_type}], or take it out"
        findings.append(Finding("symbols", subject, Verdict.WARNING, what, advice))
    if findings:
        return tuple(findings)
    symbols = counted(len({one.symbol for one in chosen}), "symbol")
    message = f"{symbols} in {len(chosen):,} series, all listed"
    return (Finding("symbols", trade_type, Verdict.OK, message),)


def _unlisted(
    trade_type: str, chosen: Sequence[Series], listed: Mapping[str, Listing]
) -> list[Finding]:
    findings = []
    for symbol, meant in unknown_symbols(chosen, trade_type, listed).items():
        advice = f"correct it under [streams.{trade_type}], or take it out"
        if meant is not None:
            advice = f"did you mean {meant}? Correct it under [streams.{trade_type}]"
        message = "the exchange does not list it: it has no new candles"
        findings.append(
            Finding("symbols", f"{trade_type} {symbol}", Verdict.ERROR, message, advice)
        )
    return findings


def _idle_symbols(
    trade_type: str, chosen: Sequence[Series], listed: Mapping[str, Listing]
) -> list[Finding]:
    symbols = dict.fromkeys(one.symbol for one in chosen if one.symbol in listed)
    ended = [symbol for symbol in symbols if listed[symbol].has_ended]
    advice = f"take it out of [streams.{trade_type}] if it is not to trade again"
    return [
        Finding(
            "symbols",
            f"{trade_type} {symbol}",
            Verdict.WARNING,
            f"it does not trade (status {listed[symbol].status}): it has no new candles",
            advice,
        )
        for symbol in ended
    ]


def _limited(trade_type: str, findings: list[Finding]) -> list[Finding]:
    """Return the first findings, and one that counts the others."""
    more = len(findings) - _MOST_LINES
    if more <= 0:
        return findings
    last = attrs.evolve(
        findings[-1],
        subject=trade_type,
        message=f"{more:,} more symbols have the same fault",
        advice=f"correct [streams.{trade_type}]",
    )
    return [*findings[:_MOST_LINES], last]


def judge_list(trade_type: str, problem: str) -> Finding:
    """Return the finding about a list of symbols that could not be fetched."""
    message = f"no list of symbols, so that names and patterns are not checked: {problem}"
    advice = "correct what the lines of `rest` say, and try again"
    return Finding("symbols", trade_type, Verdict.WARNING, message, advice)
