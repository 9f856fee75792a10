"""The program `volvox`, which is also `python -m volvox`."""

import os
import sys

_EVENTS = ("AWS_LAMBDA_RUNTIME_API", "VOLVOX_EVENT", "VOLVOX_QUEUE")  # where they are, nobody asks over HTTP


def main() -> None:
    """The command line; in a serving image that is asked by events, those are answered without it."""
    if sys.argv[1:2] == ["serve"] and any(name in os.environ for name in _EVENTS):
        from volvox.serving import events  # an event waits for all that is imported here

        events.main(sys.argv[2:])
    from volvox.cli.main import main as command_line

    command_line()


if __name__ == "__main__":
    main()
