"""The Python programs of docs/observability.md run as they are printed."""

from __future__ import annotations

import re

import pytest
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import REGISTRY, generate_latest

from helpers import environment, python
from spike_auth import Rejected
from support.pages import DOCS, blocks

PAGE = DOCS["observability"]
LOGGING, PROMETHEUS, OPENTELEMETRY = blocks("python", PAGE)
USER = "canary-user-5e7d9c1b3a"


def test_the_log_is_as_printed(sandbox):
    program = f"""{LOGGING}
from spike_auth import Client, SpikeAuthError
client = Client.from_env(max_attempts=3)
client.token("alice")
try:
    client.token("fault.status.500")
except SpikeAuthError:
    pass
"""
    done = python("-c", program, env=environment(sandbox))
    assert (done.returncode, done.stdout) == (0, "")
    printed = blocks("text", PAGE)[0]
    assert without_times(done.stderr) == without_times(printed)


def without_times(log: str) -> str:
    return re.sub(r"(?m)^\S+ \S+|(?<= ms=)\d+", "", log)


def test_prometheus_scrapes_the_counters(client):
    names = {"client": client}
    before = {*REGISTRY._collector_to_names}
    exec(PROMETHEUS, names)
    (made,) = {*REGISTRY._collector_to_names} - before
    try:
        client.token("alice")
        client.token("alice")
        shown = dict(re.findall(r"(?m)^spike_auth_(\w+) (\S+)$", generate_latest(REGISTRY).decode()))
    finally:
        REGISTRY.unregister(made)
    stats = vars(client.stats())
    gauges = {"entries", "bytes", "forks", "pending"}
    assert {name: float(value) for name, value in shown.items()} == {
        name if name in gauges else f"{name}_total": value for name, value in stats.items()
    }
    assert (shown["exchanges_total"], shown["hits_total"], shown["entries"]) == ("1.0", "1.0", "1.0")


def test_opentelemetry_has_counters_and_spans(client):
    reader, spans = InMemoryMetricReader(), InMemorySpanExporter()
    metrics.set_meter_provider(MeterProvider([reader]))
    tracer_provider = TracerProvider()
    tracer_provider.add_span_processor(SimpleSpanProcessor(spans))
    trace.set_tracer_provider(tracer_provider)
    names = {"client": client}
    exec(OPENTELEMETRY, names)
    assert names["token"](USER) == client.token(USER)
    with pytest.raises(Rejected):
        names["token"]("fault.status.403")
    found = {
        metric.name: point.value
        for resource in reader.get_metrics_data().resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
    }
    stats = client.stats()
    assert found == {f"spike_auth.{name}": getattr(stats, name) for name in found_names()}
    assert (stats.hits, stats.exchanges, stats.failures) == (1, 2, 1)
    granted, refused = spans.get_finished_spans()
    assert (granted.name, granted.status.is_ok) == ("spike_auth.token", True)
    assert not refused.status.is_ok
    assert USER not in granted.to_json()
    assert "fault.status.403" not in refused.to_json()


def found_names() -> list[str]:
    return re.findall(r'"(\w+)"', re.search(r"for name in (\(.*\))", OPENTELEMETRY)[1])
