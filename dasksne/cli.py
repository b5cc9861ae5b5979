"""The command `dasksne`: options in, one call of the library, one printed summary."""

import shlex
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from dasksne.describe import holdings, option_lines, plan_lines, quality_lines, run_lines, table
from dasksne.errors import DasksneError, InvalidInputError, StoreError
from dasksne.estimate import estimate
from dasksne.estimator import SNE, resume
from dasksne.executor import connected
from dasksne.files import Taken, read_array, read_input, read_labels, require_writable, write_map
from dasksne.opened import open_run
from dasksne.options import JSON, cluster_options, in_shell_words, input_options, sne_options
from dasksne.pictures import plot, require_drawable
from dasksne.run import Run
from dasksne.types import FloatArray

WRITTEN = "A .npy, .npz, .csv, .parquet or .h5ad."


class Terminated(KeyboardInterrupt):
    """SIGTERM: what batch systems and `kill` send. Whatever Ctrl-C does, it does."""


class Failure(click.ClickException):
    """Something that the user is told in one line."""

    exit_code = 2

    def show(self, file: Any = None) -> None:
        """Write the line to standard error."""
        click.echo(f"error: {self.message}", file=file, err=True)


class Interrupted(click.ClickException):
    """The user or the system stopped the command."""

    def __init__(self, message: str, interrupt: KeyboardInterrupt) -> None:
        terminated = isinstance(interrupt, Terminated)
        super().__init__(f"{'terminated' if terminated else 'interrupted'}{message}")
        # As shells report a process that the signal has ended.
        self.exit_code = 128 + (signal.SIGTERM if terminated else signal.SIGINT)  # type: ignore[misc]

    def show(self, file: Any = None) -> None:
        """Write how to go on to standard error."""
        click.echo(self.message, file=file, err=True)


class Command(click.Command):
    """A command whose failures are one line; --debug shows where they come from."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        debug = click.Option(["--debug"], is_flag=True, help="Show where an error comes from.")
        self.params.append(debug)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        debug = ctx.params.pop("debug")
        try:
            with warnings.catch_warnings(), _terminable():
                warnings.showwarning = _show_warning  # type: ignore[assignment]
                return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            raise Interrupted("", interrupt) from interrupt
        except (DasksneError, OSError, ValueError, MemoryError, ImportError) as error:
            if debug:
                raise
            raise Failure(_one_line(error)) from error


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM raise Terminated; only a process's main thread may ask for that."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(*_: Any) -> None:
    raise Terminated


def _show_warning(message: Warning | str, *_place: Any) -> None:
    click.echo(f"warning: {in_shell_words(str(message))}", err=True)


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    said = "; ".join([str(error), *getattr(error, "__notes__", [])])
    return in_shell_words(" ".join(said.split())) or type(error).__name__


class Group(click.Group):
    """The command's subcommands."""

    command_class = Command


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="dasksne")
def main() -> None:
    """Exact Stochastic Neighbor Embedding for data larger than memory.

    INPUT is "digits" (scikit-learn's data set), or a .npy, .npz, .zarr, .csv, .parquet or .h5ad, by
    path or URL. A run is a Zarr group.
    """


storage_options = click.option("--storage-options", type=JSON, help="For a run at a URL.")
weights_option = click.option(
    "--sample-weight", metavar="FILE", help="A .npy file with how often each point counts."
)
labels_option = click.option(
    "--labels", metavar="FILE", help="A .npy file with a number or text for each point."
)


@main.command()
@click.argument("input", metavar="INPUT")
@click.option("-o", "--output", metavar="RUN", required=True, help="The run to make: a .zarr.")
@click.option("--plot", "picture", metavar="FILE", help="Draw the map: .png, .svg, .pdf or .html.")
@weights_option
@input_options
@sne_options
@cluster_options
def embed(
    input: str,  # noqa: A002 - the argument's name in messages
    output: str,
    picture: str | None,
    sample_weight: str | None,
    taken: Taken,
    scheduler: str | None,
    scheduler_file: str | None,
    **options: Any,
) -> None:
    """Compute the map of INPUT, and keep the run."""
    data = read_input(input, options["storage_options"], taken)
    weights = _weights(sample_weight)
    if picture is not None:
        require_drawable(picture, (data.X.shape[0], options["n_components"]), data.labels)
    model = _model(options, store=output, verbose=1)
    run = Run.locate(output, options["storage_options"])
    with connected(scheduler, scheduler_file), _going_on(run, anew=True), _about(input):
        # As model.fit, whose run has no labels.
        model._fit(data.X, sample_weight=weights, labels=data.labels)  # noqa: SLF001
    _report(output, options["storage_options"], picture)


@main.command("resume")
@click.argument("run", metavar="RUN")
@click.option("--plot", "picture", metavar="FILE", help="Draw the map: .png, .svg, .pdf or .html.")
@storage_options
@cluster_options
def resume_(
    run: str,
    picture: str | None,
    storage_options: dict[str, Any] | None,
    scheduler: str | None,
    scheduler_file: str | None,
) -> None:
    """Go on with RUN where it stopped."""
    where = Run.locate(run, storage_options)
    with connected(scheduler, scheduler_file), _going_on(where, anew=False):
        resume(run, storage_options=storage_options, verbose=1)
    _report(run, storage_options, picture)


@main.command()
@click.argument("input", metavar="INPUT")
@click.option("-o", "--output", metavar="RUN", default="run.zarr", show_default=True)
@weights_option
@input_options
@sne_options
@cluster_options
def plan(
    input: str,  # noqa: A002
    output: str,
    sample_weight: str | None,
    taken: Taken,
    scheduler: str | None,
    scheduler_file: str | None,
    **options: Any,
) -> None:
    """Say what the map of INPUT would need; no map is computed, and nothing is written."""
    data = read_input(input, options["storage_options"], taken)
    weights = _weights(sample_weight)
    model = _model(options, store=output)
    with connected(scheduler, scheduler_file), _about(input):
        needed = model.plan(data.X, sample_weight=weights)
    click.echo(table(input, plan_lines(needed, estimate(needed, model, weights))))


