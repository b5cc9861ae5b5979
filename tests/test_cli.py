"""The command: what it makes, what it prints, and what it says when something is wrong."""

import inspect
import re
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import anndata
import dask
import numpy as np
import pytest
import scipy.sparse
import zarr
from click.testing import CliRunner

import dasksne
from dasksne import cli, launch, metrics, resuming, stage
from dasksne.options import OPTIONS
from dasksne.progress import Reporter
from dasksne.run import Run

QUICK = ("--perplexity", "8", "--annealing", "none", "--max-iter", "12")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch, rng):
    """Work in a folder of its own that holds features.npy."""
    monkeypatch.chdir(tmp_path)
    np.save("features.npy", rng.normal(size=(90, 6)))
    return tmp_path


def command(*arguments, code=0):
    done = CliRunner().invoke(cli.main, [str(argument) for argument in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, done.output
    return done


def values(text):
    """Return the printed lines of a table by their names."""
    return dict(re.findall(r"^  (\S.*?)  +(.*)$", text, re.MULTILINE))


# ---- embed, resume, info, export, plot


def test_embed_does_what_the_estimator_does_and_says_what_it_found():
    done = command("embed", "features.npy", "-o", "map.zarr", *QUICK)
    model = dasksne.SNE(perplexity=8, annealing=None, max_iter=12).fit(np.load("features.npy"))
    run = dasksne.open_run("map.zarr")
    np.testing.assert_array_equal(run.embedding, model.embedding_)
    found = values(done.stdout)
    assert found["data"] == "90 points of 6 features"
    assert found["perplexity"] == "8"
    nats, per_point = re.match(r"(\S+) nats, (\S+) per point", found["cost C"]).groups()
    assert float(nats) == pytest.approx(model.kl_divergence_, rel=1e-7)
    assert float(per_point) == pytest.approx(model.kl_divergence_ / 90, rel=1e-4)
    share = model.report_["share_explained"]
    assert found["explained"].startswith(f"{share:.2%} of the {90 * np.log(89 / 8):.8g} nats")
    evaluations = int(model.history_["evaluations"][-1])
    assert found["iterations"].startswith(f"12 in 1 stages, {evaluations} evaluations, ")
    assert found["stopped"] == "max_iter reached"
    assert "dasksne plot map.zarr map.png" in done.stdout
    assert "iteration 12" in done.stderr


def test_what_cannot_be_drawn_is_found_before_the_run():
    np.savez("many.npz", X=np.load("features.npy"), labels=np.array([f"c{k}" for k in range(90)]))
    made = ("embed", "many.npz", "-o", "map.zarr", "--plot", "map.png", *QUICK)
    assert "labels hold 90 different classes" in command(*made, code=2).output
    assert not Path("map.zarr").exists()


def test_a_file_of_other_rows_is_found_before_points_are_placed(monkeypatch):
    command("embed", "features.npy", "-o", "map.zarr", *QUICK)
    anndata.AnnData(np.zeros((7, 2))).write_h5ad("cells.h5ad")
    monkeypatch.setattr(cli, "resume", lambda *_, **__: pytest.fail("points are placed"))
    given = ("transform", "map.zarr", "features.npy", "-o", "cells.h5ad")
    assert "has 7 rows, and the map 90" in command(*given, code=2).output


def test_options_of_a_bucket_are_an_object():
    for text in ("5", '"anon"', "[1]", "{"):
        said = command("info", "map.zarr", "--storage-options", text, code=2).output
        assert "a JSON object" in said


def test_a_plan_counts_points_as_often_too():
    """Their number bounds perplexities, of the plan and of its estimate."""
    np.save("weights.npy", 10.0 + np.arange(90) % 3)
    many = ("--perplexity", "300", "--annealing", "500", "--sample-weight", "weights.npy")
    assert "perplexity 500" not in command("plan", "features.npy", *many).output
    np.save("weights.npy", np.ones(90))  # which go with all options
    command("plan", "features.npy", *QUICK[:2], "--tail-mass", "0.01", *many[-2:])


def test_points_count_as_often_as_a_file_says():
    weights = 1.0 + np.arange(90) % 3
    np.save("weights.npy", weights)
    embed = ("embed", "features.npy", "-o", "map.zarr", *QUICK, "--sample-weight", "weights.npy")
    found = values(command(*embed).stdout)
    model = dasksne.SNE(perplexity=8, annealing=None, max_iter=12)
    model.fit(np.load("features.npy"), sample_weight=weights)
    run = dasksne.open_run("map.zarr")
    np.testing.assert_array_equal(run.embedding, model.embedding_)
    np.testing.assert_array_equal(run.sample_weight, weights)
    assert found["weights"] == "count as 180 points"
    assert f"{model.kl_divergence_ / 180:.5g} per point" in found["cost C"]
    np.save("weights.npy", weights[:5])
    assert "features.npy: sample_weight has shape (5,)" in command(*embed, code=2).output


def test_points_that_cannot_reach_the_perplexity_are_counted():
    np.save("twins.npy", np.repeat(np.eye(3), [20, 2, 2], axis=0))
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        done = command("embed", "twins.npy", "-o", "map.zarr", *QUICK)
    assert "\nwarning: 20 of 24 rows cannot reach" in done.stderr
    assert values(done.stdout)["warning"] == "20 points cannot reach the perplexity"


def test_every_kind_of_input_gives_the_same_map():
    x = np.load("features.npy")
    np.savez("x.npz", X=x)
    zarr.create_array("x.zarr", data=x)
    maps = []
    for name in ("features.npy", "x.npz", "x.zarr"):
        command("embed", name, "-o", f"map-{name}.zarr", *QUICK)
        maps.append(dasksne.open_run(f"map-{name}.zarr").embedding)
    np.testing.assert_array_equal(maps[1], maps[0])
    np.testing.assert_array_equal(maps[2], maps[0])


def test_digits_are_drawn_and_exported_in_their_colours():
    done = command("embed", "digits", "-o", "d.zarr", *QUICK, "--plot", "d.png")
    assert Path("d.png").read_bytes().startswith(b"\x89PNG")
    assert "d.png" in done.stdout
    command("export", "d.zarr", "d.csv")
    header, first, *_ = Path("d.csv").read_text().splitlines()
    assert header == "sne0,sne1,label"
    assert first.endswith(",0")
    command("plot", "d.zarr", "d.svg")
    assert {f">{k}<" for k in range(10)} <= set(re.findall(r">\d<", _texts("d.svg")))


@pytest.mark.parametrize(
    ("asked", "label"), [(["cost"], "cost in nats"), (["2"], "column 2"), ([], "label")]
)
def test_points_are_coloured_by_what_is_asked_for(asked, label):
    np.save("ages.npy", np.linspace(20.5, 80.5, 90))
    command("embed", "features.npy", "-o", "map.zarr", *QUICK, "--labels", "ages.npy")
    options = ["--color-by", *asked] if asked else []
    command("plot", "map.zarr", "map.svg", *options)
    assert f">{label}<" in _texts("map.svg")
    command("plot", "map.zarr", "map.html", *options)
    assert f'"{label}"' in Path("map.html").read_text()


def test_the_history_is_drawn():
    command("embed", "features.npy", "-o", "map.zarr", *QUICK)
    command("plot", "map.zarr", "history.svg", "--history")
    assert ">cost in nats<" in _texts("history.svg")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--color-by", "6"], "use 'labels', 'cost' or a column of X, 0 to 5"),
        (["--color-by", "age"], "use 'labels', 'cost' or a column of X, 0 to 5"),
        (["--color-by", "cost", "--history"], "give one of --labels, --color-by and --history"),
    ],
)
def test_what_has_no_colour_is_refused(options, said):
    command("embed", "features.npy", "-o", "map.zarr", *QUICK)
    assert said in command("plot", "map.zarr", "map.png", *options, code=2).stderr
    assert not Path("map.png").exists()


