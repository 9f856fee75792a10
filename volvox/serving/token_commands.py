"""`volvox tokens`."""

from __future__ import annotations

from pathlib import Path

import click

_file = click.option(
    "--file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where the tokens' hashes are kept (default: VOLVOX_HOME/tokens).",
)


@click.group()
def tokens() -> None:
    """Bearer tokens that a server accepts: make, list and remove them."""


@tokens.command()
@click.argument("name")
@_file
def add(name: str, file: Path | None) -> None:
    """Make a token for NAME and print it, this once."""
    from volvox.serving.tokens import add

    click.echo(add(file or _default(), name))
    click.echo("Keep it: only its hash is stored. A server that uses the file accepts it within a second.", err=True)


@tokens.command("list")
@_file
def listing(file: Path | None) -> None:
    """Print the names that have a token."""
    from volvox.serving.tokens import read

    path = file or _default()
    for name in read(path) if path.exists() else ():
        click.echo(name)


@tokens.command()
@click.argument("name")
@_file
def remove(name: str, file: Path | None) -> None:
    """Accept the token of NAME no longer."""
    from volvox.serving.tokens import remove

    remove(file or _default(), name)


def _default() -> Path:
    from volvox.settings import Home

    return Home.current().root / "tokens"
