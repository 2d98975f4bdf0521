"""A virtual Mac for a test: started with the block, ended with it."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from melt.targets.probe import load_snapshot

from ..phone.requirements import environment_for_children
from ..sshd import Sshd
from .requirements import require
from .rootfs import PATH, USER

_SNAPSHOTS = Path(__file__).resolve().parents[2] / "data" / "snapshots" / "macos"
_RECORDED = {
    "$ sysctl": "sysctl",
    "$ sw_vers": "sw_vers",
    "$ vm_stat": "vm_stat",
    "$ pmset": "pmset",
    "$ ioreg platform": "ioreg-IOPlatformExpertDevice",
    "$ ioreg product": "ioreg-product",
    "$ ioreg gpu": "ioreg-AGXAccelerator",
    "$ ioreg battery": "ioreg-AppleSmartBattery",
}
"""What a snapshot of a Mac calls an output -> the file in which a stand-in finds it."""
PRESSURE = "com.apple.system.thermalpressurelevel"


class VirtualMac:
    """A Mac that is reached as `ssh:mac`. Its user may not use sudo unless `sudo` names programs.

    `recording` is the snapshot in tests/data/snapshots/macos whose outputs its programs print. `without` names
    stand-ins that are not installed (`macmon`, `zeus_apple_silicon`, `notifyutil`); `zshenv` is what the user's
    ~/.zshenv says, which zsh reads for every command over SSH. Raises Unavailable.
    """

    def __init__(
        self,
        recording: str = "mac-mini-m4",
        *,
        provisioned: bool = True,
        without: Iterable[str] = (),
        sudo: Iterable[str] = (),
        zshenv: str = "",
        home_mb: int = 256,
    ) -> None:
        require()
        self._wanted = {
            "provisioned": provisioned,
            "without": list(without),
            "zshenv": zshenv,
            "home_mb": home_mb,
        }
        self._sudo = list(sudo)
        self.recording = _SNAPSHOTS / f"{recording}.json"
        self.folder = Path(tempfile.mkdtemp(prefix="melt-mac-"))
        environment = environment_for_children()
        enter = ("/usr/bin/env", *(f"{name}={environment[name]}" for name in ("PYTHONPATH", "PYTHONWARNINGS")))
        self.sshd = Sshd(
            self.folder / "ssh",
            user=USER,
            enter=(*enter, sys.executable, "-m", f"{__package__}.enter", str(self.folder)),
            alias="mac",
            options=(f"SetEnv PATH={PATH}",),
        )

    @property
    def environment(self) -> dict[str, str]:
        """What melt is to be run with."""
        return self.sshd.environment

    def press(self, level: int) -> None:
        """Set the thermal pressure: 0 nominal, 1 moderate, 2 heavy, 3 trapping, 4 sleeping."""
        self.control(PRESSURE, str(level))

    def control(self, name: str, text: str) -> None:
        """Tell the stand-ins something, in a file that appears whole."""
        part = self.folder / "control" / f".{name}"
        part.write_text(text)
        part.replace(part.with_name(name))

    def __enter__(self) -> Self:
        # The user of the Mac is none of this machine, and must get through to what is shared.
        self.folder.chmod(0o755)
        (self.folder / "control").mkdir()
        (self.folder / "recorded").mkdir()
        for said, name in _RECORDED.items():
            text = load_snapshot(self.recording.read_bytes()).get(said, b"")
            (self.folder / "recorded" / f"{name}.txt").write_bytes(text)
        (self.folder / "mac.json").write_text(json.dumps(self._wanted))
        self.control("sudo", "\n".join(self._sudo))
        try:
            self.sshd.start()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.sshd.__exit__(kind, error, trace)
        finally:
            self._remove()

    def _remove(self) -> None:
        self.sshd.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