def _texts(path):
    """Return the comments of an SVG: matplotlib writes each of its texts into one."""
    return Path(path).read_text().replace("<!-- ", ">").replace(" -->", "<")


def test_transform_places_new_points_with_their_labels(rng):
    command("embed", "features.npy", "-o", "map.zarr", *QUICK)
    new = rng.normal(size=(7, 6))
    np.savez("new.npz", X=new, labels=np.arange(7))
    assert command("transform", "map.zarr", "new.npz", "-o", "placed.csv").stdout == "placed.csv\n"
    header, *rows = Path("placed.csv").read_text().splitlines()
    assert header == "sne0,sne1,label"
    placed = np.array([row.split(",") for row in rows], dtype=float)
    expected = dasksne.resume("map.zarr").transform(new)
    np.testing.assert_array_equal(placed, np.column_stack([expected, np.arange(7)]))


def test_data_is_prepared_and_new_points_after_it(rng):
    """Raw files go in, also to transform: the run knows what to do with them."""
    prepare = ("--pca", "3", "--scale")
    found = values(command("plan", "features.npy", *prepare).stdout)
    assert found["data"] == "90 points of 3 features"
    done = command("embed", "features.npy", "-o", "map.zarr", *QUICK, *prepare)
    assert values(done.stdout)["data"] == "90 points of 3 features"
    options = values(command("info", "map.zarr").stdout)
    assert (options["pca"], options["scale"]) == ("3", "True")
    new = rng.normal(size=(5, 6))
    np.save("new.npy", new)
    command("transform", "map.zarr", "new.npy", "-o", "placed.npy")
    model = dasksne.SNE(perplexity=8, annealing=None, max_iter=12, pca=3, scale=True)
    expected = model.fit(np.load("features.npy")).transform(new)
    np.testing.assert_array_equal(np.load("placed.npy"), expected)
    refused = command("embed", "features.npy", "-o", "b.zarr", "--pca", "7", code=2)
    assert refused.stderr.startswith("error: features.npy: --pca 7 must not be above 6, ")


