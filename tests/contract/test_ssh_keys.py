"""Whose key is whose: what hosts show, what melt was told to trust, and what hosts let in."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from virtual.phone.testing import eventually
from virtual.ssh_testing import serving
from virtual.sshd import Sshd

from melt.errors import DeviceError, HostKeyError, Unauthorized
from melt.transports.ssh import SshTransport
from melt.transports.ssh_trust import forget, offered, trust, trusted

pytestmark = pytest.mark.slow


@pytest.fixture
def server() -> Iterator[Sshd]:
    with serving() as started:
        yield started


def works(destination: str) -> bool:
    link = SshTransport(destination)
    try:
        return link.run(["true"]).exit_code == 0
    finally:
        link.close()


def keygen(*words: str | Path) -> str:
    return subprocess.run(("ssh-keygen", *words), check=True, capture_output=True, text=True).stdout


def fingerprint(public: Path) -> str:
    return keygen("-l", "-f", public).split()[1]


@contextmanager
def agent(server: Sshd, *keys: Path) -> Iterator[None]:
    """Run a real agent that holds keys, and let the configuration name it."""
    path = server.config.with_name("agent")
    with subprocess.Popen(("ssh-agent", "-D", "-a", path), stdout=subprocess.DEVNULL) as process:
        eventually(path.exists)
        for key in keys:
            subprocess.run(("ssh-add", "-q", key), check=True, env={"SSH_AUTH_SOCK": str(path)}, capture_output=True)
        config = server.config.read_text()
        server.config.write_text(config.replace("IdentityAgent none", f"IdentityAgent {path}"))
        yield
        server.config.write_text(config)
        process.terminate()


class TestHostKeys:
    def test_an_unknown_host_is_not_entered_until_it_is_trusted(self, server: Sshd) -> None:
        server.known_hosts.unlink()
        seen = fingerprint(server.host_key)
        with pytest.raises(HostKeyError, match=re.escape(seen) + ".*`melt devices trust board`") as caught:
            works("board")
        assert not caught.value.retryable
        assert "Accepted" not in server.log.read_text()
        key = offered("board")
        assert (key.destination, key.host, key.port) == ("board", "127.0.0.1", server.port)
        assert (key.algorithm, key.fingerprint) == ("ssh-ed25519", seen)
        assert (key.known, key.changed, key.revoked) == (False, False, False)
        trust(key)
        assert trusted() == ["board"]
        assert offered("board").known
        assert works("board")
        assert forget("board")
        assert not forget("board")
        assert trusted() == []
        with pytest.raises(HostKeyError):
            works("board")

    def test_a_changed_key_is_told_with_the_place_of_the_old_one(self, server: Sshd) -> None:
        assert works("board")
        server.new_host_key()
        seen = fingerprint(server.host_key)
        place = f"{server.known_hosts}:1"
        with pytest.raises(HostKeyError, match=re.escape(seen) + f".*the old one stands in {re.escape(place)}: "):
            works("board")
        key = offered("board")
        assert (key.known, key.changed, key.stands_at) == (False, True, (place,))
        trust(key)
        assert works("board")
        server.new_host_key()
        trust(offered("board"))
        assert trusted() == ["board"]
        assert works("board")

    def test_a_revoked_key_is_refused_even_if_it_is_known(self, server: Sshd) -> None:
        line = server.known_hosts.read_text()
        server.known_hosts.write_text(f"{line}@revoked * {line.partition(' ')[2]}")
        with pytest.raises(HostKeyError, match=r"known_hosts:2 revokes"):
            works("board")
        assert offered("board").revoked
        assert not offered("board").known

    def test_a_key_that_the_configuration_revokes_is_refused(self, server: Sshd) -> None:
        revoked = server.config.with_name("revoked")
        revoked.write_text(server.host_key.read_text())
        server.config.write_text(server.config.read_text() + f"    RevokedHostKeys {revoked}\n")
        with pytest.raises(HostKeyError, match=r"revoked:1 revokes"):
            works("board")
        assert offered("board").revoked
        revoked.write_text("")
        assert works("board")

    def test_the_key_of_another_port_is_no_key_of_before(self, server: Sshd) -> None:
        keygen("-q", "-t", "ed25519", "-N", "", "-f", server.config.with_name("router"))
        server.known_hosts.write_text(f"127.0.0.1 {server.config.with_name('router.pub').read_text()}")
        with pytest.raises(HostKeyError, match="is not known here") as caught:
            works("board")
        assert not caught.value.changed
        assert not offered("board").changed

    def test_hashed_names_patterns_and_aliases_count(self, server: Sshd) -> None:
        kind, key = server.host_key.read_text().split()[:2]
        server.known_hosts.write_text(f"# note\n\n[127.0.0.1]:{server.port} {kind} {key}\n")
        keygen("-H", "-f", server.known_hosts)
        assert "127.0.0.1" not in server.known_hosts.read_text()
        assert works("board")
        for names in ("127.0.0.*", f"[127.0.0.*]:{server.port}", "127.0.0.1"):
            server.known_hosts.write_text(f"nonsense\nx y *\n{names} {kind} {key}\n")
            assert works("board")
        server.known_hosts.write_text(f"*,!127.0.0.1,!* {kind} {key}\n")
        with pytest.raises(HostKeyError):
            works("board")
        server.known_hosts.write_text(f"orin-7 {kind} {key}\n")
        server.config.write_text(server.config.read_text() + "    HostKeyAlias orin-7\n")
        assert works("board")

    def test_of_several_keys_the_host_shows_the_known_one(self, tmp_path: Path) -> None:
        keygen("-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", tmp_path / "rsa")
        with serving(options=[f"HostKey {tmp_path}/rsa"]) as server:
            assert offered("board").algorithm == "ssh-ed25519"
            server.known_hosts.write_text(f"[127.0.0.1]:{server.port} {(tmp_path / 'rsa.pub').read_text()}")
            assert works("board")
            assert offered("board").algorithm == "ssh-rsa"

    def test_files_that_cannot_be_read_are_not_taken_for_empty(self, server: Sshd) -> None:
        server.known_hosts.unlink()
        server.known_hosts.mkdir()
        with pytest.raises(DeviceError, match=r"cannot read .*known_hosts"):
            works("board")


class TestLogin:
    def test_no_key_at_all(self, server: Sshd) -> None:
        server.identity.unlink()
        server.identity.with_suffix(".pub").unlink()
        with pytest.raises(Unauthorized, match=r"no key to log in with: make one .*`ssh-copy-id board`"):
            works("board")

    def test_keys_that_are_not_accepted_are_named(self, server: Sshd) -> None:
        server.identity.unlink()
        keygen("-q", "-t", "ecdsa", "-N", "", "-f", server.identity)
        with pytest.raises(Unauthorized, match=f"{server.user} in with none of the keys {server.identity}; .*copy-id"):
            works("board")

    def test_an_encrypted_key_needs_an_agent(self, server: Sshd) -> None:
        keygen("-q", "-p", "-N", "secret", "-f", server.identity)
        with pytest.raises(Unauthorized, match=f"{server.identity} is encrypted and in no agent: run `ssh-add"):
            works("board")

    @pytest.mark.parametrize("kind", ["ed25519", "rsa", "ecdsa"])
    def test_an_agent_has_the_key(self, kind: str) -> None:
        with serving() as server:
            for file in (server.identity, server.identity.with_suffix(".pub")):
                file.unlink()
            keygen("-q", "-t", kind, "-N", "", "-C", "my laptop", "-f", server.identity)
            server.stop()
            server.start()
            with agent(server, server.identity):
                # Only the public half stays, as of a key that was never in a file here.
                server.identity.unlink()
                assert works("board")

    def test_a_foreign_agent_key_is_not_offered_where_only_identities_count(self, server: Sshd, tmp_path: Path) -> None:
        keygen("-q", "-t", "ed25519", "-N", "", "-C", "another", "-f", tmp_path / "another")
        with agent(server, tmp_path / "another"):
            assert works("board")
            server.identity.unlink()
            with pytest.raises(Unauthorized, match="no key to log in with"):
                works("board")
            server.config.write_text(server.config.read_text().replace("IdentitiesOnly yes", "IdentitiesOnly no"))
            with pytest.raises(Unauthorized, match=r"none of the keys another \(agent\)"):
                works("board")

    def test_what_is_no_key_is_said(self, server: Sshd) -> None:
        server.identity.write_text("not a key\n")
        with pytest.raises(Unauthorized, match="identity is no private key that melt can use"):
            works("board")

    def test_a_host_that_takes_passwords_only(self) -> None:
        options = ["PubkeyAuthentication no", "PasswordAuthentication yes", "PermitRootLogin yes"]
        with serving(options=options), pytest.raises(Unauthorized, match="takes no keys, only password"):
            works("board")

    def test_a_host_that_wants_more_than_a_key(self) -> None:
        more = ["PermitRootLogin yes", "PasswordAuthentication yes", "AuthenticationMethods publickey,password"]
        with serving(options=more), pytest.raises(Unauthorized, match="takes the key and then wants password too"):
            works("board")

    def test_a_host_that_has_enough_of_keys(self, server: Sshd) -> None:
        keys = [server.config.with_name(f"key{number}") for number in range(8)]
        for key in keys:
            keygen("-q", "-t", "ed25519", "-N", "", "-f", key)
        lines = "".join(f"    IdentityFile {key}\n" for key in keys)
        server.config.write_text(server.config.read_text().replace("    IdentityFile", lines + "    IdentityFile", 1))
        with pytest.raises(Unauthorized, match="it hung up then: name one key by IdentityFile and IdentitiesOnly"):
            works("board")
