"""What an operator sees of a server, a worker and a command: spans, log lines as JSON, metrics, alerts."""

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import promql_parser
import pytest
import requests
import yaml
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client.parser import text_string_to_metric_families

from tests.processes import CLEAN, DEVELOPMENT, PATIENCE, ROOT, Served, manage, running, serving
from tests.project.test_start import PRODUCTION
from tests.upstream import Upstream, reply
from tests.waits import until

pytestmark = pytest.mark.server

TOKEN = "for the tests only"
PROMPT, ANSWER, SECRET = "What is the zanzibar of prompts?", "The quagga of answers.", "sk_dodo"
TRACES = {"chat": "0af7651916cd43dd8448eb211c80319c", "batch": "4bf92f3577b34da6a3ce929d0e0e4736"}


class Collector(ThreadingHTTPServer):
    """Takes what is exported to it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Taker)
        self.bodies: list[bytes] = []
        self.paths: set[str] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def spans(self) -> list[tuple[str, Any]]:
        """Return each span with the name of its service."""
        resources = [each for body in self.bodies for each in ExportTraceServiceRequest.FromString(body).resource_spans]
        return [
            (next(one.value.string_value for one in each.resource.attributes if one.key == "service.name"), span)
            for each in resources
            for scope in each.scope_spans
            for span in scope.spans
        ]

    def of(self, trace: str) -> dict[str, Any]:
        return {span.name: span for _, span in self.spans if span.trace_id.hex() == trace}

    @contextmanager
    def in_thread(self) -> Iterator["Collector"]:
        thread = threading.Thread(target=self.serve_forever)
        thread.start()
        try:
            yield self
        finally:
            self.shutdown()
            thread.join()
            self.server_close()


class Taker(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        self.server.paths.add(self.path)
        self.server.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


@dataclass(frozen=True)
class Seen:
    """What was seen of a chat and of a background batch with one, whose item a worker carried out."""

    collector: Collector
    log: str
    workers_log: str
    queue_before: dict[str, float]
    metrics: dict[str, float]
    workers_metrics: dict[str, float]


@pytest.fixture(scope="module")
def seen() -> Iterator[Seen]:
    with Upstream(reply(ANSWER, usage=(7, 3))).in_thread() as upstream, Collector().in_thread() as collector:
        env = {"ASSISTANT_MODEL": "openai:test", "OPENAI_BASE_URL": upstream.url, "LOG_FORMAT": "json"}
        env |= {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}
        env |= {"BATCH_RUN_IN_SERVER": "false"}
        with serving(METRICS_TOKEN=TOKEN, **env) as service:
            yield watched(service, collector, {**DEVELOPMENT, **env, "ASSISTANT_DATA_DIR": service.data or ""})


def watched(service: Served, collector: Collector, env: dict[str, str]) -> Seen:
    ask = {"message": PROMPT}
    assert post(service, "agent/chat?stream=true", ask, "chat", x_request_id="mine-1").status_code == 200
    assert post(service, "agent/chat", ask, "", authorization=f"Bearer {SECRET}").status_code == 401
    items = {"requests": [{"id": "a", "method": "POST", "path": "/api/agent/chat", "body": ask}]}
    batch = post(service, "batch", items, "batch", prefer="respond-async").json()
    queue_before = scraped(service.url)
    command = [sys.executable, "manage.py", "run_batches"]
    with running(command, r"metrics=127\.0\.0\.1:(\d+) state=served", METRICS_PORT="0", **env) as worker:
        until(lambda: get(service, f"batch/{batch['batch_id']}")["status"] == "completed")
        until(lambda: scraped(worker.url).get("batching_items_total succeeded"))
        workers_log, workers_metrics = worker.log(), scraped(worker.url)
    until(lambda: "chat test" in collector.of(TRACES["chat"]) and len(collector.of(TRACES["batch"])) == 2)
    return Seen(collector, service.log(), workers_log, queue_before, scraped(service.url), workers_metrics)


def post(service: Served, path: str, body: Any, trace: str, **headers: str) -> requests.Response:
    said = {name.replace("_", "-"): value for name, value in headers.items()}
    if trace:
        said["traceparent"] = f"00-{TRACES[trace]}-b7ad6b7169203331-01"
    return requests.post(f"{service.url}/api/{path}", json=body, headers=said, timeout=PATIENCE)


def get(service: Served, path: str) -> Any:
    return requests.get(f"{service.url}/api/{path}", timeout=PATIENCE).json()


def scraped(url: str) -> dict[str, float]:
    """Return the samples that aren't nought."""
    answer = requests.get(f"{url}/metrics", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=PATIENCE)
    samples = [each for family in text_string_to_metric_families(answer.text) for each in family.samples]
    return {" ".join([each.name, *each.labels.values()]): each.value for each in samples if each.value}


