"""The real Prometheus reads a recorder, runs the dashboard's queries, and raises alerts."""

import json
import re
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest

from kline_trio.monitor.health import Code
from tests.end_to_end.harness import Program, wait_until

ROOT = Path(__file__).parents[2]
DEPLOYED = ROOT / "deploy" / "prometheus"
ALERTS = (DEPLOYED / "alerts.yml").read_text(encoding="utf-8")
RUNBOOK = (ROOT / "docs" / "alerts.md").read_text(encoding="utf-8")
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "dashboard.json").read_text("utf-8"))

PROMETHEUS, PROMTOOL = shutil.which("prometheus"), shutil.which("promtool")
needs_promtool = pytest.mark.skipif(
    PROMTOOL is None, reason="promtool is not installed (Debian: prometheus)"
)
needs_prometheus = pytest.mark.skipif(
    PROMETHEUS is None, reason="prometheus is not installed (Debian: prometheus)"
)

TOKEN = "a-token-of-the-tests"
RECORDER = """
[streams.spot]
1m = ["BTCUSDT", "BNBUSDT"]
[streams.usdt_futures]
1m = ["BTCUSDT"]
[streams.coin_futures]
1m = ["BTCUSD_PERP"]
[monitor]
token_file = "token"
per_symbol = true
[lake]
url = "lake"
publish_seconds = 2
"""
MAY_BE_EMPTY = {'kline_trio_reasons{job="kline_trio", instance=~"$instance"} > 0'}
"""A healthy recorder has no reasons."""


