"""Running statistics of the numbers cast to it: one pass, constant memory (Welford's method).

Cast a number, or a list of them. Call `get` -> {"n","mean","min","max","stddev"}, `clear` -> the same,
and the state is empty then. stddev is that of the population.
"""

import json
import math

from componentize_py_types import Err
from wit_world import exports
from wit_world.imports.types import Snapshot

SCHEMA = 1
EMPTY = {"n": 0, "mean": 0.0, "m2": 0.0, "min": None, "max": None}

state = dict(EMPTY)


def read(body: bytes):
    """JSON, or else a bare word."""
    try:
        return json.loads(body)
    except ValueError:
        return body.decode("utf-8", "replace").strip()


def add(x) -> None:
    if isinstance(x, bool) or not isinstance(x, (int, float)) or not math.isfinite(x):
        raise Err(f"not a number: {json.dumps(x)}")
    state["n"] += 1
    delta = x - state["mean"]
    state["mean"] += delta / state["n"]
    state["m2"] += delta * (x - state["mean"])
    state["min"] = x if state["min"] is None else min(state["min"], x)
    state["max"] = x if state["max"] is None else max(state["max"], x)


def summary() -> dict:
    n = state["n"]
    shown = {key: state[key] for key in ("n", "mean", "min", "max")}
    return shown | {"stddev": math.sqrt(state["m2"] / n) if n else 0.0}


class Handler(exports.Handler):
    def handle_call(self, call: int, request: bytes):
        name = read(request)
        if name not in ("get", "clear"):
            raise Err(f"neither get nor clear: {json.dumps(name)}")
        answer = summary()
        if name == "clear":
            state.update(EMPTY)
        return json.dumps(answer).encode()

    def handle_cast(self, message: bytes) -> None:
        numbers = read(message)
        for number in numbers if isinstance(numbers, list) else [numbers]:
            add(number)

    def handle_info(self, info) -> None:
        pass


class State(exports.State):
    def save_state(self) -> Snapshot:
        return Snapshot(SCHEMA, "application/json", json.dumps(state).encode())

    def restore_state(self, snapshot: Snapshot) -> None:
        state.update(json.loads(snapshot.data))

    def upgrade_state(self, old: Snapshot) -> Snapshot:
        if old.schema != SCHEMA:
            raise Err(f"schema {old.schema} is not known, only {SCHEMA}")
        return old
