"""The alerts and the dashboard of the examples ask for metrics that there are."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from headway.protocol.access.token_file import TokenFile
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import FRESH
from tests.each import each
from tests.end_to_end.process import Server, launch
from tests.valkey_servers import HOST, StoreServer

ROOT = Path(__file__).parent.parent
RULES = ROOT / "examples/prometheus/headway.rules.yml"
DASHBOARD: dict[str, Any] = json.loads((ROOT / "examples/grafana/headway.json").read_text())
ALERTS: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
]
PAGE = (ROOT / "docs/monitoring.md").read_text()
PROTOCOL = (ROOT / "docs/protocol.md").read_text()
KEDA: dict[str, Any]
KEDA_TOKEN: dict[str, Any]
KEDA, KEDA_TOKEN = yaml.safe_load_all((ROOT / "examples/keda/headway.yaml").read_text())
NAME = r"\b(?:headway|process|python)_\w+"
# The labels of a metric that the alerts choose by, with a value each.
LABELS = re.compile(r'(headway_\w+)\{[^}]*?(outcome|reason|why)="([\w-]+)"')


def queries() -> Iterator[str]:
    """Each query of the alerts and of the dashboard."""
    yield from (rule["expr"] for rule in ALERTS)
    for panel in DASHBOARD["panels"]:
        yield from (target["expr"] for target in panel["targets"])
    yield from (variable["definition"] for variable in DASHBOARD["templating"]["list"] if "definition" in variable)


def asked(query: str) -> set[str]:
    return set(re.findall(NAME, query))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that has a journal and worker processes."""
    folder = tmp_path_factory.mktemp("monitored")
    settings = {"journal__path": str(folder / "j.db"), "jobs__run_in": "process", "processes": 1, "drain_linger": 0}
    with launch(folder, settings) as server:
        server.run("echo", 1)
        yield server


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, store: StoreServer) -> Iterator[Server]:
    """A node on a store."""
    with launch(tmp_path_factory.mktemp("node"), {"engine": f"valkey://{HOST}:{store.port}/{next(FRESH)}"}) as node:
        node.run("echo", 1)
        yield node


@pytest.fixture(scope="module")
def text(server: Server) -> str:
    """All metrics of a server with a journal."""
    return server.get("/metrics").body.decode()


@pytest.fixture(scope="module")
def text_of_node(node: Server) -> str:
    """All metrics of a node."""
    return node.get("/metrics").body.decode()


@pytest.fixture(scope="module")
def samples(text: str, text_of_node: str) -> list[tuple[str, dict[str, str], str]]:
    """Name, labels and help of each sample of a server, and of those that only a node has."""
    families = {family.name: family for family in text_string_to_metric_families(text_of_node)}
    families |= {family.name: family for family in text_string_to_metric_families(text)}
    return [
        (sample.name, sample.labels, family.documentation) for family in families.values() for sample in family.samples
    ]


@pytest.fixture(scope="module")
def exposed(samples: list[tuple[str, dict[str, str], str]]) -> dict[str, str]:
    """The help of each metric. Of a histogram only the buckets count."""
    return {name: said for name, _, said in samples if not name.endswith(("_sum", "_count", "_created"))}


def test_each_query_asks_for_metrics_that_there_are(exposed: dict[str, str]) -> None:
    found = {name: query for query in queries() for name in asked(query)}
    assert len(found) > 20
    assert {name: query for name, query in found.items() if name not in exposed} == {}


def test_each_metric_is_in_the_dashboard(exposed: dict[str, str]) -> None:
    shown = set().union(*map(asked, queries()))
    assert set(exposed) - shown == set()


def test_each_metric_is_on_the_page(exposed: dict[str, str]) -> None:
    listed = dict(re.findall(rf"^\| `({NAME})` \| (.+?) \|$", PAGE, re.MULTILINE))
    assert listed == {name.removesuffix("_bucket"): said for name, said in exposed.items()}


def test_each_label_that_a_query_chooses_is_there_from_the_start(
    samples: list[tuple[str, dict[str, str], str]],
) -> None:
    """Prometheus cannot see the first increase of a series that comes later."""
    chosen = {found for query in queries() for found in LABELS.findall(query)}
    assert len(chosen) >= 5
    there = {(name, label, value) for name, labels, _ in samples for label, value in labels.items()}
    assert chosen - there == set()


def test_each_documented_refusal_is_counted_from_the_start(samples: list[tuple[str, dict[str, str], str]]) -> None:
    documented = re.findall(r"^\| \d{3} \| `([\w-]+)` \|", PROTOCOL, re.MULTILINE)
    assert {labels["reason"] for name, labels, _ in samples if name == "headway_rejections_total"} == set(documented)