def test_transform_refuses_before_it_works():
    command("embed", "features.npy", "-o", "map.zarr", *QUICK)
    np.save("narrow.npy", np.zeros((4, 3)))
    done = command("transform", "map.zarr", "narrow.npy", "-o", "placed.csv", code=2)
    assert done.stderr.startswith("error: narrow.npy: X has 3 features, but SNE is expecting 6")
    done = command("transform", "map.zarr", "features.npy", "-o", "placed.txt", code=2)
    assert done.stderr.startswith("error: placed.txt ends in no format that is known")
    done = command("transform", "map.zarr", "features.npy", "-o", "none/placed.csv", code=2)
    assert done.stderr == "error: none/placed.csv lies in a folder that does not exist\n"
    Run.locate("map.zarr").update(status="started")
    done = command("transform", "map.zarr", "features.npy", "-o", "placed.csv", code=2)
    expected = "error: map.zarr is started, not finished; go on with: dasksne resume map.zarr\n"
    assert done.stderr == expected
    assert not Path("placed.csv").exists()


def test_labels_from_a_file_are_kept_in_the_run():
    np.save("labels.npy", np.array(["left", "right"] * 45))
    command("embed", "features.npy", "-o", "map.zarr", *QUICK, "--labels", "labels.npy")
    assert dasksne.open_run("map.zarr").labels.tolist() == ["left", "right"] * 45
    command("plot", "map.zarr", "map.svg")
    assert ">left<" in _texts("map.svg")
    np.save("others.npy", np.array(["up", "down", "away"] * 30))
    command("plot", "map.zarr", "map.svg", "--labels", "others.npy")
    assert ">away<" in _texts("map.svg")


def test_info_says_what_a_run_holds():
    command("embed", "features.npy", "-o", "map.zarr", *QUICK, "--save", "Q")
    found = values(command("info", "map.zarr").stdout)
    assert found["status"] == "finished"
    assert found["max_iter"] == "12"
    assert found["X"].startswith("(90, 6) float64, ")
    assert found["Q"].startswith("(90, 90) float64, ")
    stored = sum(file.stat().st_size for file in Path("map.zarr/P/c").rglob("*") if file.is_file())
    size = float(re.search(r"([\d.]+) kB$", found["P"])[1])
    assert size == pytest.approx(stored / 1000, rel=0.05)


def test_info_judges_the_map_when_it_is_asked_to():
    command("embed", "features.npy", "-o", "map.zarr", *QUICK)
    assert "trustworthiness" not in values(command("info", "map.zarr").stdout)
    found = values(command("info", "map.zarr", "--quality").stdout)
    X, run = np.load("features.npy"), dasksne.open_run("map.zarr")
    expected = metrics.quality(X, run.embedding, n_neighbors=[10])
    assert found["trustworthiness"] == f"{expected.trustworthiness[0]:.4f} of 10 neighbours"
    assert found["continuity"] == f"{expected.continuity[0]:.4f} of 10 neighbours"
    assert found["neighbours kept"] == f"{expected.neighbors_kept[0]:.2%} of 10"
    assert found["area below R_NX"] == f"{expected.curve.area:.4f}"
    cost = run.kl_per_point()
    assert found["KL per point"].startswith(f"{np.median(cost):.4g} in the median, ")
    assert found["KL per point"].endswith(f"{cost.max():.4g} at row {cost.argmax()}")