def lines(log: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.splitlines() if line.startswith("{")]


def test_a_server_exports_the_spans_of_a_chat(seen: Seen) -> None:
    assert seen.collector.paths == {"/v1/traces"}
    assert {service for service, _ in seen.collector.spans} == {"assistant"}
    spans = seen.collector.of(TRACES["chat"])
    request, turn, call = (spans[name] for name in ("POST api/agent/chat", "invoke_agent default", "chat test"))
    assert request.parent_span_id.hex() == "b7ad6b7169203331"
    assert (turn.parent_span_id, call.parent_span_id) == (request.span_id, turn.span_id)


def test_a_worker_exports_items_that_refer_to_their_batch(seen: Seen) -> None:
    accepting = seen.collector.of(TRACES["batch"])["batch"]
    [item] = [span for _, span in seen.collector.spans if span.links]
    assert (item.name, item.links[0].span_id) == ("POST api/agent/chat", accepting.span_id)
    assert item.links[0].trace_id.hex() == TRACES["batch"]
    assert set(seen.collector.of(item.trace_id.hex())) == {item.name, "invoke_agent default", "chat test"}


def test_the_log_is_an_object_a_line_with_its_ids(seen: Seen) -> None:
    told = lines(seen.log)
    assert len(told) > 5
    [ended] = [line for line in told if line["logger"] == "assistant.answers.run"]
    assert ended["message_id"].startswith("msg_")
    assert (ended["request_id"], ended["trace_id"], ended["state"]) == ("mine-1", TRACES["chat"], "completed")
    [access] = [line for line in told if line["logger"] == "wire.access" and line.get("request_id") == "mine-1"]
    assert (access["method"], access["path"], access["status"]) == ("POST", "/api/agent/chat", 200)
    assert 0 < access["duration"] < PATIENCE
    [item] = [line for line in lines(seen.workers_log) if line["logger"] == "assistant.answers.run"]
    assert (item["state"], item["level"]) == ("completed", "INFO")
    assert item["request_id"].endswith("/0")


def test_nothing_of_it_holds_a_text_or_a_secret(seen: Seen) -> None:
    for text in (seen.log, seen.workers_log, repr(b"".join(seen.collector.bodies)), repr(seen.metrics)):
        assert text
        assert not re.search("zanzibar|quagga|dodo", text)


def test_metrics_of_both_tell_what_happened(seen: Seen) -> None:
    assert seen.queue_before["batching_queue_items waiting"] == 1
    assert seen.queue_before["batching_queue_oldest_seconds"] > 0
    assert "batching_queue_items waiting" not in seen.metrics
    assert seen.metrics["http_request_duration_seconds_count POST api/agent/chat 200"] == 1
    assert seen.metrics["http_request_duration_seconds_count POST api/agent/chat 401"] == 1
    assert seen.metrics["assistant_tokens_total input openai:test"] == 7
    assert seen.workers_metrics["assistant_answers_total default completed"] == 1
    assert seen.workers_metrics["batching_batches_total completed"] == 1
    assert seen.workers_metrics["http_request_duration_seconds_count POST api/agent/chat 200"] == 1


CODE = """
import json, logging, socket, sys
from django.core.exceptions import ImproperlyConfigured
from prometheus_client import REGISTRY
from config.observe import export_spans, serve_metrics
logging.getLogger("mine").warning("batch=%s key=%s", "b", "Bearer sk_dodo")
with socket.create_server(("127.0.0.1", 0)) as taken:
    serve_metrics(*taken.getsockname())
sys.modules["opentelemetry.sdk.trace"] = None
try:
    export_spans("http://127.0.0.1:9", "mine")
except ImproperlyConfigured as error:
    logging.getLogger("mine").error(error)
found = {}
for collector in REGISTRY._collector_to_names:
    for each in getattr(collector, "describe", collector.collect)():
        labels = getattr(collector, "_labelnames", None) or getattr(each, "_labelnames", ())
        found[each.name] = [each.type, *labels]
print(json.dumps(found))
"""
SUFFIXES = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"], "gauge": [""], "info": [""]}
# What Prometheus adds to each sample, and the metric it makes of each scrape.
ADDED = {"job", "instance"}


@pytest.fixture(scope="module")
def command() -> subprocess.CompletedProcess[str]:
    """Run a command in production that logs a line and prints the metrics with their types and labels."""
    return manage("shell", "--no-imports", "-c", CODE, **PRODUCTION)


