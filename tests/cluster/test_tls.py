"""TLS: what speaks it works; what speaks it not, or with another certificate, is refused."""

import gc
import subprocess

import dask
import numpy as np
import pytest
from click.testing import CliRunner
from distributed import Client, Security
from templates import CLUSTER, ENVIRONMENT, TLS, assert_digits, running, wait_until

import dasksne
from dasksne import cli
from dasksne.executor import connect

QUICK = ("--perplexity", "8", "--annealing", "none", "--max-iter", "5")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Make a certificate, and another one that nobody here trusts."""
    folder = tmp_path_factory.mktemp("tls")
    for name in ("ours", "theirs"):
        subprocess.run([TLS, folder / name], check=True)
    return folder


@pytest.fixture(scope="module")
def address(folder):
    """Have a scheduler and two workers as processes."""
    ours = (TLS, folder / "ours", "dask")
    file = folder / "scheduler.json"
    scheduler = ("scheduler", "--host", "tls://127.0.0.1", "--port", "0", "--no-dashboard")
    worker = ("--nworkers", "2", "--nthreads", "1", "--no-dashboard", "--local-directory", folder)
    with (
        running(*ours, *scheduler, "--scheduler-file", file, log=folder / "scheduler.log"),
        running(*ours, "worker", "--scheduler-file", file, *worker, log=folder / "workers.log"),
    ):
        log = folder / "scheduler.log"
        wait_until(lambda: log.read_text().count("Register worker") == 2, "two workers")
        yield next(part for part in log.read_text().split() if part.startswith("tls://127.0.0.1:"))


def options_of(folder, key="key.pem"):
    return (
        *("--tls-ca-file", folder / "cert.pem", "--tls-cert", folder / "cert.pem"),
        *("--tls-key", folder / key),
    )


def embed(tmp_path, *arguments, code=0):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(60, 4)))
    command = ["embed", tmp_path / "x.npy", "-o", tmp_path / "run.zarr", *QUICK, *arguments]
    with dask.config.set({"distributed.comm.timeouts.connect": "2s"}):
        done = CliRunner().invoke(cli.main, [str(part) for part in command])
    found, said = done.exit_code, done.stderr
    # A Client that could not connect must be gone before the next one starts: collected while that
    # one holds the lock of the event loops, it waits for the same lock for ever.
    del done
    gc.collect()
    assert found == code, said
    return said


def test_the_key_is_of_its_owner_alone(folder):
    assert (folder / "ours" / "key.pem").stat().st_mode & 0o077 == 0


def test_a_certificate_that_is_there_is_kept(folder):
    before = (folder / "ours" / "cert.pem").read_bytes()
    subprocess.run([TLS, folder / "ours", "true"], check=True)
    assert (folder / "ours" / "cert.pem").read_bytes() == before


def test_the_command_works_by_its_options_and_leaves_no_configuration(folder, address, tmp_path):
    embed(tmp_path, "--scheduler", address, *options_of(folder / "ours"))
    assert dasksne.open_run(tmp_path / "run.zarr").status == "finished"
    assert dask.config.get("distributed.comm.tls.ca-file") is None
    assert dask.config.get("distributed.comm.require-encryption") is None


def test_tasks_are_started_with_one_blas_thread(folder, address):
    path = str(folder / "ours")
    files = {"ca_file": "cert.pem", "client_cert": "cert.pem", "client_key": "key.pem"}
    security = Security(**{f"tls_{name}": f"{path}/{file}" for name, file in files.items()})
    with Client(address, security=security) as client:
        found = client.run(lambda: __import__("os").environ["OPENBLAS_NUM_THREADS"])
    assert set(found.values()) == {"1"}


def test_a_plain_connection_is_refused(address, tmp_path):
    said = embed(tmp_path, "--scheduler", address.replace("tls", "tcp"), code=2)
    assert said.startswith("error: ")
    assert not (tmp_path / "run.zarr").exists()


def test_with_certificates_nothing_goes_unencrypted(folder, address, tmp_path):
    plain = address.replace("tls", "tcp")
    said = embed(tmp_path, "--scheduler", plain, *options_of(folder / "ours"), code=2)
    assert "one at tcp://... none of them" in said


@pytest.mark.parametrize("by", ["address", "file"])
def test_no_certificate_is_refused_before_anything_connects(
    folder, address, tmp_path, monkeypatch, by
):
    monkeypatch.delattr(connect, "Client")
    given = {
        "address": ("--scheduler", address),
        "file": ("--scheduler-file", folder / "scheduler.json"),
    }[by]
    said = embed(tmp_path, *given, code=2)
    assert "one at tls://... needs --tls-ca-file, --tls-cert and --tls-key" in said


@pytest.mark.parametrize("text", ["", "[]", "{}", "tcp://127.0.0.1:8786"])
def test_a_file_that_is_no_schedulers_is_named(tmp_path, text):
    (tmp_path / "file").write_text(text)
    said = embed(tmp_path, "--scheduler-file", tmp_path / "file", code=2)
    assert "file holds no address of a Dask scheduler; give what `dask scheduler" in said


def test_a_wrong_certificate_is_refused(folder, address, tmp_path):
    said = embed(tmp_path, "--scheduler", address, *options_of(folder / "theirs"), code=2)
    assert "TLS certificate does not match" in said
    assert not (tmp_path / "run.zarr").exists()


def test_a_file_that_is_not_there_is_named(folder, address, tmp_path):
    options = options_of(folder / "ours", key="none.pem")
    assert "none.pem' does not exist" in embed(tmp_path, "--scheduler", address, *options, code=2)
    assert dask.config.get("distributed.comm.tls.ca-file") is None


@pytest.mark.cluster
def test_the_local_template_makes_the_digits(tmp_path):
    command = [CLUSTER / "local" / "run.sh", "embed", "digits", "-o", "digits.zarr"]
    done = subprocess.run(
        command,
        env={**ENVIRONMENT, "WORKERS": "2", "TMPDIR": str(tmp_path)},
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert_digits(tmp_path / "digits.zarr")
    assert not list(tmp_path.rglob("*.pem"))
