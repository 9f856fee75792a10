"""Room on the disk of the cache."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from volvox.data.scratch import scratch_folder
from volvox.disks import require_space, telling_full_disks
from volvox.errors import InvalidInput, VolvoxError


def test_a_scratch_folder_is_gone_at_the_end_whatever_happened(tmp_path) -> None:
    with pytest.raises(ValueError, match="x"), scratch_folder(tmp_path) as folder:
        (folder / "file").touch()
        raise ValueError("x")
    assert not list(tmp_path.iterdir())


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_uses_is_not(tmp_path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from volvox.data.scratch import scratch_folder\n"
        "with scratch_folder(Path(sys.argv[1])) as folder:\n"
        "    (folder / 'file').touch(); print(folder, flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        theirs = Path(other.stdout.readline().strip())
        try:
            with scratch_folder(tmp_path):
                assert [path.name for path in theirs.iterdir()] == ["file"]
        finally:
            other.send_signal(signal.SIGKILL)
    assert theirs.exists()
    with scratch_folder(tmp_path):
        assert not theirs.exists()


def test_more_than_the_disk_has_is_refused_with_both_numbers(tmp_path) -> None:
    with pytest.raises(VolvoxError, match=r"fetching it takes 1,000,000,000,000,000,000 bytes, but the disk of"):
        require_space(tmp_path, 10**18, "fetching it")


@pytest.mark.parametrize(("number", "kind"), [(errno.ENOSPC, VolvoxError), (errno.EACCES, InvalidInput)])
def test_a_full_disk_and_a_lack_of_permission_are_sentences(tmp_path, number, kind) -> None:
    with pytest.raises(kind), telling_full_disks(tmp_path):
        raise OSError(number, os.strerror(number), str(tmp_path))
    with pytest.raises(OSError, match="Input/output"), telling_full_disks(tmp_path):
        raise OSError(errno.EIO, os.strerror(errno.EIO))
