"""Figures of a server for Prometheus; nothing in them is of a person."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_BUCKETS_S = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_STAGES = ("first_token", "token", "face_age")


class Metrics:
    """One server's counts, in a registry of its own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        registry = self._registry
        self.sessions = Gauge("nvllm_sessions", "Sessions now", ["state"], registry=registry)
        self.refused = Counter(
            "nvllm_refused_total", "Sessions and requests refused because the server was full", registry=registry
        )
        self.frames = Counter(
            "nvllm_frames_total", "Frames that came, by what became of them", ["result"], registry=registry
        )
        self.errors = Counter("nvllm_errors_total", "Errors told to clients", ["code"], registry=registry)
        self.replies = Counter("nvllm_replies_total", "Replies, by how they ended", ["status"], registry=registry)
        self.tokens = Counter("nvllm_reply_tokens_total", "Tokens of replies", registry=registry)
        self.stages = Histogram(
            "nvllm_stage_seconds", "Median of each stage in a reply", ["stage"], buckets=_BUCKETS_S, registry=registry
        )

    def replied(self, status: str, tokens: int, stages_ms: dict[str, float]) -> None:
        """Count a reply that has ended."""
        self.replies.labels(status).inc()
        self.tokens.inc(tokens)
        for stage in _STAGES:
            if stage in stages_ms:
                self.stages.labels(stage).observe(stages_ms[stage] / 1000)

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self._registry)
