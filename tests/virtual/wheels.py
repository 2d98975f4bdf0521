"""Wheels for a device of the tests, so that its real pip works without a network and without a compiler."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from .phone.requirements import Unavailable


def repack(name: str, folder: Path) -> Path:
    """Make a wheel again of a package that is installed here. Raises Unavailable where it is not."""
    try:
        package = distribution(name)
    except PackageNotFoundError as error:
        raise Unavailable(f"{name} is not installed here") from error
    installed = [file for file in package.files or () if ".." not in file.parts and file.suffix != ".pyc"]
    info = next(file.parts[0] for file in installed if file.name == "WHEEL")
    tags = [line.split()[1] for line in (package.read_text("WHEEL") or "").splitlines() if line.startswith("Tag:")]
    own = {f"{info}/{extra}" for extra in ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json")}
    files = {str(file): Path(str(file.locate())).read_bytes() for file in installed if str(file) not in own}
    return _write(folder / f"{info.removesuffix('.dist-info')}-{_joined(tags)}.whl", info, files)


def make(name: str, version: str, files: Mapping[str, str], folder: Path) -> Path:
    """Make a wheel of a package that plays another one."""
    info = f"{name}-{version}.dist-info"
    described = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: melt\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    encoded = {path: text.encode() for path, text in (described | dict(files)).items()}
    return _write(folder / f"{name}-{version}-py3-none-any.whl", info, encoded)


def _joined(tags: list[str]) -> str:
    """Write a wheel's tags as its name has them: `cp311-cp311-manylinux_2_27_x86_64.manylinux_2_28_x86_64`."""
    parts = zip(*(tag.split("-") for tag in tags), strict=True)
    return "-".join(".".join(dict.fromkeys(part)) for part in parts)


def _write(wheel: Path, info: str, files: Mapping[str, bytes]) -> Path:
    wheel.parent.mkdir(parents=True, exist_ok=True)
    # Not compressed: it is read once, on this very machine.
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, data in files.items():
            archive.writestr(path, data)
        archive.writestr(f"{info}/RECORD", "".join(f"{path},,\n" for path in (*files, f"{info}/RECORD")))
    return wheel
