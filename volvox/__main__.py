"""`python -m volvox` is the command line."""

from volvox.cli.main import main

if __name__ == "__main__":
    main()