def promtool(*arguments: str) -> None:
    assert PROMTOOL is not None
    done = subprocess.run(
        [PROMTOOL, *arguments],
        cwd=DEPLOYED,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def rules() -> dict[str, str]:
    """The text of each alert's rule, by name."""
    parts = re.split(r"^ +- alert: (\w+)$", ALERTS, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def headings() -> set[str]:
    return set(re.findall(r"^### `?(\w+)`?$", RUNBOOK, re.MULTILINE))


def expressions() -> list[str]:
    """The queries of all panels of the dashboard."""
    return [one["expr"] for panel in DASHBOARD["panels"] for one in panel.get("targets", ())]


@needs_promtool
def test_promtool_accepts_the_rules_and_the_configuration() -> None:
    promtool("check", "rules", "alerts.yml")
    promtool("check", "config", "prometheus.yml")


@needs_promtool
def test_each_alert_is_quiet_for_a_healthy_recorder_and_fires_for_its_fault() -> None:
    promtool("test", "rules", "alerts_test.yml")
    tested = (DEPLOYED / "alerts_test.yml").read_text(encoding="utf-8")
    for name in rules():
        # Quiet for a healthy recorder, and one more check.
        assert len(re.findall(rf"alertname: {name}$", tested, re.MULTILINE)) >= 2, name
        labels = rf"alertname: {name}\n +exp_alerts:\n +- exp_labels:"
        assert re.search(labels, tested), f"{name} fires in no test"


def test_each_alert_has_a_severity_and_a_section_of_the_runbook() -> None:
    assert len(rules()) > 20
    for name, rule in rules().items():
        assert re.search(r"severity: (critical|warning)$", rule, re.MULTILINE), name
        assert re.search(r'summary: "\S', rule), name
        assert re.search(r"description: >-\n +\S", rule), name
        link = re.search(r"runbook_url: docs/alerts\.md#(\w+)$", rule, re.MULTILINE)
        assert link is not None, name
        assert link[1] in {heading.lower() for heading in headings()}, name


def test_the_runbook_has_a_section_for_each_reason_code_and_each_alert() -> None:
    codes = {str(one) for one in Code}
    own = {name for name, rule in rules().items() if f"#{name.lower()}" in rule}
    assert headings() == codes | own
    sections = dict(re.findall(r"^### `?(\w+)`?$(.+?)(?=^##|\Z)", RUNBOOK, re.M | re.S))
    for name, section in sections.items():
        for part in ("**Meaning.** ", "**Look at** ", "**Do**"):
            assert section.count(part) == 1, f"{name}: {part}"
    for name in rules().keys() - own:
        assert f"| {name} |" in RUNBOOK, name


def test_the_rules_know_each_reason_code_that_needs_somebody() -> None:
    asked_for = set(re.findall(r'kline_trio_reasons\{code="(\w+)"\}', ALERTS))
    # `starting` turns into `no_data`; a block of REST is told by its own metric, with the pool.
    assert asked_for == {str(one) for one in Code} - {"starting", "rest_blocked"}


def test_links_of_the_runbook_lead_somewhere() -> None:
    anchors = {one.lower() for one in headings()} | {"reason-codes", "other-alerts"}
    for page in ("alerts.md", "metrics.md"):
        text = (ROOT / "docs" / page).read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)#:]*)(?:#[\w-]+)?\)", text):
            assert (ROOT / "docs" / target).exists(), target
        for anchor in re.findall(r"\]\((?:alerts\.md)?#([\w-]+)\)", text):
            assert anchor in anchors, anchor


def test_the_dashboard_is_one_that_grafana_can_import() -> None:
    # Grafana itself was not to be had: this is what its documentation asks for.
    assert DASHBOARD["title"]
    assert DASHBOARD["uid"]
    assert DASHBOARD["schemaVersion"] >= 36
    assert DASHBOARD["id"] is None, "Grafana gives numbers itself"
    variables = {one["name"] for one in DASHBOARD["templating"]["list"]}
    assert variables == {"datasource", "instance"}
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(numbers)) == len(numbers)
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place, title = panel["gridPos"], panel["title"]
        cells = {
            (place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])
        }
        assert place["x"] + place["w"] <= 24, title
        assert not cells & taken, f"{title} lies on another panel"
        taken |= cells
        if panel["type"] == "row":
            continue
        assert panel["type"] in {"stat", "table", "timeseries"}
        assert panel["description"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        letters = [one["refId"] for one in panel["targets"]]
        assert letters
        assert len(set(letters)) == len(letters)
    for expression in expressions():
        used = set(re.findall(r"\$(\w+)", expression))
        assert used <= {"instance", "__rate_interval"}, expression
        assert "instance" in used, expression


@attrs.frozen
class Prometheus:
    """A Prometheus that runs."""

    url: str

    def get(self, path: str, **query: str) -> dict[str, Any]:
        """Ask its API.

        Raises:
          AssertionError: it refuses.
        """
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                found = json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{query or path}: {error.read().decode()}") from None
        assert found["status"] == "success", found
        data: dict[str, Any] = found["data"]
        return data

    def rows(self, query: str) -> list[Any]:
        """Give the result of a query, as of now."""
        found: list[Any] = self.get("query", query=query)["result"]
        return found

    def firing(self) -> dict[str, dict[str, Any]]:
        """Give the alerts that fire, by name."""
        alerts = self.get("alerts")["alerts"]
        return {one["labels"]["alertname"]: one for one in alerts if one["state"] == "firing"}


@contextmanager
def prometheus_of(folder: Path, target: str) -> Iterator[Prometheus]:
    """Run a Prometheus by the deployed configuration, with a second in the place of minutes."""
    text = (DEPLOYED / "prometheus.yml").read_text(encoding="utf-8")
    assert "127.0.0.1:8787" in text
    text = text.replace("127.0.0.1:8787", target).replace("15s", "1s")
    # The lines about a token are comments there.
    text = re.sub(r"# ((?:authorization:|  type: Bearer|  credentials_file: ).*)", r"\1", text)
    text = text.replace("/etc/prometheus/kline_trio.token", str(folder / "token"))
    assert text.count(str(folder / "token")) == 1
    (folder / "prometheus.yml").write_text(text, encoding="utf-8")
    hasty = re.sub(r"\bfor: \w+$", "for: 1s", ALERTS, flags=re.MULTILINE)
    (folder / "alerts.yml").write_text(hasty, encoding="utf-8")
    log = folder / "prometheus.log"
    assert PROMETHEUS is not None
    command = [
        PROMETHEUS,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        "--web.listen-address=127.0.0.1:0",
    ]
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output)
    try:

        def address() -> str | None:
            text = log.read_text(encoding="utf-8")
            assert process.poll() is None, text
            # The two lines come in either order.
            found = re.search(r'msg="Listening on" address=(127\.0\.0\.1:\d+)', text)
            return found[1] if found and "Server is ready" in text else None

        wait_until(lambda: address() is not None, "Prometheus is ready", 20)
        yield Prometheus(f"http://{address()}")
    finally:
        process.kill()
        process.wait()


