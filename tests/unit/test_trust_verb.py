"""What is shown of a host's key, and what counts as a fingerprint."""

from __future__ import annotations

import pytest

from melt.cli._trust import _fingerprint, _shown
from melt.errors import UsageError
from melt.transports.ssh_trust import OfferedKey

PRINT = "SHA256:omYbtpVRb0UEr8UM7IAR18qKIaoM45wjdOnGb4aFKAM"


def offered(algorithm: str = "ssh-ed25519", *before: str) -> OfferedKey:
    return OfferedKey(
        destination="orin",
        host="192.168.1.23",
        port=22,
        algorithm=algorithm,
        fingerprint=PRINT,
        known=False,
        changed=bool(before),
        key="AAAA",
        known_as="192.168.1.23",
        stands_at=tuple(f"known_hosts:{n}" for n, _ in enumerate(before, 1)),
        before=before,
    )


@pytest.mark.parametrize(
    ("algorithm", "name", "file"),
    [
        ("ssh-ed25519", "ED25519", "ssh_host_ed25519_key.pub"),
        ("ssh-rsa", "RSA", "ssh_host_rsa_key.pub"),
        ("ecdsa-sha2-nistp256", "ECDSA", "ssh_host_ecdsa_key.pub"),
    ],
)
def test_a_key_is_shown_as_ssh_keygen_names_it(algorithm: str, name: str, file: str) -> None:
    lines = _shown(offered(algorithm)).splitlines()
    assert lines[:3] == [
        "host          orin",
        "address       192.168.1.23 port 22",
        f"key           {PRINT} ({name})",
    ]
    assert lines[-1].endswith(f"ssh-keygen -lf /etc/ssh/{file}")


def test_another_key_stands_beside_those_before() -> None:
    shown = _shown(offered("ssh-ed25519", "SHA256:old", "SHA256:older"))
    assert "before        SHA256:old (known_hosts:1)\nbefore        SHA256:older (known_hosts:2)\n" in shown
    assert "ANOTHER ONE" in shown
    assert "ANOTHER ONE" not in _shown(offered())


def test_a_fingerprint_may_keep_its_padding() -> None:
    assert _fingerprint(PRINT + "=") == PRINT
    assert _fingerprint(None) is None


@pytest.mark.parametrize("text", ["", "SHA256:", "MD5:16:27:ac", PRINT.removeprefix("SHA256:")])
def test_what_is_no_fingerprint_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected SHA256: and what"):
        _fingerprint(text)