@each("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_an_alert_is_whole(rule: dict[str, Any]) -> None:
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert re.fullmatch(r"\d+[smh]", rule.get("for", "0s"))
    assert rule["labels"]["severity"] in {"warning", "critical"}
    assert set(rule["annotations"]) == {"summary", "description"}
    assert rule["expr"].count("(") == rule["expr"].count(")")
    assert f"| `{rule['alert']}` |" in PAGE


def test_the_page_has_no_alert_that_there_is_not() -> None:
    assert set(re.findall(r"^\| `(Headway\w+)` \|", PAGE, re.MULTILINE)) == {rule["alert"] for rule in ALERTS}


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")
@pytest.mark.parametrize("command", [("check", "rules", "headway.rules.yml"), ("test", "rules", "headway.test.yml")])
def test_promtool_finds_the_alerts_right(command: tuple[str, ...]) -> None:
    ran = subprocess.run(["promtool", *command], cwd=RULES.parent, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")
@pytest.mark.parametrize("whose", ["text", "text_of_node"])
def test_promtool_finds_the_metrics_right(request: pytest.FixtureRequest, whose: str) -> None:
    text = request.getfixturevalue(whose)
    ran = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True)
    # The names of prometheus_client are those that everyone knows.
    faults = [line for line in (ran.stdout + ran.stderr).splitlines() if not line.startswith(("process_", "python_"))]
    assert faults == []


def test_a_metric_of_a_task_is_there_from_the_start(samples: list[tuple[str, dict[str, str], str]]) -> None:
    by_task: dict[str, int] = {}
    for _, labels, _ in samples:
        if "task" in labels:
            by_task[labels["task"]] = by_task.get(labels["task"], 0) + 1
    # The page says so.
    assert "46 series" in PAGE
    assert len(by_task) > 5
    assert set(by_task.values()) == {46}


def test_the_names_of_prometheus_client_are_there(samples: list[tuple[str, dict[str, str], str]]) -> None:
    names = {name for name, _, _ in samples}
    assert names >= {
        *("process_cpu_seconds_total", "process_resident_memory_bytes", "process_virtual_memory_bytes"),
        *("process_start_time_seconds", "process_open_fds", "process_max_fds", "process_threads"),
        *("python_gc_collections_total", "python_gc_objects_collected_total", "python_info"),
    }


def test_the_memory_of_worker_processes_is_told(text: str) -> None:
    found = re.search(r"^headway_processes_resident_memory_bytes (\S+)$", text, re.MULTILINE)
    assert found is not None
    assert 5e6 < float(found[1]) < 1e9


def test_an_autoscaler_reads_plain_numbers(server: Server) -> None:
    """KEDA's metrics-api takes a number, or a text of one, and nothing else."""
    triggers = [trigger["metadata"] for trigger in KEDA["spec"]["triggers"]]
    assert all(isinstance(value, str) for trigger in triggers for value in trigger.values())
    for trigger in triggers:
        path = "/" + trigger["url"].split("/", 3)[3]
        for place in (path, "/tasks/echo"):
            assert type(server.get(place).json[trigger["valueLocation"]]) is int
    assert f"valueLocation: {triggers[0]['valueLocation']}" in PAGE


def test_a_token_for_metrics_is_enough_for_what_asks_for_them(tmp_path: Path) -> None:
    """As the pages and the manifest of KEDA say: it reads the paths of triggers, and of Prometheus."""
    line = f"Authorization: Bearer {TokenFile(tmp_path / 'headway-tokens.yaml').add('keda', ['metrics'])}"
    with launch(tmp_path, {}) as server:
        for trigger in KEDA["spec"]["triggers"]:
            assert trigger["metadata"]["authMode"] == "bearer"
            assert trigger["authenticationRef"]["name"] == KEDA_TOKEN["metadata"]["name"]
            path = "/" + trigger["metadata"]["url"].split("/", 3)[3]
            assert (server.get(path).status, server.get(path, line).status) == (401, 200)
        assert server.get("/metrics", line).status == 200
    assert [each["parameter"] for each in KEDA_TOKEN["spec"]["secretTargetRef"]] == ["token"]


def test_the_dashboard_is_whole() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    sources = {json.dumps(item["datasource"]) for panel in panels for item in (panel, *panel["targets"])}
    assert sources == {'{"type": "prometheus", "uid": "${datasource}"}'}
    taken = [
        (x, y)
        for at in (panel["gridPos"] for panel in panels)
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(taken) == len(set(taken))
    assert max(x for x, _ in taken) < 24
