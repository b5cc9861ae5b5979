"""What holds for every template."""

import os
import re

import pytest
from templates import CLUSTER

PAGES = sorted(CLUSTER.glob("*/README.md"))
FILES = sorted(path for path in CLUSTER.rglob("*") if path.is_file() and path.suffix != ".pyc")


def test_there_are_four():
    assert [page.parent.name for page in PAGES] == ["kubernetes", "local", "slurm", "ssh"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_a_page_is_one_page_and_what_it_points_to_is_there(page):
    text = page.read_text()
    assert len(text.splitlines()) <= 60
    named = re.findall(r"cluster/[\w./]+\.(?:sh|py|yaml)|cluster/Dockerfile", text)
    linked = re.findall(r"\]\(([^):]+)\)", text)
    assert named
    assert linked
    for path in [CLUSTER.parent / name for name in named] + [page.parent / name for name in linked]:
        assert path.exists(), path


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CLUSTER)))
def test_a_file_starts_no_retired_command_and_runs_if_it_is_a_script(path):
    assert not re.search(r"dask-(scheduler|worker|ssh)\b", path.read_text())
    assert os.access(path, os.X_OK) == (path.suffix == ".sh")