@contextmanager
def recorder_in(folder: Path) -> Iterator[tuple[Program, str]]:
    """Run a recorder of a simulated exchange. Give the program, and where it serves its metrics."""
    (folder / "recorder.toml").write_text(RECORDER, encoding="utf-8")
    (folder / "token").write_text(f"{TOKEN}\n", encoding="utf-8")
    arguments = ["-m", "kline_trio", "recorder.toml", "--simulate", "--monitor", "127.0.0.1:0"]
    program = Program(arguments, folder, measured=True)
    try:
        line = program.wait_for("monitor: http://")
        yield program, line.split("http://")[1].split("/")[0]
    finally:
        program.close()


def runnable(expression: str) -> str:
    """Put values in the place of Grafana's variables."""
    return expression.replace("$instance", ".*").replace("$__rate_interval", "10s")


def documented() -> tuple[set[str], list[str]]:
    """The metrics of docs/metrics.md, by the names of their samples, and its queries."""
    text = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    metrics = dict(re.findall(r"^\| `(\w+)` \| (\w+) \|", text, re.MULTILINE))
    names = {name for name, kind in metrics.items() if kind != "histogram"}
    for name, kind in metrics.items():
        if kind == "histogram":
            names |= {f"{name}_{part}" for part in ("bucket", "count", "sum")}
    return names, re.findall(r"^\| [^|]+\? \| `(.+)` \|$", text, re.MULTILINE)


@needs_prometheus
def test_prometheus_scrapes_answers_the_dashboard_and_sees_the_recorder_die(
    tmp_path: Path,
) -> None:
    with recorder_in(tmp_path) as (recorder, target), prometheus_of(tmp_path, target) as prometheus:

        def is_scraped() -> bool:
            return len(prometheus.rows("rate(kline_trio_candles_recorded_total[10s]) > 0")) == 3

        wait_until(is_scraped, "candles of three markets are scraped", 30)
        [scraped] = prometheus.get("targets")["activeTargets"]
        assert (scraped["health"], scraped["lastError"]) == ("up", "")
        names, queries = documented()

        def scraped_names() -> set[str]:
            rows = prometheus.rows('group by (__name__) ({job="kline_trio"})')
            found = {one["metric"]["__name__"] for one in rows}
            # Prometheus adds `up` and `scrape_...` itself.
            return {one for one in found if not re.fullmatch("up|scrape_.*", one)}

        wait_until(lambda: scraped_names() >= names, "each documented metric is scraped", 15)
        assert scraped_names() == names
        assert len(queries) > 3
        for query in queries:
            prometheus.rows(query)

        def empty() -> list[str]:
            return [
                one
                for one in expressions()
                if one not in MAY_BE_EMPTY and not prometheus.rows(runnable(one))
            ]

        wait_until(lambda: not empty(), "each query of the dashboard has data", 15)
        for query in MAY_BE_EMPTY:
            assert query in expressions()
            prometheus.rows(runnable(query))

        [*groups] = prometheus.get("rules")["groups"]
        evaluated = {rule["name"]: rule for group in groups for rule in group["rules"]}
        assert evaluated.keys() == rules().keys()
        for name, rule in evaluated.items():
            assert (rule["health"], rule.get("lastError", "")) == ("ok", ""), name
        assert not prometheus.firing().keys() & {"KlineTrioDown", "KlineTrioTargetAbsent"}

        recorder.process.kill()
        wait_until(lambda: "KlineTrioDown" in prometheus.firing(), "the alert fires", 20)
        down = prometheus.firing()["KlineTrioDown"]
        assert down["labels"]["severity"] == "critical"
        assert down["labels"]["instance"] == target
        assert down["annotations"]["summary"] == f"{target}: the recorder does not answer"
        assert down["annotations"]["runbook_url"] == "docs/alerts.md#klinetriodown"
