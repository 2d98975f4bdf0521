"""Get a source package with apt's own tools, leaving the machine's configuration and package lists alone."""

from __future__ import annotations

import platform
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from .failure import BuildError, Unavailable, logged

_CONFIGURED = Path("/etc/apt")
_PACKAGE = "android-platform-tools"


def source_entries(etc: Path = _CONFIGURED, codename: str | None = None) -> str:
    """Return the machine's own entries for its release, as deb822 stanzas that ask for sources.

    Other vendors' entries are left out: their hosts need not be reachable. Raises Unavailable when none is left.
    """
    release = codename or platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    stanzas = [*_deb822_stanzas(etc), *_one_line_stanzas(etc)]
    chosen = [
        "".join(f"{key}: {value}\n" for key, value in {**stanza, "Types": "deb-src"}.items())
        for stanza in stanzas
        if _is_of_release(stanza, release)
    ]
    if not chosen:
        raise Unavailable(f"{etc} names no archive for the release {release or 'of this machine'!r}")
    return "\n".join(chosen)


def _is_of_release(stanza: dict[str, str], release: str) -> bool:
    suites = stanza.get("Suites", "").split()
    wanted = bool(release) and any(suite.split("-")[0].split("/")[0] == release for suite in suites)
    return wanted and "main" in stanza.get("Components", "").split() and stanza.get("Enabled", "yes") != "no"


def _deb822_stanzas(etc: Path) -> Iterator[dict[str, str]]:
    for path in sorted(etc.glob("sources.list.d/*.sources")):
        lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
        for block in re.split(r"\n\s*\n", "\n".join(lines)):
            # A field goes on in lines that begin with a blank (a key given in the file itself).
            fields = re.findall(r"^([\w-]+):[ \t]*(.*(?:\n[ \t].*)*)", block, re.MULTILINE)
            if fields:
                yield dict(fields)


def _one_line_stanzas(etc: Path) -> Iterator[dict[str, str]]:
    for path in (etc / "sources.list", *sorted(etc.glob("sources.list.d/*.list"))):
        text = path.read_text() if path.is_file() else ""
        for options, uri, suite, components in re.findall(
            r"^deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)[ \t]+([^#\n]*)", text, re.MULTILINE
        ):
            fields = {"URIs": uri, "Suites": suite, "Components": components.strip()}
            signed_by = re.search(r"signed-by=(\S+)", options)
            yield {**fields, "Signed-By": signed_by[1]} if signed_by else fields


def fetch_source(folder: Path, log: Path, upstream_version: str) -> Path:
    """Download the package of `upstream_version` into `folder`, unpack it with Debian's patches, return the tree.

    Raises Unavailable when the archive has another version, BuildError when a step fails.
    """
    parts = folder / "etc"
    for needed in (parts, folder / "lists/partial", folder / "cache/archives/partial"):
        needed.mkdir(parents=True)
    (parts / "sources.sources").write_text(source_entries())
    options = {
        "Dir::Etc::SourceList": "/dev/null",
        "Dir::Etc::SourceParts": parts,
        "Dir::State::Lists": folder / "lists",
        "Dir::Cache": folder / "cache",
        # These folders are private: apt's own user could not enter them.
        "APT::Sandbox::User": "root",
        "Acquire::Retries": 3,
        "Acquire::Languages": "none",
    }
    apt = [f"-o{key}={value}" for key, value in options.items()]
    logged("reading the archive's list of sources", ["apt-get", *apt, "--error-on=any", "update"], log, folder)
    shown = subprocess.run(
        ["apt-cache", *apt, "showsrc", "--only-source", _PACKAGE], capture_output=True, text=True, check=False
    ).stdout
    offered = re.findall(r"^Version: (?:\d+:)?(.*?)(?:-[^-]*)?$", shown, re.MULTILINE)
    versions = dict.fromkeys(re.findall(r"^Version: (.*)$", shown, re.MULTILINE))
    if upstream_version not in offered:
        raise Unavailable(
            f"this machine's archive has {_PACKAGE} {', '.join(versions) or 'not at all'}, "
            f"and the recipe is for {upstream_version}, which Debian 12 (bookworm) has"
        )
    exact = next(version for version in versions if upstream_version in version)
    fetch = ["apt-get", *apt, "source", "--only-source", f"{_PACKAGE}={exact}"]
    logged(f"getting the source of {_PACKAGE} {exact}", fetch, log, folder)
    trees = [path for path in folder.glob(f"{_PACKAGE}-*") if path.is_dir()]
    if len(trees) != 1:
        raise BuildError(f"apt-get source left {len(trees)} folders instead of one; its log is {log}")
    return trees[0]
