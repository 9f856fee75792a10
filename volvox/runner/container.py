"""The entry point of a script's image in a cloud: `python3 container.py`, in Lambda, in a job or in a task.

Beside this file lies `function.json`: `{"script": TEXT, "command": [WORD]}`. The image needs a Python from 3.8 on and
nothing of ours: this file makes `volvox.runner` importable from the folder that it lies in.
"""

import os
import sys


def main(folder, words=()):  # noqa: ANN001, ANN201 - as volvox.worker.bootstrap
    """Answer what there is to answer; an exit code. `imported`, said where the image is built, writes bytecode only."""
    import json

    from volvox.runner import direct, lambda_api, once, queued
    from volvox.runner.calls import Calls
    from volvox.runner.script_calls import Script
    from volvox.runner.signing import KeyRing

    if "imported" in words:
        return 0
    with open(os.path.join(folder, "function.json")) as stream:  # noqa: PTH118, PTH123
        told = json.load(stream)
    ring = KeyRing()
    calls = Calls(Script(told["script"], tuple(told["command"])), ring)

    def handled(event, seconds):  # noqa: ANN001, ANN202
        return direct.handle(calls, ring, event, seconds) if direct.is_direct(event) else calls.handle(event, seconds)

    if os.environ.get(lambda_api.HOST):
        return lambda_api.serve(lambda: None, handled)
    if os.environ.get(queued.QUEUE):
        return queued.serve(lambda: None, calls.handle)
    if os.environ.get(once.EVENT):
        return once.answer(lambda: None, calls.handle)
    said = "AWS Lambda starts it, VOLVOX_EVENT names one, or VOLVOX_QUEUE is where they are"
    sys.stderr.write(f"this image answers events: {said}\n")
    return 2


if __name__ == "__main__":
    here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120
    if not getattr(sys.flags, "safe_path", False):
        del sys.path[0]
    if "imported" in sys.argv and os.environ.pop("PYTHONDONTWRITEBYTECODE", ""):  # which the image says of its own
        os.execv(sys.executable, [sys.executable, *sys.argv])  # noqa: S606 - this very program
    import importlib.util
    from importlib.machinery import ModuleSpec

    for name, place in (("volvox", None), ("volvox.runner", here)):
        spec = ModuleSpec(name, None, is_package=True)
        if place:
            spec.submodule_search_locations = [place]
        sys.modules[name] = importlib.util.module_from_spec(spec)
    sys.exit(main(here, sys.argv[1:]))
