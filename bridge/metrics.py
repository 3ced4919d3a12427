"""/healthz in Prometheus' text format, with refusals by kind and bytes sent."""

from prometheus_client import CollectorRegistry, exposition
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

CONTENT_TYPE = exposition.CONTENT_TYPE_LATEST
COUNTERS = {
    "rows": "Rows shown since the start",
    "missed_rows": "Rows that the database holds and that were not shown",
    "unshown_values": "Values that are not of their column's type, shown as null",
    "polls": "Queries for new rows",
    "failed_polls": "Queries for new rows that failed",
    "reconnects": "Connections to the database after the first one",
}
GAUGES = {
    "held": ("held_rows", "Rows in the Perspective table", 1),
    "rows_per_s": ("rows_per_second", "Rows shown a second, lately", 1),
    "age_ms": ("newest_row_age_seconds", "Age of the newest row", 1000),
    "lag_ms": ("lag_seconds", "Time from a row's arrival in the database to the viewers", 1000),
}


class Health:
    """A Prometheus collector of one /healthz object."""

    def __init__(self, health):
        self.health = health

    def collect(self):
        tables = self.health["tables"]
        for key, help_text in COUNTERS.items():
            metric = CounterMetricFamily(f"perspective_{key}", help_text, labels=["table"])
            for title, table in tables.items():
                metric.add_metric([title], table.get(key) or 0)
            yield metric
        for key, (name, help_text, divisor) in GAUGES.items():
            metric = GaugeMetricFamily(f"perspective_{name}", help_text, labels=["table"])
            for title, table in tables.items():
                if table.get(key) is not None:
                    metric.add_metric([title], table[key] / divisor)
            yield metric
        status = GaugeMetricFamily("perspective_status", "1 for the table's status", labels=["table", "status"])
        for title, table in tables.items():
            status.add_metric([title, table["status"]], 1)
        yield status
        yield GaugeMetricFamily("perspective_viewers", "Viewers connected", self.health["viewers"])
        yield GaugeMetricFamily("perspective_busy", "1 while the server is at its limit", int(self.health["busy"]))
        for key, label, help_text in (
            ("refused", "kind", "Requests and connections of viewers that were refused"),
            ("restarts", "reason", "Replacements of the process that holds the engine"),
            ("sent_bytes", "", "Bytes sent to viewers"),
        ):
            yield counter(f"perspective_{key}", help_text, label, self.health[key])


def counter(name, help_text, label, value):
    """A counter of one number, or of a dict {label's value: number}."""
    if not isinstance(value, dict):
        return CounterMetricFamily(name, help_text, value=value)
    metric = CounterMetricFamily(name, help_text, labels=[label])
    for key, number in value.items():
        metric.add_metric([str(key)], number)
    return metric


def text(health):
    """A /healthz object as Prometheus' text format, in bytes."""
    registry = CollectorRegistry()
    registry.register(Health(health))
    return exposition.generate_latest(registry)
