"""Mutants of what a running recorder shows, and of its alarms."""

from tests.mutation.mutant import Mutant

__all__ = ["MONITOR"]

_HEALTH = "monitor/test_health.py"
_ACCESS = "monitor/test_access.py"
_ALERTS = "monitor/test_alerts.py"
_SERVICE = "monitor/test_service.py"
_CONFIG = "test_config_monitor.py"

MONITOR = (
    # The verdict
    Mutant(
        "a fault that comes and goes is many faults",
        "monitor/health.py",
        "if now < moment + limits.recover_seconds",
        "if now < moment",
        f"{_HEALTH}::test_it_worsens_at_once_and_improves_after_a_quiet_time",
    ),
    Mutant(
        "a fault never ends",
        "monitor/health.py",
        "if now < moment + limits.recover_seconds",
        "if now > moment - limits.recover_seconds",
        f"{_HEALTH}::test_it_worsens_at_once_and_improves_after_a_quiet_time",
    ),
    Mutant(
        "a recorder that cannot be observed keeps its last verdict",
        "monitor/watch.py",
        "self.latest = attrs.evolve(self.latest, health=health)",
        "pass",
        f"{_SERVICE}::test_a_recorder_that_cannot_be_observed_is_bad_and_recovers",
        is_slow=True,
    ),
    # Access
    Mutant(
        "an IPv6 address has several spellings",
        "config/monitor.py",
        "return str(ip_address(bare))",
        "return bare",
        f"{_ACCESS}::test_a_server_is_called_by_its_own_address_however_it_is_spelt",
    ),
    Mutant(
        "other machines need no token",
        "config/monitor.py",
        "if self.token_file is None and self.token_variable is None:",
        "if False:",
        f"{_CONFIG}::test_other_machines_need_a_token_and_tls",
    ),
    Mutant(
        "other machines need no TLS",
        "config/monitor.py",
        "if self.tls_cert is None and self.tls_key is None and not self.insecure_http:",
        "if False:",
        f"{_CONFIG}::test_other_machines_need_a_token_and_tls",
    ),
    Mutant(
        "a short token is taken",
        "monitor/credentials.py",
        "if len(token) < _LEAST_TOKEN:",
        "if not token:",
        f"{_SERVICE}::test_a_token_that_cannot_be_used_is_one_line_and_nothing_is_served",
        is_slow=True,
    ),
    # Alarms
    Mutant(
        "on_change runs as often as health changes",
        "monitor/alerts.py",
        "await trio.sleep(_LEAST_SECONDS)",
        "await trio.sleep(_LOOK_SECONDS)",
        f"{_ALERTS}::test_changes_in_quick_succession_run_it_each_half_minute_at_most",
    ),
    Mutant(
        "on_change runs again and again",
        "monitor/alerts.py",
        "self.shown = verdict",
        "pass",
        f"{_ALERTS}::test_a_command_runs_at_each_change_with_what_was_and_is",
    ),
    Mutant(
        "the children of a command live on",
        "monitor/alerts.py",
        "os.killpg(process.pid, signal.SIGKILL)",
        "os.kill(process.pid, signal.SIGKILL)",
        f"{_ALERTS}::test_a_command_that_hangs_is_killed_with_its_children",
        is_slow=True,
    ),
    Mutant(
        "all that a command writes is kept",
        "monitor/alerts.py",
        "said = (said + part)[-4 * _SHOWN :]",
        "said += part",
        f"{_ALERTS}::test_output_without_end_is_not_kept",
        is_slow=True,
    ),
    Mutant(
        "/fail is requested each minute",
        "monitor/alerts.py",
        "if (is_bad and is_reported) or trio.current_time() < due_at:",
        "if trio.current_time() < due_at:",
        f"{_ALERTS}::test_fail_is_requested_once_when_health_turns_bad",
    ),
    Mutant(
        "/fail waits for the minute",
        "monitor/alerts.py",
        "due_at, was_bad, is_reported = trio.current_time(), is_bad, False",
        "was_bad, is_reported = is_bad, False",
        f"{_ALERTS}::test_fail_is_requested_once_when_health_turns_bad",
    ),
    Mutant(
        "/fail stands behind the query",
        "monitor/alerts.py",
        'return parts._replace(path=parts.path.rstrip("/") + "/fail").geturl()',
        'return url + "/fail"',
        f"{_ALERTS}::test_fail_belongs_to_the_path_and_not_behind_the_query",
    ),
    Mutant(
        "a bug of the monitor ends the recorder",
        "monitor/service.py",
        "except* Exception:",
        "except* KeyError:",
        f"{_SERVICE}::test_a_bug_in_one_job_ends_only_that_job",
        is_slow=True,
    ),
)
