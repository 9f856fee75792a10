"""Start the worker side in any interpreter, run by path: `python bootstrap.py loop|call|zygote|probe ...`.

Another interpreter has no volvox and need not have one: this file makes `volvox.worker` importable there from the
folder it lies in, and puts nothing of ours on `sys.path`, where it would stand before what the module brings.

`probe` prints one line of JSON: `{"python": [3, 8, 18], "modules": {ENTRY POINT: VALUE}}`. To be able to say that an
interpreter is too old this file is readable for one, and imports what needs a newer one only behind that question.
"""

import os
import sys

OLDEST = (3, 8)


def prepare(folder):  # noqa: ANN001, ANN201 - an old interpreter reads this file too
    """Make `volvox.worker` importable from `folder`; a `volvox` that the interpreter has itself stays what it is."""
    import importlib.util
    from importlib.machinery import ModuleSpec

    try:
        import volvox
    except ImportError:
        volvox = importlib.util.module_from_spec(ModuleSpec("volvox", None, is_package=True))
        sys.modules["volvox"] = volvox
    spec = ModuleSpec("volvox.worker", None, is_package=True)
    spec.submodule_search_locations = [folder]
    worker = importlib.util.module_from_spec(spec)
    sys.modules["volvox.worker"] = worker
    vars(volvox)["worker"] = worker


def main():  # noqa: ANN201 - as above
    """Do what the command line says; its exit code."""
    # Python put this file's own folder first on the path: a module's `import control` would find ours.
    if not getattr(sys.flags, "safe_path", False):
        del sys.path[0]
    name, arguments = sys.argv[1], sys.argv[2:]
    if sys.version_info[:2] < OLDEST:
        sys.stdout.write('{"python": [%d, %d, %d]}\n' % tuple(sys.version_info[:3]))  # noqa: UP031 - as above
        return 0
    prepare(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120 - as above
    if name == "probe":
        import json

        from volvox.worker import finding

        told = {"python": list(sys.version_info[:3]), "modules": finding.installed()}
        sys.stdout.write(json.dumps(told) + "\n")
        return 0
    if name == "call":
        from volvox.worker.__main__ import main as call

        return call(arguments[0])
    if name == "zygote":
        from volvox.worker.zygote import main as zygote

        return zygote(arguments)
    from volvox.worker.loop import main as loop

    return loop(arguments)


if __name__ == "__main__":
    sys.exit(main())
