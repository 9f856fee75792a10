"""Places where a store can be: a folder, a stand-in on loopback, and the real engines."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from volvox.buckets import Access
from volvox.store import Store
from volvox.store.lease import Leases, Times
from volvox.store.s3 import S3Store

ROOT = Path(__file__).parents[3]
QUICK = Times(renew=0.2, lost=1.0, lapse=2.0, settle=0.3)


@dataclass
class Place:
    """One place: `open` gives its store as another machine would see it.

    Attributes:
        address: The store's address.
        folder: Where the caches of this test lie.
        access: How it is reached; None for a folder.
    """

    address: str
    folder: Path
    access: Access | None = None
    children: list[subprocess.Popen[str]] = field(default_factory=list)

    def open(self, machine: str = "one") -> Store:
        return quick(Store.open(self.address, self.folder / machine, self.access))

    def run(self, code: str, machine: str = "child") -> subprocess.Popen[str]:
        """A process with `store` open; `say(...)` writes a line, `hear()` waits for one."""
        script = (
            "import sys, time\nfrom pathlib import Path\nfrom volvox.store import Store\n"
            "from tests.volvox.store.places import quick\n"
            "store = quick(Store.open(sys.argv[1], Path(sys.argv[2])))\n"
            "say, hear = lambda *words: print(*words, flush=True), sys.stdin.readline\n" + code
        )
        told = {}
        if self.access:
            told = {
                "AWS_ENDPOINT_URL": self.access.endpoint,
                "AWS_ACCESS_KEY_ID": self.access.access_key_id,
                "AWS_SECRET_ACCESS_KEY": self.access.secret_access_key,
            }
        child = subprocess.Popen(
            [sys.executable, "-c", script, self.address, str(self.folder / machine)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, **told},
        )  # fmt: skip
        self.children.append(child)
        return child

    def client(self):
        """boto3's client of it, which is not ours."""
        import boto3
        from botocore.config import Config

        assert self.access
        return boto3.client(
            "s3", endpoint_url=self.access.endpoint, region_name="us-east-1",
            aws_access_key_id=self.access.access_key_id, aws_secret_access_key=self.access.secret_access_key,
            config=Config(s3={"addressing_style": "path"}),
        )  # fmt: skip

    @property
    def bucket(self) -> str:
        return self.address.removeprefix("s3://").partition("/")[0]


def quick(store: Store) -> Store:
    """The same with leases that last seconds."""
    if isinstance(store, S3Store):
        store._leases = Leases(store.bucket, QUICK)
    return store


def engine(name: str) -> Access:
    """How the S3 server of the engines is reached; it is started if it does not run."""
    told = subprocess.run(
        [f"{os.environ['VOLVOX_ENGINES']}/up", name], capture_output=True, text=True, timeout=600, check=True
    ).stdout
    found = dict(re.findall(r"\b([A-Z0-9_]+)=(\S+)", told))
    if name == "ceph":
        key, _, secret = found["S3_ALICE"].partition(":")
        return Access(found["S3_ENDPOINT_URL"], "us-east-1", access_key_id=key, secret_access_key=secret)
    return Access(
        found["AWS_ENDPOINT_URL"], "us-east-1",
        access_key_id=found["AWS_ACCESS_KEY_ID"], secret_access_key=found["AWS_SECRET_ACCESS_KEY"],
    )  # fmt: skip
