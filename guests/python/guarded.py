"""What stands around a worker's exports: `build.py` makes the component of this module.

An export that raises `Err("text")` hands that to the caller, and the worker carries on. Any other exception that leaves an
export is a fault: its traceback is in the log, its text is the reason of the worker's end, and its supervisor restarts it.
"""

import functools
import inspect
import sys

import paguro_worker as worker
from componentize_py_types import Err
from wit_world.imports import control
from wit_world.imports.types import ExitReason_Failed

# The contract's interfaces that a worker exports, each a class.
EXPORTS = ("Lifecycle", "Handler", "Batch", "State", "Health")

# Exports that are being called: what one raises into another, its author may catch.
depth = 0

# Whether this instance was called before. What the build drew at random is the same in every instance.
awake = False


def wake():
    global awake
    awake = True
    if "random" in sys.modules:
        sys.modules["random"].seed()


def guarded(function):
    @functools.wraps(function)
    def guard(*given):
        global depth
        if not awake:
            wake()
        depth += 1
        try:
            return function(*given)
        except Err:
            raise
        except BaseException as error:
            if depth == 1:
                control.stop(ExitReason_Failed(f"{type(error).__name__}: {error}"))
            raise
        finally:
            depth -= 1

    return guard


for name, exported in list(vars(worker).items()):
    if name in EXPORTS and isinstance(exported, type):
        # Plain functions alone: what is static, or a class, is the author's own.
        found = {called: inspect.getattr_static(exported, called) for called in dir(exported) if not called.startswith("_")}
        functions = {called: guarded(function) for called, function in found.items() if inspect.isfunction(function)}
        exported = type(name, (exported,), functions)
    if not name.startswith("__"):
        globals()[name] = exported
