"""The Kubernetes manifests: strictly valid, and their commands run as processes."""

import copy
import shutil
import subprocess
from importlib.metadata import files

import jsonschema
import kubernetes_validate
import pytest
import yaml
from templates import CLUSTER, ENVIRONMENT, TLS, assert_digits, running, wait_until

FOLDER = CLUSTER / "kubernetes"
VERSION = "1.31"


def load(name):
    return yaml.safe_load((FOLDER / name).read_text())


def strict(schema):
    """Return a schema that refuses what it does not name, as the server drops it."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: strict(value) for key, value in schema.items()}
    open_ended = {"additionalProperties", "x-kubernetes-preserve-unknown-fields"}
    if isinstance(closed.get("properties"), dict) and not open_ended & set(closed):
        closed["additionalProperties"] = False
    return closed


def custom_resources():
    """Return the strict schemas of the operator's kinds, from its installed distribution."""
    found = {}
    for file in files("dask-kubernetes"):
        if "crds" in file.parts and file.suffix == ".yaml":
            definition = yaml.safe_load(file.locate().read_text())
            (version,) = definition["spec"]["versions"]
            schema = strict(version["schema"]["openAPIV3Schema"])
            # The server knows these of every kind.
            for name in ("apiVersion", "kind", "metadata"):
                schema["properties"][name] = {}
            found[definition["spec"]["names"]["kind"]] = schema
    return found


SCHEMAS = custom_resources()


def pods(manifest):
    """Return the specifications of pods in a manifest, by their place."""
    if manifest["kind"] == "DaskJob":
        inner = manifest["spec"]["cluster"]["spec"]
        return {"job": manifest["spec"]["job"]["spec"], **cluster_pods(inner)}
    return cluster_pods(manifest["spec"])


def cluster_pods(spec):
    return {role: spec[role]["spec"] for role in ("scheduler", "worker")}


def service_of(manifest):
    spec = manifest["spec"]
    return (spec["cluster"]["spec"] if "cluster" in spec else spec)["scheduler"]["service"]


def validate(manifest):
    """Raise an error for anything that is wrong in a manifest."""
    if manifest["kind"] not in SCHEMAS:
        kubernetes_validate.validate(manifest, VERSION, strict=True)
        return
    jsonschema.validate(manifest, SCHEMAS[manifest["kind"]])
    # What the operator makes of it are core kinds.
    core = [("Pod", pod) for pod in pods(manifest).values()] + [("Service", service_of(manifest))]
    for kind, spec in core:
        whole = {"apiVersion": "v1", "kind": kind, "metadata": manifest["metadata"], "spec": spec}
        kubernetes_validate.validate(whole, VERSION, strict=True)


@pytest.mark.parametrize("name", ["volume.yaml", "cluster.yaml", "job.yaml"])
def test_a_manifest_is_valid(name):
    validate(load(name))


@pytest.mark.parametrize(
    ("name", "place", "wrong"),
    [
        ("job.yaml", ("spec", "job", "spec", "restartpolicy"), "Never"),
        ("job.yaml", ("spec", "cluster", "spec", "worker", "replica"), 4),
        ("cluster.yaml", ("spec", "worker", "replicas"), "four"),
        ("cluster.yaml", ("spec", "scheduler", "spec", "containers", 0, "readinessprobe"), {}),
        ("cluster.yaml", ("spec", "scheduler", "service", "ports", 0, "port"), "8786x"),
        ("volume.yaml", ("spec", "accessMode"), ["ReadWriteMany"]),
    ],
    ids=lambda value: value[-1] if isinstance(value, tuple) else "",
)
def test_a_planted_error_is_caught(name, place, wrong):
    manifest = copy.deepcopy(load(name))
    target = manifest
    for step in place[:-1]:
        target = target[step]
    target[place[-1]] = wrong
    with pytest.raises((jsonschema.ValidationError, kubernetes_validate.ValidationError)):
        validate(manifest)


@pytest.mark.parametrize("name", ["cluster.yaml", "job.yaml"])
def test_every_pod_has_the_certificate_and_goes_by_tls(name):
    manifest = load(name)
    scheduler = f"tls://{manifest['metadata']['name']}-scheduler:8786"
    for role, pod in pods(manifest).items():
        (container,) = pod["containers"]
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert mounts["tls"] == "/etc/dasksne/tls"
        assert (mounts.get("runs") == "/runs") == (role != "scheduler")
        assert set(mounts) == {volume["name"] for volume in pod["volumes"]}
        assert role == "scheduler" or scheduler in str(container)
        assert "tcp://" not in str(container)
    # The operator finds the scheduler's pod by these.
    assert service_of(manifest)["selector"]["dask.org/cluster-name"] == manifest["metadata"]["name"]


