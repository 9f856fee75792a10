"""Which inbox a home has: a file in it, or PostgreSQL by address."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

from volvox.errors import InvalidInput
from volvox.inbox.inbox import Inbox
from volvox.settings import Home

VARIABLE = "VOLVOX_INBOX"


def open_inbox(home: Home, address: str = "") -> Inbox:
    """The inbox at `address`, else at the one that VOLVOX_INBOX names, else in the file `dispatch/inbox.db` of `home`.

    Args:
        home: Whose inbox.
        address: `postgresql://user@host:5432/database`, or the path of a file. The password may stand in the address,
            in PGPASSWORD or in a file that PGPASSFILE names; no message shows it.

    Raises:
        InvalidInput: If the address is of another kind, is refused, or is no inbox.
        Unavailable: If it does not answer.
    """
    address = address or os.environ.get(VARIABLE, "")
    scheme = urlsplit(address).scheme
    if scheme in ("postgres", "postgresql"):
        from volvox.inbox.postgres import Postgres

        return Inbox(Postgres(address))
    if scheme not in ("", "file", "sqlite"):
        raise InvalidInput(f"{VARIABLE} begins with {scheme}://; give postgresql://USER@HOST/DATABASE or a file's path")
    from volvox.inbox.sqlite import SQLite

    path = Path(urlsplit(address).path) if scheme else Path(address or home.root / "dispatch" / "inbox.db")
    return Inbox(SQLite(path.expanduser().absolute()))
