"""What only this machine can promise of files, and how transports are named."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from melt.errors import UsageError
from melt.transports.local import LocalTransport
from melt.transports.registry import open_transport

PUSH_TO_A_FULL_DISK = """
import os, sys
from pathlib import Path
from melt.errors import NoSpace
from melt.transports.local import LocalTransport
folder = Path(sys.argv[1])
try:
    LocalTransport().push(folder / "big", str(folder / "disk" / "big"))
except NoSpace as error:
    print(str(error).partition(";")[0])
print(os.listdir(folder / "disk"))
"""


class TestLocalFiles:
    """What only this machine can promise."""

    def test_pushing_a_file_onto_itself_leaves_it(self, tmp_path: Path) -> None:
        original = tmp_path / "model"
        original.write_bytes(b"weights")
        os.link(original, tmp_path / "hard")
        (tmp_path / "soft").symlink_to(original)
        for name in ("model", "hard", "soft"):
            LocalTransport().push(original, str(tmp_path / name))
        assert original.stat().st_nlink == 2
        assert (tmp_path / "soft").is_symlink()

    def test_another_name_of_the_old_file_is_not_written_through(self, tmp_path: Path) -> None:
        (tmp_path / "new").write_bytes(b"new")
        (tmp_path / "kept").write_bytes(b"old")
        os.link(tmp_path / "kept", tmp_path / "target")
        LocalTransport().push(tmp_path / "new", str(tmp_path / "target"))
        assert (tmp_path / "kept").read_bytes() == b"old"

    def test_a_full_disk_is_said_and_leaves_nothing(self, tmp_path: Path) -> None:
        disk = tmp_path / "disk"
        disk.mkdir()
        (tmp_path / "big").write_bytes(bytes(200_000))
        alone = ["unshare", "--user", "--map-root-user", "--mount"]
        if LocalTransport().run([*alone, "true"]).exit_code != 0:
            pytest.skip("a full disk needs user namespaces, which this system does not allow")
        mount = f"mount -t tmpfs -o size=64k none {disk} && exec {sys.executable} -c '{PUSH_TO_A_FULL_DISK}' {tmp_path}"
        done = LocalTransport().run([*alone, "sh", "-c", mount])
        assert done.stdout.decode() == f"no room for {disk}/big: No space left on device\n[]\n", done.stderr


class TestRegistry:
    def test_local(self) -> None:
        assert open_transport("local").name == "local"

    @pytest.mark.parametrize("selector", ["locla", "Local", "local:x", "", "telnet:host"])
    def test_what_is_unknown_is_refused_with_a_way_on(self, selector: str) -> None:
        with pytest.raises(UsageError, match="local"):
            open_transport(selector)