def test_a_map_of_few_points_is_judged():
    np.save("few.npy", np.load("features.npy")[:4])
    command("embed", "few.npy", "-o", "few.zarr", "--perplexity", "2")
    found = values(command("info", "few.zarr", "--quality").stdout)
    assert found["trustworthiness"].endswith(" of 1 neighbours")


# ---- plan


def test_plan_says_what_is_needed_and_leaves_nothing(folder):
    done = command("plan", "features.npy", "--p-storage", "recompute", "--block-rows", "16")
    found = values(done.stdout)
    assert found["data"] == "90 points of 6 features"
    assert found["row blocks"] == "6 of 16 rows"
    assert "computed again" in found["P"]
    assert found["operations"].startswith("8,100 pairs")
    assert re.match(r"[\d.]+ MB needed, [\d.]+ \w+ may be used", found["memory"])
    assert re.match(r"[\d.]+ \w+ needed, [\d.]+ \w+ may be used", found["disk"])
    assert re.match(r"about [\d.]+ m?s ", found["time"])
    assert [path.name for path in folder.iterdir()] == ["features.npy"]


def test_plan_agrees_with_what_embed_does():
    options = ("--perplexity", "8", "--shards", "3", "--dtype", "float32")
    found = values(command("plan", "features.npy", *options, "-o", "map.zarr").stdout)
    command("embed", "features.npy", "-o", "map.zarr", *options, "--max-iter", "1")
    plan = dasksne.open_run("map.zarr").summary["plan"]
    assert found["shards"].startswith(f"{plan['shards']}, ")
    assert found["row blocks"] == f"{plan['n_blocks']} of {plan['block_rows']} rows"
    assert found["P"].startswith("32.4 kB as float32, between steps in memory")
    assert found["repulsion"] == plan["repulsion"]


# ---- options


def test_every_option_of_the_constructor_is_one_of_the_command():
    constructor = inspect.signature(dasksne.SNE).parameters
    # Those left out have a form of their own: --output, progress, nothing.
    assert set(OPTIONS) == set(constructor) - {"store", "verbose", "callbacks"}


def test_defaults_are_those_of_the_constructor(monkeypatch):
    given = _options_of_embed(monkeypatch)
    defaults = dasksne.SNE().get_params()
    assert {**given, "store": None, "verbose": 0} == defaults


@pytest.mark.parametrize(
    ("arguments", "name", "value"),
    [
        ("--n-components 3", "n_components", 3),
        ("--sigma 0.5", "sigma", 0.5),
        ("--annealing none", "annealing", None),
        ("--annealing 20,10.5", "annealing", [20.0, 10.5]),
        ("--block-rows 64", "block_rows", 64),
        ("--shards auto", "shards", "auto"),
        ("--memory-limit 4GB", "memory_limit", "4GB"),
        ("--save Q --save distances", "save", ("Q", "distances")),
        ("--overwrite", "overwrite", True),
        ("--p-storage recompute", "p_storage", "recompute"),
    ],
)
def test_an_option_reaches_the_estimator(monkeypatch, arguments, name, value):
    assert _options_of_embed(monkeypatch, *arguments.split())[name] == value


def test_storage_options_are_json(monkeypatch):
    given = _options_of_embed(monkeypatch, "--storage-options", '{"anon": true}')
    assert given["storage_options"] == {"anon": True}


def test_a_start_may_be_a_file(monkeypatch, rng):
    start = rng.normal(size=(90, 2))
    np.save("start.npy", start)
    np.testing.assert_array_equal(
        _options_of_embed(monkeypatch, "--init", "start.npy")["init"], start
    )


def test_widths_may_be_a_file(monkeypatch, rng):
    sigma = rng.uniform(1.0, 2.0, size=90)
    np.save("sigma.npy", sigma)
    given = _options_of_embed(monkeypatch, "--sigma", "sigma.npy")["sigma"]
    np.testing.assert_array_equal(given, sigma)
    failed = command("embed", "features.npy", "-o", "map.zarr", "--sigma", "wide", code=2)
    assert "'wide' is not a number or a .npy file" in failed.stderr


