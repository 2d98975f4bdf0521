"""What melt reads of OpenSSH's configuration, and what it refuses to call a destination."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from melt.errors import DeviceError, TransportTimeout, UsageError
from melt.transports import _ssh_config
from melt.transports.registry import open_transport, resolve

pytestmark = pytest.mark.skipif(shutil.which("ssh") is None, reason="ssh is not installed: install openssh-client")

CONFIG = """
Host orin orin-*
    HostName 192.0.2.7
    User lab
    Port 2222
    IdentityFile %d/.ssh/%h-%r
    IdentitiesOnly yes
    IdentityAgent /run/agent-%p
    UserKnownHostsFile ~/.ssh/known_%k
    ProxyJump gate@192.0.2.1:22,inner
    ConnectTimeout 3
Host "mac mini" mac !mac2
    HostKeyAlias The-Mac
    IdentityAgent none
    ProxyCommand nc -x proxy %h %p %%
Host=equals
Match all
    Compression no
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / ".ssh").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("MELT_SSH_CONFIG", raising=False)
    return tmp_path


@pytest.fixture
def config(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = home / "config"
    file.write_text(CONFIG)
    monkeypatch.setenv("MELT_SSH_CONFIG", str(file))
    return file


def test_what_the_configuration_says_of_an_alias(config: Path, home: Path) -> None:
    host = _ssh_config.read("orin")
    assert (host.hostname, host.port, host.user) == ("192.0.2.7", 2222, "lab")
    assert host.identity_files == (home / ".ssh" / "192.0.2.7-lab",)
    assert host.identities_only
    assert host.agent == "/run/agent-2222"
    assert host.proxy_jumps == ("gate@192.0.2.1:22", "inner")
    assert host.proxy_command is None
    assert host.connect_timeout_s == 3
    assert host.known_as == ("[192.0.2.7]:2222", "192.0.2.7")


def test_a_command_and_an_alias_for_the_key(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", "/run/agent")
    host = _ssh_config.read("mac")
    assert host.proxy_command == "nc -x proxy mac 22 %"
    assert host.known_as == ("the-mac",)
    assert host.agent is None
    assert _ssh_config.read("elsewhere").agent == "/run/agent"


@pytest.mark.parametrize(
    ("destination", "expected"),
    [
        ("lab@192.0.2.9", ("lab", "192.0.2.9", 22)),
        ("lab@192.0.2.9:2022", ("lab", "192.0.2.9", 2022)),
        ("lab@[2001:db8::7]:2022", ("lab", "2001:db8::7", 2022)),
        ("lab@2001:db8::7", ("lab", "2001:db8::7", 22)),
        ("a@b@host.example", ("a@b", "host.example", 22)),
    ],
)
def test_destinations(config: Path, destination: str, expected: tuple[str, str, int]) -> None:
    host = _ssh_config.read(destination)
    assert (host.user, host.hostname, host.port) == expected


@pytest.mark.parametrize("destination", ["-oProxyCommand=id", "two words", "host:", "host:port", "@host", "x:1:y", ""])
def test_what_is_no_destination(config: Path, destination: str) -> None:
    with pytest.raises(UsageError, match="is no destination"):
        _ssh_config.read(destination)


@pytest.mark.parametrize("destination", ["a;id", "$(id)", "host:99999"])
def test_what_openssh_refuses(config: Path, destination: str) -> None:
    with pytest.raises(UsageError, match=r"the configuration of .* cannot be read"):
        _ssh_config.read(destination)


def test_a_mistake_in_the_configuration_is_told_with_its_line(config: Path) -> None:
    config.write_text("Host a\n    NoSuchSetting yes\n")
    with pytest.raises(UsageError, match=r"cannot be read: .*config.* line 2: .*nosuchsetting"):
        _ssh_config.read("a")


def test_a_configuration_that_waits_for_the_network_may_be_read_later(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.write_text('Match exec "sleep 5"\n')
    monkeypatch.setattr(_ssh_config, "_READ_S", 0.2)
    with pytest.raises(
        TransportTimeout, match=r"of a was not read in 0\.2 s: does a `Match exec` in it hang"
    ) as caught:
        _ssh_config.read("a")
    assert caught.value.retryable


def test_without_openssh_it_is_said(config: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeviceError, match=r"OpenSSH's client, which reads ~/.ssh/config, is not here"):
        _ssh_config.read("a")


def test_aliases_are_names_without_patterns_of_all_files(home: Path) -> None:
    assert _ssh_config.aliases() == []
    (home / ".ssh" / "config").write_text("Include more.d/*.conf ~/other\nInclude nowhere\n" + CONFIG)
    (home / ".ssh" / "more.d").mkdir()
    (home / ".ssh" / "more.d" / "a.conf").write_text("Host nano *.lab\nInclude ~/.ssh/config\n")
    (home / "other").write_text('host xavier # the old one\nHost "torn\n')
    assert _ssh_config.aliases() == ["nano", "orin", "mac", "equals", "xavier"]


def test_an_odd_include_hides_no_alias(home: Path) -> None:
    (home / ".ssh" / "folder").mkdir()
    (home / ".ssh" / "config").write_text('Host nano\nInclude ~nobody-at-all/x / folder ""\nHost orin\n')
    assert _ssh_config.aliases() == ["nano", "orin"]


def test_names_of_files_that_hold_spaces_or_nobodys_home(config: Path, home: Path) -> None:
    config.write_text(
        f"""Host a
            UserKnownHostsFile "{home}/the lab/known hosts" {home}/more
            GlobalKnownHostsFile none
            RevokedHostKeys {home}/revoked
            IdentityFile "~/the lab/key"
            IdentityFile ~nobody-at-all/key
        """
    )
    host = _ssh_config.read("a")
    assert host.known_hosts == (home / "the lab" / "known hosts", home / "more")
    assert host.revoked_keys == home / "revoked"
    assert host.identity_files == (home / "the lab" / "key", Path("~nobody-at-all/key"))


def test_an_alias_is_a_device(config: Path) -> None:
    assert resolve("orin") == "ssh:orin"
    assert open_transport("orin").name == "ssh:orin"
    assert open_transport("ssh:lab@192.0.2.9").name == "ssh:lab@192.0.2.9"
    with pytest.raises(UsageError, match=r"unknown device 'orim': did you mean `orin`\?.*SSH hosts: orin, .*equals"):
        resolve("orim")
    with pytest.raises(UsageError, match="which host"):
        open_transport("ssh:")
