"""What `import dasksne` does not do."""

import json
import subprocess
import sys

SLOW = ("dask", "distributed", "finufft", "matplotlib", "numba", "sklearn", "zarr")
"""A name of the package is imported when it is first asked for, and these with it."""


def run(code, folder):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=folder,
        # Nothing is left to the user's own caches: what is written appears in the folder.
        env={"HOME": str(folder), "NUMBA_CACHE_DIR": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert not done.stderr
    return json.loads(done.stdout)


def test_it_loads_nothing_slow_and_writes_nothing(tmp_path):
    loaded = run("import dasksne, json, sys; print(json.dumps(sorted(sys.modules)))", tmp_path)
    assert "dasksne" in loaded
    assert not set(SLOW) & set(loaded)
    assert not list(tmp_path.iterdir())


def test_its_names_are_there_when_they_are_asked_for(tmp_path):
    code = (
        "import dasksne, json; "
        "print(json.dumps([getattr(dasksne, n).__name__ for n in dir(dasksne)]))"
    )
    assert run(code, tmp_path) == [
        "SNE",
        "conditional_probabilities",
        "embedding_probabilities",
        "gradient",
        "kl_divergence",
        "open_run",
        "plot",
        "resume",
        "sne",
        "squared_distances",
    ]


def test_the_command_loads_no_plotting(tmp_path):
    loaded = run("import dasksne.cli, json, sys; print(json.dumps(list(sys.modules)))", tmp_path)
    assert "dasksne.estimator" in loaded
    assert not {"bokeh", "datashader", "matplotlib"} & set(loaded)