def test_widths_of_points_are_said_to_be_there():
    np.save("sigma.npy", np.linspace(1.0, 2.0, 90))
    options = ("--sigma", "sigma.npy", "--max-iter", "2")
    done = command("embed", "features.npy", "-o", "map.zarr", *options)
    assert values(done.stdout)["sigma"] == "one for each point"


def test_affinities_may_be_a_sparse_file(rng):
    graph = scipy.sparse.random_array((90, 90), density=0.1, rng=rng, format="lil")
    graph.setdiag(0.0)
    scipy.sparse.save_npz("graph.npz", graph.tocsr())
    options = ("--metric", "affinities", "--max-iter", "2", "--random-state", "0")
    assert values(command("plan", "graph.npz", *options).stdout)["P"].startswith("about ")
    done = command("embed", "graph.npz", "-o", "map.zarr", *options)
    assert values(done.stdout)["affinities"] == "given"
    model = dasksne.SNE(metric="affinities", max_iter=2, random_state=0).fit(graph.tocsr())
    np.testing.assert_array_equal(dasksne.open_run("map.zarr").embedding, model.embedding_)


def _options_of_embed(monkeypatch, *arguments):
    """Return the parameters of the estimator that embed would fit."""
    seen = {}

    def fit_nothing(model, _data, **_more):
        seen.update(model.get_params())
        raise ValueError("enough seen")

    monkeypatch.setattr(dasksne.SNE, "_fit", fit_nothing)
    command("embed", "features.npy", "-o", "map.zarr", *arguments, code=2)
    return seen


# ---- an interrupt


def test_an_interrupted_run_is_kept_and_goes_on_to_the_same_map(monkeypatch):
    command("embed", "features.npy", "-o", "whole.zarr", *QUICK)
    with monkeypatch.context() as context:
        _interrupt(context, Reporter, "step_done", after=5)
        done = command("embed", "features.npy", "-o", "map.zarr", *QUICK, code=130)
    path = Path("map.zarr").absolute()
    assert done.stderr.splitlines()[-1] == (
        f"interrupted: the run is kept; go on with: dasksne resume {path}"
    )
    assert values(command("info", "map.zarr").stdout)["status"] == "started"
    done = command("resume", "map.zarr", "--plot", "map.png")
    assert values(done.stdout)["iterations"].startswith("12 in 1 stages")
    assert Path("map.png").exists()
    np.testing.assert_array_equal(
        dasksne.open_run("map.zarr").embedding, dasksne.open_run("whole.zarr").embedding
    )


def test_a_run_interrupted_among_the_affinities_is_kept_too(monkeypatch):
    """With the labels of its points."""
    labels = [*"abc"] * 30
    np.save("labels.npy", labels)
    embed = ("embed", "features.npy", "-o", "map.zarr", *QUICK, "--labels", "labels.npy")
    with monkeypatch.context() as context:
        _interrupt(context, Reporter, "blocks_done", after=1)
        done = command(*embed, code=130)
    assert "dasksne resume" in done.stderr
    assert values(command("resume", "map.zarr").stdout)["status"] == "finished"
    assert dasksne.open_run("map.zarr").labels.tolist() == labels


def test_a_run_interrupted_before_it_has_its_data_leaves_nothing(monkeypatch):
    with monkeypatch.context() as context:
        _interrupt(context, Run, "write", after=0)
        done = command("embed", "features.npy", "-o", "map.zarr", *QUICK, code=130)
    assert done.stderr.splitlines()[-1] == "interrupted: no data was stored yet; start anew"
    command("embed", "features.npy", "-o", "map.zarr", *QUICK)


def test_a_run_interrupted_when_it_is_finished_is_said_to_be(monkeypatch):
    path = Path("map.zarr").absolute()
    with monkeypatch.context() as context:
        for part in (launch, resuming):
            _interrupt(context, part, "stored_map", after=0)
        embed = command("embed", "features.npy", "-o", "map.zarr", *QUICK, code=130)
        resume = command("resume", "map.zarr", code=130)
    said = f"interrupted: the run is finished; look at it with: dasksne info {path}"
    assert embed.stderr.splitlines()[-1] == resume.stderr.splitlines()[-1] == said


