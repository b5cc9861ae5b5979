"""The SSH template makes the digits: a real sshd on a high port, which two hosts' names mean."""

import getpass
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from templates import CLUSTER, ENVIRONMENT, PATH, ROOT, assert_digits, running, wait_until

SSHD = shutil.which("sshd", path=PATH)

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(SSHD is None, reason="needs sshd: apt-get install openssh-server"),
]

SERVER = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
AuthorizedKeysFile {folder}/user.pub
PidFile none
PasswordAuthentication no
StrictModes no
SetEnv PYTHONPATH={root}
"""
"""The last line has the hosts import this checkout, too: SSH passes no variables on."""
CLIENT = """
Host one two
  HostName 127.0.0.1
  Port {port}
  User {user}
  IdentityFile {folder}/user
  UserKnownHostsFile {folder}/known_hosts
"""


@pytest.fixture
def home(tmp_path):
    """Make a home whose SSH knows the hosts one and two, and have them answer."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for name in ("host", "user"):
        key = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name]
        subprocess.run(key, check=True)
    host = (tmp_path / "host.pub").read_text()
    (tmp_path / "known_hosts").write_text(f"[127.0.0.1]:{port} {host}")
    facts = {"port": port, "folder": tmp_path, "user": getpass.getuser(), "root": ROOT}
    (tmp_path / "sshd_config").write_text(SERVER.format(**facts))
    (tmp_path / ".ssh").mkdir(mode=0o700)
    (tmp_path / ".ssh" / "config").write_text(CLIENT.format(**facts))
    if getpass.getuser() == "root":
        Path("/run/sshd").mkdir(exist_ok=True)  # where sshd locks its children in
    log = tmp_path / "sshd.log"
    with running(SSHD, "-D", "-e", "-f", tmp_path / "sshd_config", log=log):
        wait_until(lambda: "Server listening" in log.read_text(), "sshd")
        yield tmp_path


def test_the_digits(home):
    command = [CLUSTER / "ssh" / "run.sh", "one,two", "embed", "digits", "-o", home / "d.zarr"]
    environment = {**ENVIRONMENT, "HOME": str(home)}
    done = subprocess.run(
        command, env=environment, check=False, capture_output=True, text=True, cwd=home
    )
    assert done.returncode == 0, done.stderr
    assert_digits(home / "d.zarr")
    assert done.stderr.count("Start worker at:      tls://") == 2
    assert "tcp://" not in done.stderr
    for name in ("key.pem", "cert.pem"):
        assert (home / ".dasksne-tls" / name).stat().st_mode & 0o077 == 0
