"""Settings in Dask's configuration: defaults from the package, a schema, nothing written."""

import subprocess
import sys
from importlib.resources import files

import dask
import yaml

from dasksne.executor import current_executor
from dasksne.executor.defaults import add_defaults

DEFAULTS = yaml.safe_load(files("dasksne").joinpath("dasksne.yaml").read_text())["dasksne"]
SCHEMA = yaml.safe_load(files("dasksne").joinpath("dasksne-schema.yaml").read_text())


def test_defaults_are_there():
    current_executor()
    for name, value in DEFAULTS.items():
        assert dask.config.get(f"dasksne.{name}") == value
        assert dask.utils.parse_timedelta(value) >= 0


def test_the_schema_knows_every_setting_and_no_other():
    known = SCHEMA["properties"]["dasksne"]
    assert set(known["properties"]) == set(DEFAULTS)
    assert known["additionalProperties"] is False
    assert {entry["type"] for entry in known["properties"].values()} == {"string"}


def test_what_the_user_sets_stays():
    with dask.config.set({"dasksne.workers-timeout": "3s"}):
        add_defaults()
        assert dask.config.get("dasksne.workers-timeout") == "3s"


def test_an_environment_variable_and_an_untouched_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DASK_DASKSNE__WORKERS_TIMEOUT", "7s")
    code = "import dask, dasksne.executor; print(dask.config.get('dasksne.workers-timeout'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "7s\n"
    assert list(tmp_path.iterdir()) == []