@pytest.fixture(scope="module")
def metrics(command: subprocess.CompletedProcess[str]) -> dict[str, list[str]]:
    """Return the metrics that there are: type, then labels."""
    assert command.returncode == 0, command.stderr
    found: dict[str, list[str]] = json.loads(command.stdout)
    return found


def test_in_production_commands_log_json_too(command: subprocess.CompletedProcess[str]) -> None:
    told = lines(command.stderr)[0]
    assert (told["logger"], told["level"], told["batch"]) == ("mine", "WARNING", "b")
    assert told["message"] == "batch=b key=Bearer ***"


def test_what_cannot_be_had_is_said_in_a_sentence(command: subprocess.CompletedProcess[str]) -> None:
    port, package = lines(command.stderr)[1:]
    assert (port["state"], port["error"]) == ("not_served", "Address already in use")
    assert "pip install 'django-assistant-backend[otel]'" in package["message"]


def test_every_metric_is_documented_with_its_labels(metrics: dict[str, list[str]]) -> None:
    text = (ROOT / "docs/monitoring.md").read_text()
    documented = re.findall(r"^\| `([a-z_]+)(?:\{(.+)\})?` \| ", text, re.MULTILINE)
    ours = {name: told for name, told in metrics.items() if not name.startswith(("process", "python"))}
    assert len(ours) > 10
    assert dict(documented) == {
        f"{name}_total" if kind == "counter" else name: ", ".join(labels) for name, (kind, *labels) in ours.items()
    }


def rules() -> list[dict[str, Any]]:
    [group] = yaml.safe_load((ROOT / "deploy/prometheus/rules.yaml").read_text())["groups"]
    told: list[dict[str, Any]] = group["rules"]
    return told


def drawn() -> list[str]:
    panels = json.loads((ROOT / "deploy/grafana/assistant.json").read_text())["panels"]
    return [one["expr"].replace("$__rate_interval", "5m") for panel in panels for one in panel.get("targets", ())]


def test_dashboard_and_alerts_use_metrics_that_there_are(metrics: dict[str, list[str]]) -> None:
    samples = {f"{name}{end}": {*labels, "le"} for name, (kind, *labels) in metrics.items() for end in SUFFIXES[kind]}
    samples["up"] = set()
    used = [used_by(expr) for expr in [*drawn(), *(rule["expr"] for rule in rules())]]
    assert len(used) > 25
    for names, grouped in used:
        for name, matched in names.items():
            assert matched <= samples[name] | ADDED
        assert grouped <= set().union(*(samples[name] for name in names))
    of_ours = {name for name in samples if name.startswith(("assistant", "batching", "http")) and "_sum" not in name}
    seen = {name for names, _ in used for name in names}
    assert {name.removesuffix("_bucket").removesuffix("_count") for name in of_ours} <= {
        name.removesuffix("_bucket").removesuffix("_count") for name in seen
    }


def used_by(expr: str) -> tuple[dict[str, set[str]], set[str]]:
    """Return the samples of an expression with the labels that are matched, and the labels that it groups by."""
    names: dict[str, set[str]] = {}
    grouped: set[str] = set()

    def note(node: promql_parser.Expr) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            names.setdefault(node.name, set()).update(each.name for each in node.matchers.matchers)
        if isinstance(node, promql_parser.AggregateExpr) and node.modifier:
            grouped.update(node.modifier.labels)

    promql_parser.walk(promql_parser.parse(expr), note)
    return names, grouped


def test_alerts_say_what_to_do_and_are_documented() -> None:
    documented = re.findall(r"^\| `(Assistant\w+)` \| ", (ROOT / "docs/monitoring.md").read_text(), re.MULTILINE)
    assert [rule["alert"] for rule in rules()] == documented
    for rule in rules():
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert set(rule["annotations"]) == {"summary", "action"}
        named = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
        assert named <= used_by(rule["expr"])[1] | ADDED


def test_nothing_of_opentelemetry_is_imported_where_it_is_not_asked_for() -> None:
    code = "import sys, django; django.setup(); import config.asgi, batching.background.engine; print([*sys.modules])"
    env = CLEAN | DEVELOPMENT | {"DJANGO_SETTINGS_MODULE": "config.settings"}
    modules = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=env, check=True, capture_output=True, text=True
    )
    assert "assistant.observe.spans" in modules.stdout
    assert "opentelemetry" not in modules.stdout
    assert "prometheus_client" not in modules.stdout