def test_what_is_applied_is_there():
    kustomization = load("kustomization.yaml")
    assert all((FOLDER / name).exists() for name in kustomization["resources"])
    (secret,) = kustomization["secretGenerator"]
    assert secret["name"] in (FOLDER / "job.yaml").read_text()
    entry = (CLUSTER / "Dockerfile").read_text()
    assert 'ENTRYPOINT ["tls.sh", "/etc/dasksne/tls"]' in entry


@pytest.mark.parametrize("name", ["cluster.yaml", "job.yaml"])
def test_what_is_applied_has_the_image_that_was_named(name):
    """Also in kinds that Kubernetes does not know; else nobody could pull it."""
    (image,) = load("kustomization.yaml")["images"]
    containers = [pod["containers"][0] for pod in pods(load(name)).values()]
    assert {container["image"] for container in containers} == {image["name"]}


@pytest.mark.skipif(not shutil.which("kubectl"), reason="needs kubectl")
@pytest.mark.parametrize(("name", "images"), [("cluster.yaml", 2), ("job.yaml", 3)])
def test_all_is_applied_by_kustomize(tmp_path, name, images):
    """Volume, secret and either manifest, in the place of the other."""
    for path in FOLDER.glob("*.yaml"):
        text = path.read_text().replace("newName: dasksne", "newName: registry/dasksne")
        (tmp_path / path.name).write_text(text.replace("job.yaml", name))
    (tmp_path / "tls").mkdir()
    for file in ("key.pem", "cert.pem"):
        (tmp_path / "tls" / file).touch()
    done = subprocess.run(["kubectl", "kustomize", tmp_path], check=True, capture_output=True)
    applied = list(yaml.safe_load_all(done.stdout))
    kind = load(name)["kind"]
    assert {each["kind"] for each in applied} == {"Secret", "PersistentVolumeClaim", kind}
    assert done.stdout.count(b"image: registry/dasksne:latest") == images


@pytest.mark.parametrize(
    ("status", "command"),
    [("", "embed digits -o"), ("created", "embed digits -o"), ("started", "resume")],
)
def test_who_stops_the_pod_stops_the_command(tmp_path, status, command):
    """The pod's first process is told, and nothing else."""
    calls = tmp_path / "calls"
    script = f"""#!/bin/sh
        [ "$1" = info ] && {{ echo "  status  {status}"; exit {0 if status else 1}; }}
        trap 'echo told >>{calls}; exit 143' TERM
        echo "$@" >>{calls}
        while :; do sleep 0.02; done
    """
    (tmp_path / "dasksne").write_text(script)
    (tmp_path / "dasksne").chmod(0o755)
    environment = {**ENVIRONMENT, "PATH": f"{tmp_path}:{ENVIRONMENT['PATH']}"}
    args = pods(load("job.yaml"))["job"]["containers"][0]["args"]
    with running(*args, log=tmp_path / "log", env=environment) as process:
        wait_until(calls.exists, "the command")
        process.terminate()
        assert process.wait(timeout=10) == 143
    on = "/runs/digits.zarr --scheduler tls://digits-scheduler:8786"
    assert calls.read_text().splitlines() == [f"{command} {on}", "told"]


@pytest.mark.cluster
def test_the_commands_of_the_job_make_the_digits(tmp_path):
    """Each container's arguments as a process, with this machine's names for the cluster's."""
    subprocess.run([TLS, tmp_path / "tls"], check=True)
    here = {
        "digits-scheduler": "127.0.0.1",
        "tls://0.0.0.0:8786": "tls://127.0.0.1:28786",
        ":8787": "127.0.0.1:28787",
        ":8786": ":28786",
        "15GiB": "2GiB",
        "/runs": str(tmp_path),
        "$(DASK_WORKER_NAME)": "worker",
    }

    def command(container):
        arguments = [str(TLS), str(tmp_path / "tls"), *container["args"]]
        for name, value in here.items():
            arguments = [argument.replace(name, value) for argument in arguments]
        return arguments

    (job, scheduler, worker) = (pod["containers"][0] for pod in pods(load("job.yaml")).values())
    address = {"DASK_SCHEDULER_ADDRESS": "tls://127.0.0.1:28786"}
    environment = {**ENVIRONMENT, **address, "TMPDIR": str(tmp_path)}
    log = tmp_path / "scheduler.log"
    with (
        running(*command(scheduler), log=log, env=environment),
        running(*command(worker), log=tmp_path / "worker.log", env=environment),
    ):
        wait_until(lambda: "Register worker" in log.read_text(), "the worker")
        health = ["curl", "-sf", "http://127.0.0.1:28787/health"]
        assert subprocess.check_output(health, text=True) == "ok"
        for _ in ("embeds", "resumes, as after a restart"):
            done = subprocess.run(
                command(job), env=environment, check=False, capture_output=True, text=True
            )
            assert done.returncode == 0, done.stderr
            assert_digits(tmp_path / "digits.zarr")
