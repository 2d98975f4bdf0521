"""Files of input tensors (.npz) that a plan names: each is looked at before anything is measured with it."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING

from melt.errors import UsageError

if TYPE_CHECKING:
    from melt.records import Inputs


def inputs_beside(folder: Path) -> Callable[[str], Inputs]:
    """Return what finds a file of inputs by its path as a plan in `folder` has it."""
    return lambda path: find_inputs(folder / path)


def find_inputs(path: Path) -> Inputs:
    """Look at a file of input tensors and hash it. Raises UsageError where it is none."""
    from melt.models.digest import sha256_of
    from melt.records import Inputs

    try:
        path = path.expanduser().absolute()
        with zipfile.ZipFile(path) as archive:
            arrays = archive.namelist()
            for name in arrays:
                with archive.open(name) as member:
                    _check_header(member)
        size_bytes = path.stat().st_size
    except OSError as error:
        raise UsageError(f"cannot read the inputs {path}: {error.strerror or error}") from error
    except (ValueError, RuntimeError, NotImplementedError, EOFError, zipfile.BadZipFile) as error:
        raise UsageError(
            f"{path} holds no input tensors: {error}; numpy.savez('{path.name}', NAME=array, ...) writes such a file"
        ) from error
    if not arrays:
        raise UsageError(f"{path} is empty: numpy.savez writes input tensors by their names")
    return Inputs(name=path.name, sha256=sha256_of(path), size_bytes=size_bytes, path=str(path))


def _check_header(member: IO[bytes]) -> None:
    """Read the head of one array. Raises ValueError where there is none, or where it holds Python objects."""
    from numpy.lib import format as npy

    version = npy.read_magic(member)
    read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f"an array is in version {version[0]}.{version[1]} of the format, 1.0 and 2.0 are read")
    _, _, dtype = read(member)
    if dtype.hasobject:
        raise ValueError("an array is of Python objects")