@main.command()
@click.argument("run", metavar="RUN")
@click.option("--quality", is_flag=True, help="Judge the map too: looks at all pairs of points.")
@storage_options
@cluster_options
def info(
    run: str,
    quality: bool,
    storage_options: dict[str, Any] | None,
    scheduler: str | None,
    scheduler_file: str | None,
) -> None:
    """Say what RUN holds."""
    opened = open_run(run, storage_options=storage_options)
    for title, lines in (
        (run, run_lines(opened)),
        ("options", option_lines(opened)),
        ("holds", holdings(opened)),
    ):
        click.echo(table(title, lines))
    if quality:
        with connected(scheduler, scheduler_file):
            click.echo(table("quality", quality_lines(opened)))


@main.command()
@click.argument("run", metavar="RUN")
@click.argument("input", metavar="INPUT")
@click.option("-o", "--output", metavar="OUT", required=True, help=WRITTEN)
@input_options
@storage_options
@cluster_options
def transform(
    run: str,
    input: str,  # noqa: A002
    output: str,
    taken: Taken,
    storage_options: dict[str, Any] | None,
    scheduler: str | None,
    scheduler_file: str | None,
) -> None:
    """Place the points of INPUT on the map of RUN, which stays as it is; write them to OUT."""
    require_writable(output)
    status = open_run(run, storage_options=storage_options).status
    if status != "finished":
        raise StoreError(
            f"{run} is {status}, not finished; go on with: dasksne resume {shlex.quote(run)}"
        )
    data = read_input(input, storage_options, taken)
    require_writable(output, data.X.shape[0])
    with connected(scheduler, scheduler_file), _about(input):
        placed = resume(run, storage_options=storage_options).transform(data.X)
    write_map(output, placed, data.labels)
    click.echo(output)


@main.command()
@click.argument("run", metavar="RUN")
@click.argument("out", metavar="OUT")
@storage_options
def export(run: str, out: str, storage_options: dict[str, Any] | None) -> None:
    """Write the map of RUN to OUT: .npy, .npz, .csv, .parquet or .h5ad.

    A .h5ad that is there keeps what it holds, and gains the map as X_sne in its obsm.
    """
    opened = open_run(run, storage_options=storage_options)
    write_map(out, opened.embedding, opened.labels)
    click.echo(out)


@main.command("plot")
@click.argument("run", metavar="RUN")
@click.argument("out", metavar="OUT")
@labels_option
@click.option(
    "--color-by",
    metavar="WHAT",
    help='"labels" (the default), "cost" of each point, or a column of X, counted from 0.',
)
@click.option("--history", is_flag=True, help="Draw cost, gradient and step of each iteration.")
@storage_options
@cluster_options
def plot_(
    run: str,
    out: str,
    labels: str | None,
    color_by: str | None,
    history: bool,
    storage_options: dict[str, Any] | None,
    scheduler: str | None,
    scheduler_file: str | None,
) -> None:
    """Draw the map of RUN: .png, .svg, .pdf, or .html to zoom, pan and point at."""
    if (labels is not None) + (color_by is not None) + history > 1:
        raise InvalidInputError("give one of --labels, --color-by and --history")
    opened = open_run(run, storage_options=storage_options)
    with connected(scheduler, scheduler_file):
        if history:
            opened.plot_history(out)
        elif labels is None:
            opened.plot(out, color_by=color_by or "labels")
        else:
            given = read_labels(labels)
            with _about(labels):
                plot(opened.embedding, out, labels=given)
    click.echo(out)


def _weights(sample_weight: str | None) -> FloatArray | None:
    return None if sample_weight is None else read_array(sample_weight)


def _model(options: dict[str, Any], **more: Any) -> SNE:
    for name in ("init", "sigma"):
        if isinstance(options[name], str) and options[name].endswith(".npy"):
            options = {**options, name: read_array(options[name])}
    return SNE(**{**options, **more})


@contextmanager
def _about(source: str) -> Iterator[None]:
    """Name the input in what is said about its values and options."""
    try:
        yield
    except ValueError as error:
        raise InvalidInputError(f"{source}: {error}") from error


@contextmanager
def _going_on(run: Run, *, anew: bool) -> Iterator[None]:
    """Say after an interrupt how to go on with a run, which may take another one's place."""
    before = _state(run).get("id") if anew else None
    try:
        yield
    except KeyboardInterrupt as interrupt:
        state, path = _state(run), shlex.quote(run.url)
        if anew and state and state.get("id") == before:
            how = f"no data was stored yet; {path} holds the run that was there before"
        elif state.get("status") == "started":
            how = f"the run is kept; go on with: dasksne resume {path}"
        elif state.get("status") == "finished":
            how = f"the run is finished; look at it with: dasksne info {path}"
        else:
            how = "no data was stored yet; start anew"
        raise Interrupted(f": {how}", interrupt) from interrupt


def _state(run: Run) -> dict[str, Any]:
    return run.state if run.holds_a_run() else {}


def _report(path: str, storage_options: dict[str, Any] | None, picture: str | None) -> None:
    opened = open_run(path, storage_options=storage_options)
    click.echo(table(path, run_lines(opened)))
    if picture is None:
        click.echo(f"look at it with: dasksne plot {shlex.quote(path)} map.png")
    else:
        opened.plot(picture)
        click.echo(f"the map is drawn in {picture}")
