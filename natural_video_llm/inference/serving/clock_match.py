"""A client's monotonic clock against the conversation's, by ping and pong."""

from collections import OrderedDict, deque

_KEPT = 8
_MOST_OUTSTANDING = 32


class ClockMatch:
    """Keeps the offset of the exchange with the shortest round trip among the last ones (as NTP's clock filter does,
    RFC 5905): the shorter it was, the less the two ways can have differed."""

    def __init__(self) -> None:
        self._outstanding: OrderedDict[float, None] = OrderedDict()
        self._exchanges: deque[tuple[float, float]] = deque(maxlen=_KEPT)

    def ping(self, now_s: float) -> float:
        """The time to send, in whole microseconds, which survive any JSON number."""
        sent_s = round(now_s, 6)
        self._outstanding[sent_s] = None
        while len(self._outstanding) > _MOST_OUTSTANDING:
            self._outstanding.popitem(last=False)
        return sent_s

    def pong(self, server_time_s: float, client_time_s: float, now_s: float) -> bool:
        """Take an answer; False where no such ping is waiting for one."""
        sent_s = round(server_time_s, 6)
        if sent_s not in self._outstanding:
            return False
        del self._outstanding[sent_s]
        self._exchanges.append((now_s - sent_s, (sent_s + now_s) / 2 - client_time_s))
        return True

    @property
    def offset_s(self) -> float | None:
        """Server time minus client time; None before the first exchange."""
        return min(self._exchanges)[1] if self._exchanges else None

    def to_server(self, client_time_s: float) -> float | None:
        """A client's time on the server's clock."""
        offset_s = self.offset_s
        return None if offset_s is None else client_time_s + offset_s
