"""What stands around a worker's exports: `build.py` makes the component of this module.

An export that raises `Err("text")` hands that to the caller, and the worker carries on. Any other exception is a fault: its
traceback is in the log, its text is the reason of the worker's end, and its supervisor restarts it.
"""

import functools
import inspect

import paguro_worker as worker
from componentize_py_types import Err
from wit_world.imports import control
from wit_world.imports.types import ExitReason_Failed


def guarded(function):
    @functools.wraps(function)
    def guard(*given):
        try:
            return function(*given)
        except Err:
            raise
        except BaseException as error:
            control.stop(ExitReason_Failed(f"{type(error).__name__}: {error}"))
            raise

    return guard


for name, exported in list(vars(worker).items()):
    if inspect.isclass(exported) and exported.__module__ == worker.__name__:
        for called, function in list(vars(exported).items()):
            if inspect.isfunction(function) and not called.startswith("_"):
                setattr(exported, called, guarded(function))
    if not name.startswith("__"):
        globals()[name] = exported