@pytest.mark.parametrize("options", [(), ("--overwrite",)])
def test_an_interrupt_before_another_run_is_replaced_leaves_that(monkeypatch, options):
    path = Path("map.zarr").absolute()
    command("embed", "features.npy", "-o", path, *QUICK)
    before = dasksne.open_run(path).summary
    with monkeypatch.context() as context:
        _interrupt(context, launch, "look_at_array", after=0)
        done = command("embed", "features.npy", "-o", path, *QUICK, *options, code=130)
    said = f"interrupted: no data was stored yet; {path} holds the run that was there before"
    assert done.stderr.splitlines()[-1] == said
    assert dasksne.open_run(path).summary == before


def _interrupt(monkeypatch, owner, name, *, after):
    whole, calls = getattr(owner, name), []

    def method(*arguments, **options):
        calls.append(1)
        if len(calls) > after:
            raise KeyboardInterrupt
        return whole(*arguments, **options)

    monkeypatch.setattr(owner, name, method)


@pytest.mark.parametrize(
    ("sent", "code", "word"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
def test_a_signal_ends_the_process_with_its_code(sent, code, word):
    # The job of a script that runs in the background ignores Ctrl-C, and so would its children.
    heeds = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    command = f"{heeds}; from dasksne.cli import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", command, "embed", "digits", "-o", "d.zarr"],
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        while "affinities" not in (line := process.stderr.readline()):
            assert line, "it has ended"
        process.send_signal(sent)
        said = process.stderr.read()
    assert process.returncode == code
    assert "Traceback" not in said
    last = said.splitlines()[-1]
    assert last.startswith(f"{word}: the run is kept; ")
    assert last.endswith(f"dasksne resume {Path('d.zarr').absolute()}")


# ---- errors


def _labels(n):
    np.save("labels.npy", np.zeros(n))


def _nan():
    x = np.load("features.npy")
    x[[3, 7]] = np.nan
    np.save("nan.npy", x)


def _group():
    zarr.create_group("other.zarr").create_array("data", data=np.zeros(3))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("embed none.npy -o m.zarr", "none.npy: No such file"),
        ("embed features.txt -o m.zarr", "features.txt is no input"),
        (
            "embed nan.npy -o m.zarr",
            "nan.npy: X holds NaN or infinity in 2 of its 90 rows, first in row 3",
        ),
        ("embed one.npy -o m.zarr", "one.npy: "),
        (
            "embed features.npy -o m.zarr --perplexity 89",
            "features.npy: --perplexity 89 must be below",
        ),
        (
            "embed features.npy -o m.zarr --sigma 1 --perplexity 9",
            "--perplexity 9.0 and --sigma 1.0",
        ),
        ("embed features.npy -o m.zarr --init best-guess", "--init 'best-guess' is not known"),
        ("embed features.npy -o m.zarr --annealing 200", "annealing holds the perplexity 200"),
        ("embed features.npy -o m.zarr --memory-limit 1kB", "1.0 kB may be used; "),
        ("plan features.npy --memory-limit 1kB", "1.0 kB may be used; "),
        ("plan features.npy --perplexity 89", "features.npy: --perplexity 89 must be below"),
        ("embed features.npy -o other.zarr", "other.zarr exists and is not a dasksne run"),
        ("embed features.npy -o features.npy/m.zarr", "features.npy/m.zarr"),
        ("embed features.npy -o ftp://host/m.zarr", "ftp://host/m.zarr"),
        (
            "embed features.npy -o m.zarr --labels labels.npy",
            "labels.npy has 80 labels for 90 points",
        ),
        ("embed damaged.zarr -o m.zarr", "damaged.zarr: X cannot be read from (0, 0) on"),
        ("embed short.csv -o m.zarr", "short.csv: column 'b' has no value in row 1"),
        ("embed text.csv -o m.zarr", "text.csv: column 'b' holds 'n/a!' in row 1"),
        ("embed features.npy -o m.zarr --columns a", "features.npy has no --columns"),
        ("embed ftp://host/x.npy -o m.zarr", "ftp://host/x.npy is not a path or a URL of one of"),
        ("embed features.npy -o m.zarr --plot map.gif", "map.gif ends in no format"),
        ("embed features.npy -o m.zarr --plot map.png --n-components 3", "has 3"),
        ("embed features.npy -o m.zarr --scheduler tcp://127.0.0.1:9", "tcp://127.0.0.1:9"),
        ("embed features.npy -o m.zarr --scheduler-file short.csv", "short.csv holds no address"),
        ("embed features.npy -o m.zarr --memory-limit much", "--memory-limit 'much' is no size"),
        ("resume none.zarr", "none.zarr is not a dasksne run"),
        ("info other.zarr", "other.zarr is not a dasksne run"),
        ("export none.zarr map.npy", "none.zarr is not a dasksne run"),
        ("plot none.zarr map.png", "none.zarr is not a dasksne run"),
    ],
)
def test_a_failure_is_one_line_and_leaves_nothing(folder, arguments, message):
    _nan()
    _labels(80)
    _group()
    np.save("one.npy", np.zeros((1, 3)))
    zarr.create_array("damaged.zarr", data=np.ones((90, 3)))
    Path("damaged.zarr/c/0/0").write_bytes(b"abc")
    Path("short.csv").write_text("a,b\n1,2\n3")
    Path("text.csv").write_text("a,b\n1,2\n3,n/a!\n")
    before = sorted(folder.rglob("*"))
    with dask.config.set({"distributed.comm.timeouts.connect": "1s"}):
        done = command(*arguments.split(), code=2)
    assert not done.stdout
    *progress, last = done.stderr.splitlines()
    assert last.startswith("error: ")
    assert message in last
    assert not [line for line in progress if line.startswith("error")]
    assert sorted(folder.rglob("*")) == before


