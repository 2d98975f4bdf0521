"""What an adbd for glibc is made of: the files, the flags and the one change to the source."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

UPSTREAM_VERSION = "29.0.6"
SHIM = Path(__file__).resolve().parent / "shim"

_ADB = "system/core/adb"
_BORINGSSL = "external/boringssl"

_SOURCES = {
    _ADB: """adb.cpp adb_io.cpp adb_listeners.cpp adb_trace.cpp adb_utils.cpp fdevent/fdevent.cpp
        fdevent/fdevent_epoll.cpp services.cpp shell_service_protocol.cpp socket_spec.cpp sockets.cpp sysdeps/errno.cpp
        sysdeps/posix/network.cpp transport.cpp transport_local.cpp types.cpp adbconnection/adbconnection_server.cpp
        daemon/auth.cpp daemon/file_sync_service.cpp daemon/jdwp_service.cpp daemon/main.cpp daemon/services.cpp
        daemon/shell_service.cpp""",
    "system/core/base": """cmsg.cpp file.cpp liblog_symbols.cpp logging.cpp parsebool.cpp parsenetaddress.cpp
        stringprintf.cpp strings.cpp threads.cpp""",
    "system/core/libcutils": """socket_inaddr_any_server_unix.cpp socket_local_client_unix.cpp
        socket_local_server_unix.cpp sockets.cpp sockets_unix.cpp trace-host.cpp""",
    "system/core/liblog": "logger_write.cpp properties.cpp",
    "system/core": "diagnose_usb/diagnose_usb.cpp libcrypto_utils/android_pubkey.c",
    "frameworks/native/libs/adbd_auth": "adbd_auth.cpp",
    _BORINGSSL: """err_data.c src/crypto/engine/engine.c src/crypto/err/err.c src/crypto/ex_data.c
        src/crypto/fipsmodule/bcm.c src/crypto/mem.c src/crypto/rand_extra/forkunsafe.c src/crypto/refcount_lock.c
        src/crypto/stack/stack.c src/crypto/thread_pthread.c""",
}

_INCLUDES = (
    _ADB,
    f"{_ADB}/daemon/include",
    f"{_ADB}/adbconnection/include",
    "system/core/base/include",
    # Before system/core/include, which has shorter headers of the same names.
    "system/core/libcutils/include",
    "system/core/include",
    "system/core/diagnose_usb/include",
    "system/core/libcrypto_utils/include",
    "system/core/liblog/include",
    "frameworks/native/libs/adbd_auth/include",
    f"{_BORINGSSL}/src/include",
)

_COMMON_FLAGS = ("-O2", "-w", "-ffunction-sections", "-fdata-sections")
_ANDROID_FLAGS = ("-D_GNU_SOURCE", "-D_FILE_OFFSET_BITS=64", f"-I{SHIM}", *(f"-I{folder}" for folder in _INCLUDES))
_CXX_FLAGS = (
    "-std=gnu++2a",
    "-include",
    "prelude.h",
    "-DADB_HOST=0",
    f'-DADB_VERSION="{UPSTREAM_VERSION}"',
    f'-DPLATFORM_TOOLS_VERSION="{UPSTREAM_VERSION}"',
    "-DALLOW_ADBD_NO_AUTH=1",
    "-DALLOW_ADBD_ROOT=0",
    "-DFAKE_LOG_DEVICE=1",
    "-DLIBLOG_LOG_TAG=1006",
    "-DSNET_EVENT_LOG_TAG=1397638484",
)
_CRYPTO_FLAGS = ("-D_XOPEN_SOURCE=700", "-DOPENSSL_NO_ASM", f"-I{_BORINGSSL}/src/include")

# Static, so that it runs in any root: the phone's holds no library of this machine.
LINK_FLAGS = ("-static", "-Wl,--gc-sections", "-s", "-pthread", "-lresolv")

REBOOT_FILE = f"{_ADB}/daemon/services.cpp"
_REBOOT_ANCHOR = "unique_fd daemon_service_to_fd(std::string_view name, atransport* transport) {\n"
_REBOOT_BRANCH = """\
    if (android::base::ConsumePrefix(&name, "reboot:")) {
        return reboot_device(std::string(name));
    }
"""


@dataclass(frozen=True)
class Unit:
    """One file to compile: its path below the source tree (absolute for our own) and the compiler's arguments."""

    source: str
    compiler: str
    flags: tuple[str, ...]


def units() -> list[Unit]:
    """Return all that is to be compiled."""
    found = [_unit(folder, name) for folder, names in _SOURCES.items() for name in names.split()]
    return [*found, _unit(str(SHIM), "properties.cpp")]


def _unit(folder: str, name: str) -> Unit:
    flags = _COMMON_FLAGS + (_CRYPTO_FLAGS if folder == _BORINGSSL else _ANDROID_FLAGS)
    if name.endswith(".c"):
        return Unit(f"{folder}/{name}", "gcc", flags)
    return Unit(f"{folder}/{name}", "g++", flags + _CXX_FLAGS)


def patch_reboot(tree: Path) -> bool:
    """Let `adb reboot` run /system/bin/reboot, which AOSP does on Android only; return whether the place was found."""
    path = tree / REBOOT_FILE
    before, anchor, after = path.read_text().partition(_REBOOT_ANCHOR)
    if anchor:
        path.write_text(before + anchor + _REBOOT_BRANCH + after)
    return bool(anchor)


def digest() -> str:
    """Return 16 hexadecimal digits that change with this recipe."""
    whole = hashlib.sha256()
    for path in sorted([Path(__file__), *(file for file in SHIM.rglob("*") if file.is_file())]):
        whole.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return whole.hexdigest()[:16]
