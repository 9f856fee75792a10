"""Run what a request says: `python __main__.py REQUEST`, a file with a `volvox.runner.work.Work` as JSON.

What became of it is written to the file `result` of the work (by a rename) as a `volvox.runner.running.Ended`. SIGTERM
cancels it; it ends with the process that started it, however that ends. Run by its path it needs no volvox installed.
"""

import os
import signal
import sys

ROOM = 8192  # bytes, of a result without what was printed


def prepare(folder):  # noqa: ANN001, ANN201 - as volvox.worker.bootstrap
    """Make `volvox.runner` importable from `folder`; a `volvox` that is there stays what it is."""
    import importlib.util
    from importlib.machinery import ModuleSpec

    for name, place in (("volvox", None), ("volvox.runner", folder)):
        if name in sys.modules:
            continue
        spec = ModuleSpec(name, None, is_package=True)
        if place:
            spec.submodule_search_locations = [place]
        sys.modules[name] = importlib.util.module_from_spec(spec)


def main(path):  # noqa: ANN001, ANN201
    """Run the request at `path`; 0 if it was run, whatever became of it."""
    from pathlib import Path

    from volvox.runner.running import Ended, Stopped, run
    from volvox.runner.work import Work

    work = Work.from_json(Path(path).read_text())
    target = Path(work.result)
    part = target.with_name(target.name + ".part")
    try:
        part.write_bytes(b" " * ROOM)  # so that the disk has room for it however full the script makes it
        ended = run(work)
    except Stopped:
        ended = Ended("cancelled", "it was cancelled")
    except OSError as error:
        ended = Ended("transient", f"what it needs cannot be written: {error.strerror}")  # before it was started
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        _write(part, ended.as_json())
    except OSError:  # what it printed does not fit
        ended.printed = ""
        _write(part, ended.as_json())
    part.replace(target)
    return 0


def _write(path, text):  # noqa: ANN001, ANN202
    with open(path, "r+b" if path.exists() else "wb") as stream:  # noqa: PTH123
        stream.write(text.encode())
        stream.truncate()


def _end_with(parent):  # noqa: ANN001, ANN202
    import ctypes

    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit(1)


if __name__ == "__main__":
    if not getattr(sys.flags, "safe_path", False):
        del sys.path[0]
    prepare(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120
    if len(sys.argv) > 2:
        _end_with(int(sys.argv[2]))
    sys.exit(main(sys.argv[1]))
