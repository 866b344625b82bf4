"""The end of what a child process wrote."""

from __future__ import annotations

import threading
from collections import deque

LARGEST_LOG_BYTES = 200_000


class JobLog:
    """Lines from several threads; of long logs the last `LARGEST_LOG_BYTES` are kept."""

    def __init__(self) -> None:
        self._lines: deque[bytes] = deque()
        self._size = 0
        self._lock = threading.Lock()

    def add(self, line: bytes) -> None:
        """Append a line; its end is normalised."""
        kept = line.rstrip(b"\r\n")[-LARGEST_LOG_BYTES:] + b"\n"
        with self._lock:
            self._lines.append(kept)
            self._size += len(kept)
            while self._size > LARGEST_LOG_BYTES and len(self._lines) > 1:
                self._size -= len(self._lines.popleft())

    @property
    def text(self) -> str:
        """All lines; bytes that are no UTF-8 are replaced."""
        with self._lock:
            return b"".join(self._lines).decode("utf-8", "replace")
