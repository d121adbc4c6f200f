"""What a worker has of time and chance, for a test: all of it is the host's, for each instance anew."""

import json
import random
import time
import uuid

from wit_world import exports


def passed() -> float:
    """Milliseconds that pass while it computes."""
    begun = time.monotonic()
    total = sum(n % 7 for n in range(300_000))
    return (time.monotonic() - begun) * 1_000 if total else -1


ASKED = {
    # Milliseconds since 1970.
    "date": lambda: time.time_ns() // 1_000_000,
    "passed": passed,
    "random": random.random,
    "uuid": lambda: str(uuid.uuid4()),
}


class Handler(exports.Handler):
    def handle_call(self, call: int, request: bytes):
        return json.dumps(ASKED[json.loads(request)]()).encode()

    def handle_cast(self, message: bytes) -> None:
        pass

    def handle_info(self, info) -> None:
        pass
