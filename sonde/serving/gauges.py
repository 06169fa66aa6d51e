"""Figures for Prometheus: requests, seconds of each stage, the queue, memory."""

import sys

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from sonde.serving.line import Place, WaitingLine

BOUNDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
"""Upper ends of the histogram's bins in seconds."""


class Gauges:
    """The figures of one server.

    Args:
        line: whose queue is shown.
    """

    def __init__(self, line: WaitingLine):
        own = self.registry = CollectorRegistry()
        self.requests = Counter("sonde_requests", "Requests that are over.", ["route", "status"], registry=own)
        self.stages = Histogram("sonde_stage_seconds", "Of each stage.", ["stage"], buckets=BOUNDS, registry=own)
        ProcessCollector(registry=own)
        for name, about, count in (
            ("sonde_queue_waiting", "Requests that the network has not seen yet.", lambda: line.count("waiting")),
            ("sonde_queue_running", "Requests at the network or being written.", lambda: line.count("running")),
            ("sonde_models_loaded", "Models in memory.", lambda: len(line.shelf.loaded)),
            ("sonde_gpu_memory_bytes", "Memory that torch holds on GPUs.", _count_gpu_bytes),
        ):
            Gauge(name, about, registry=own).set_function(count)

    def note(self, route: str, status: int, place: Place | None) -> None:
        """Count a request that is over.

        Args:
            route: as the application declares it: `/v1/depth`.
            status: of the answer; 499 where the client has gone.
            place: with the seconds of its stages, if it had any.
        """
        self.requests.labels(route, str(status)).inc()
        for stage, seconds in place.seconds.items() if place is not None else ():
            self.stages.labels(stage).observe(seconds)


def _count_gpu_bytes() -> float:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return 0.0
    return float(sum(torch.cuda.memory_reserved(number) for number in range(torch.cuda.device_count())))
