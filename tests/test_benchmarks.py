"""Each command of tests/benchmarks runs, at sizes at which its numbers mean nothing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

COMMANDS = Path(__file__).parent / "benchmarks"
SMALL = {
    "affinities": ["--n", "200", "--perplexity", "10"],
    "checkpoints": ["--n", "100", "--n-run", "20100", "--max-iter", "60", "--seconds", "1"],
    "cluster": [
        *("--n", "200", "--perplexity", "10", "--max-iter", "1"),
        *("--deaths", "memory", "--death-iter", "4"),
    ],
    "end_to_end": ["--n", "120", "--perplexity", "10", "--max-iter", "2", "--no-peers"],
    "evaluation": ["--n", "150", "--n-exact", "120", "--n-recompute", "200", "--perplexity", "10"],
    "graph": ["--sizes", "200", "--neighbors", "5"],
    "growth": ["--sizes", "120", "240", "--perplexity", "10"],
    "metrics": ["--n", "120", "--n-large", "240"],
    "memory": ["--n", "600", "--max-iter", "1", "--fits", "limited"],
    "overhead": ["--n", "200", "--shards", "2", "4"],
    "quality": ["--data", "iris", "--seeds", "1", "--max-iter", "2", "--no-peers"],
    "startup": ["--embed-repeats", "0"],
}


# Each starts a process, with imports and code of its own, which takes long; some start several.
LONG = set(SMALL) - {"evaluation"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.cluster if name in LONG else ()) for name in SMALL],
)
def test_command_shows_its_table_and_keeps_its_numbers(name, tmp_path):
    kept = tmp_path / "numbers.json"
    command = [sys.executable, COMMANDS / f"{name}.py", *SMALL[name], "--json", kept]
    ran = subprocess.run(
        [*command, "--repeats", "1"], check=False, capture_output=True, text=True, timeout=120
    )
    assert ran.returncode == 0, ran.stderr
    found = json.loads(kept.read_text())
    for table in found["tables"]:
        assert f"| {' | '.join(table['rows'][0])} |" in ran.stdout
    assert found["tables"]
    assert found["machine"]["packages"].startswith("dasksne ")


def test_every_command_is_run_here():
    commands = {path.stem for path in COMMANDS.glob("*.py") if "make_parser(" in path.read_text()}
    assert commands - {"common"} == set(SMALL)
