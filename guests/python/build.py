"""Usage: python build.py SOURCE.py OUTPUT.wasm [WORLD]

Makes a component of a worker in Python, with a guard around its exports (`guarded.py`). `componentize-py` must be
installed where this Python is: `pip install -r requirements.txt`.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main():
    if not 3 <= len(sys.argv) <= 4:
        sys.exit("usage: python build.py SOURCE.py OUTPUT.wasm [WORLD]")
    source, output = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    world = sys.argv[3] if len(sys.argv) == 4 else "lifecycle-worker"
    tool = Path(sys.executable).parent / "componentize-py"
    with tempfile.TemporaryDirectory() as build:
        shutil.copy(source, Path(build) / "paguro_worker.py")
        shutil.copy(HERE / "guarded.py", build)
        command = [tool if tool.exists() else "componentize-py", "--quiet", "-d", HERE.parent / "wit", "-w", world]
        # What the worker imports may lie beside it.
        command += ["componentize", "-p", build, "-p", source.parent, "guarded", "-o", output]
        # No bytecode beside the sources: it would end up in the component.
        done = subprocess.run(command, cwd=build, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})
    sys.exit(done.returncode)


main()
