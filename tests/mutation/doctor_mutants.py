"""Mutants of the command doctor, its probes and its findings."""

from tests.mutation.mutant import Mutant

__all__ = ["DOCTOR"]

_COMMAND = "commands/test_doctor.py"
_HOSTS = "commands/test_reached_hosts.py"
_NETWORK = "commands/test_network_findings.py"
_PROBE = "exchange/test_probe.py"
_STORE = "commands/test_store_findings.py"

DOCTOR = (
    Mutant(
        "an acknowledged subscription counts as a frame",
        "exchange/probe.py",
        "ended = await Connection(subscription, callbacks, options).run(dial, url)",
        "ended = await Connection(subscription, callbacks, options).run(dial, url)"
        "; seen = attrs.evolve(seen, first_frame_seconds=0.0)",
        f"{_NETWORK}::test_a_route_that_accepts_and_never_sends",
    ),
    Mutant(
        "a route is listened to after its first frame",
        "exchange/probe.py",
        "seen = attrs.evolve(seen, first_frame_seconds=trio.current_time() - began)\n"
        "scope.cancel()",
        "seen = attrs.evolve(seen, first_frame_seconds=trio.current_time() - began)",
        f"{_PROBE}::test_a_route_is_left_at_its_first_frame",
    ),
    Mutant(
        "a probe leaves its socket open",
        "exchange/probe.py",
        "await trio.aclose_forcefully(stream)",
        "pass",
        f"{_PROBE}::test_a_server_that_never_shakes_hands_costs_the_limit_and_no_socket",
    ),
    Mutant(
        "the clock is compared with the begin of a request",
        "commands/network_findings.py",
        "ahead_seconds = (probe.sent_ms - probe.server_time_ms) / 1_000 + half_seconds",
        "ahead_seconds = (probe.sent_ms - probe.server_time_ms) / 1_000",
        f"{_NETWORK}::test_a_warning_about_the_clock_is_never_false",
    ),
    Mutant(
        "a slow answer makes the clock wrong",
        "commands/network_findings.py",
        "if abs(ahead_seconds) - half_seconds <= _CLOCK_SECONDS:",
        "if abs(ahead_seconds) <= _CLOCK_SECONDS:",
        f"{_NETWORK}::test_a_slow_answer_does_not_make_the_clock_wrong",
    ),
    Mutant(
        "a spare host that fails is an error",
        "commands/examination.py",
        "if not await self._answers(market):",
        "if await self._answers(market):",
        f"{_HOSTS}::test_a_host_that_is_not_reached_is_a_warning_if_another_one_works",
    ),
    Mutant(
        "a host that refuses is asked for its list of symbols",
        "commands/examination.py",
        "if probe is not None and probe.server_time_ms is not None:",
        "if probe is not None:",
        f"{_NETWORK}::test_a_rest_host_with_a_fault",
    ),
    Mutant(
        "a check without a result is left out",
        "commands/doctor.py",
        "found.setdefault(check, [_late(check)])",
        "found.setdefault(check, [])",
        f"{_COMMAND}::test_it_ends_within_40_seconds_whatever_happens",
    ),
    Mutant(
        "lines are shown in any order",
        "commands/doctor.py",
        "ready = checks[: checks.index(waiting[0])] if waiting else checks",
        "ready = [one for one in checks if one in found]",
        f"{_COMMAND}::test_lines_come_as_they_become_known_and_the_rest_is_waited_for",
    ),
    Mutant(
        "one connection of a roll-over is forgotten",
        "commands/store_findings.py",
        "wanted = _CONNECTIONS_OF_A_SLOT * connections + _OTHER_DESCRIPTORS",
        "wanted = connections + _OTHER_DESCRIPTORS",
        f"{_STORE}::test_a_limit_of_open_files_is_enough_or_an_error_names_one_that_is",
    ),
    Mutant(
        "series of a day count for the layout",
        "commands/store_findings.py",
        "short = sum(1 for one in series if (one.interval.duration_ms or _HOUR_MS) < _HOUR_MS)",
        "short = sum(1 for one in series)",
        f"{_STORE}::test_too_many_series_for_the_layout",
    ),
    Mutant(
        "a pid in the lock file counts without the lock",
        "storage/inspection.py",
        'return pid if any("FLOCK" in line and f":{inode} " in line for line in locks) else None',
        "return pid if locks else None",
        "storage/test_inspection.py::test_who_holds_a_store",
    ),
)