def test_a_run_that_exists_is_kept_unless_it_is_overwritten():
    arguments = ("embed", "features.npy", "-o", "map.zarr", *QUICK)
    command(*arguments)
    before = dasksne.open_run("map.zarr").summary
    done = command(*arguments, code=2)
    assert "dasksne resume" in done.stderr
    assert "replace it with --overwrite, " in done.stderr
    assert dasksne.open_run("map.zarr").summary == before
    command(*arguments, "--overwrite")
    assert dasksne.open_run("map.zarr").summary["id"] != before["id"]


def test_an_unfinished_run_has_no_map_to_export(monkeypatch):
    with monkeypatch.context() as context:
        _interrupt(context, Reporter, "step_done", after=1)
        command("embed", "features.npy", "-o", "map.zarr", *QUICK, code=130)
    for arguments in ("export map.zarr map.npy", "plot map.zarr map.png"):
        assert "has no embedding" in command(*arguments.split(), code=2).stderr
    assert not list(Path().glob("map.[np]*"))


def test_an_unknown_export_format_is_refused():
    command("embed", "features.npy", "-o", "map.zarr", *QUICK)
    assert ".npy, .npz, .csv" in command("export", "map.zarr", "map.xls", code=2).stderr


@pytest.mark.parametrize("option", ["--block-rows many", "--annealing 30,x", "--storage-options {"])
def test_an_option_that_cannot_be_read_is_named(option):
    name, value = option.split()
    done = command("embed", "features.npy", "-o", "m.zarr", name, value, code=2)
    assert f"Invalid value for '{name}': {value!r} is not" in done.stderr


def test_debug_shows_where_an_error_comes_from():
    with pytest.raises(FileNotFoundError):
        command("embed", "none.npy", "-o", "m.zarr", "--debug", code=1)


# ---- a cluster


@pytest.mark.cluster
def test_a_scheduler_does_the_work(folder, monkeypatch):
    from distributed import LocalCluster  # noqa: PLC0415 - by this test alone

    seen = []
    calibrate = stage.start_calibration
    monkeypatch.setattr(
        stage,
        "start_calibration",
        lambda executor, *rest: seen.append(type(executor).__name__) or calibrate(executor, *rest),
    )
    command("embed", "features.npy", "-o", "here.zarr", *QUICK)
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster:
        address = cluster.scheduler_address
        (folder / "scheduler.json").write_text(f'{{"address": "{address}"}}')
        command("embed", "features.npy", "-o", "a.zarr", *QUICK, "--scheduler", address)
        file = ("--scheduler-file", "scheduler.json")
        command("embed", "features.npy", "-o", "b.zarr", *QUICK, *file)
        assert "on 2 threads" in command("plan", "features.npy", *file).stdout
    assert seen == ["ThreadExecutor", "ClientExecutor", "ClientExecutor"]
    maps = [dasksne.open_run(f"{name}.zarr").embedding for name in ("here", "a", "b")]
    np.testing.assert_array_equal(maps[1], maps[0])
    np.testing.assert_array_equal(maps[2], maps[0])
