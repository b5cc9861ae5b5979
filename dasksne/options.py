"""The constructor's options as options of the command, each declared once."""

import functools
import inspect
import json
import re
from collections.abc import Callable
from functools import wraps
from typing import Any, NamedTuple, TypeVar, cast

import click
import dask

from dasksne.estimator import SNE
from dasksne.files import Taken
from dasksne.settings import CHOICES, SAVES

F = TypeVar("F", bound=Callable[..., Any])


class Parsed(click.ParamType):  # type: ignore[type-arg]  # generic in new versions of click
    """A value that a function reads from text, or refuses by ValueError."""

    def __init__(self, name: str, wanted: str, parse: Callable[[str], Any]) -> None:
        self.name = name
        self._wanted = wanted
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the parsed value; a default, which is not a text, is a value already."""
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except ValueError:
            self.fail(f"{value!r} is not {self._wanted}", param, ctx)


def _integer_or_auto(text: str) -> int | str:
    return text if text == "auto" else int(text)


def _perplexities(text: str) -> list[float] | str | None:
    if text == "auto":
        return text
    return None if text == "none" else [float(part) for part in text.split(",")]


def _number_or_file(text: str) -> float | str:
    return text if text.endswith(".npy") else float(text)


def _object(text: str) -> dict[str, Any]:
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError(f"{text} is no object")  # noqa: TRY004 - of a text
    return found


INTEGER_OR_AUTO = Parsed("integer|auto", "a whole number or auto", _integer_or_auto)
PERPLEXITIES = Parsed("auto|none|list", "auto, none or numbers with commas", _perplexities)
NUMBER_OR_FILE = Parsed("number|file", "a number or a .npy file", _number_or_file)
JSON = Parsed("json", "a JSON object", _object)


class Option(NamedTuple):
    """How the command takes an option of the constructor."""

    type: Any
    help: str


OPTIONS = {
    "n_components": Option(int, "Dimensions of the map."),
    "perplexity": Option(
        float, "Effective number of neighbours of a point; 30 unless --sigma is given."
    ),
    "sigma": Option(
        NUMBER_OR_FILE,
        "Widths instead, in the units of the data: a number, or a .npy file of shape (N,).",
    ),
    "metric": Option(
        click.Choice(CHOICES["metric"]),
        "Distances of rows, of their directions, or as given; affinities: X is P itself.",
    ),
    "pca": Option(int, "Principal components of the data that are mapped in place of it."),
    "scale": Option(bool, "Divide each feature by its standard deviation first."),
    "init": Option(
        str, "Where the map starts: pca, random, spectral, best, or a .npy file of shape (N, d)."
    ),
    "random_state": Option(int, "Seed of a random start and of jitter."),
    "optimizer": Option(click.Choice(CHOICES["optimizer"]), "How the cost is minimised."),
    "annealing": Option(PERPLEXITIES, "Perplexities to pass through first."),
    "max_iter": Option(int, "Iterations of each stage; early ones have 120 together."),
    "tol": Option(float, "A stage ends when the cost falls by less in five iterations."),
    "dtype": Option(click.Choice(CHOICES["dtype"]), "In which P is kept."),
    "tail_mass": Option(float, "The most that a row of P drops; 0 keeps every entry."),
    "p_storage": Option(click.Choice(CHOICES["p_storage"]), "Where P is between steps."),
    "repulsion": Option(click.Choice(CHOICES["repulsion"]), "How the repulsion is computed."),
    "repulsion_rtol": Option(float, "Error allowed to a row of it, where it goes by Fourier sums."),
    "block_rows": Option(INTEGER_OR_AUTO, "Rows of P that a task computes at once."),
    "shards": Option(INTEGER_OR_AUTO, "Tasks of a gradient step."),
    "memory_limit": Option(str, "That all tasks together may use, such as 4GB."),
    "save": Option(click.Choice(SAVES), "What the run keeps besides; may be repeated."),
    "overwrite": Option(bool, "Replace a run that is there."),
    "storage_options": Option(JSON, "For input and output at URLs."),
    "checkpoint_seconds": Option(float, "Between checkpoints."),
}


def input_options(command: F) -> F:
    """Add the options that choose from the input, which the command gets as `taken`."""

    @wraps(command)
    def choosing(*, columns: str | None, key: str | None, labels: str | None, **rest: Any) -> Any:
        names = () if columns is None else tuple(columns.split(","))
        return command(taken=Taken(names, key, labels), **rest)

    for name, metavar, help_text in (
        ("--labels", "FILE|NAME", "A .npy with a number or text for each point, or its column."),
        (
            "--key",
            "NAME",
            "An array of a .npz or .zarr; X, a member of obsm, or obsp/NAME of a .h5ad.",
        ),
        ("--columns", "A,B,...", "Columns of a table to map; all but the labels, by default."),
    ):
        choosing = click.option(name, metavar=metavar, help=help_text)(choosing)
    return cast("F", choosing)


def sne_options(command: F) -> F:
    """Add the options of `dasksne.SNE` to a command, with the constructor's defaults."""
    parameters = inspect.signature(SNE).parameters
    for name, option in reversed(OPTIONS.items()):
        default = parameters[name].default
        command = click.option(
            f"--{name.replace('_', '-')}",
            type=option.type,
            help=option.help,
            default=default,
            show_default=default is not None and option.type is not bool,
            is_flag=option.type is bool,
            multiple=isinstance(default, tuple),
        )(command)
    return command


def in_shell_words(message: str) -> str:
    """Return a message of the library with its options as the command writes them.

    Examples
    --------
    >>> in_shell_words("p_storage='recompute' needs less; replace it with overwrite=True")
    "--p-storage 'recompute' needs less; replace it with --overwrite"
    """
    return _ASSIGNMENT.sub(
        lambda found: f"--{found['name'].replace('_', '-')}{'' if found['flag'] else ' '}", message
    )


_ASSIGNMENT = re.compile(rf"\b(?P<name>{'|'.join(OPTIONS)})=(?P<flag>True\b)?")


TLS_OPTIONS = {
    "tls_ca_file": ("ca-file", "Of the authority that signed the cluster's certificates."),
    "tls_cert": ("client.cert", "The certificate to show to the cluster."),
    "tls_key": ("client.key", "The key of that certificate."),
}
"""Each by the place in Dask's configuration that it stands for, below distributed.comm.tls."""


def _configured(command: F) -> F:
    """Set Dask's configuration while a command runs; with TLS nothing goes unencrypted."""

    @functools.wraps(command)
    def run(**options: Any) -> Any:
        comm: dict[str, Any] = {}
        for name, (key, _) in TLS_OPTIONS.items():
            path = options.pop(name)
            if path is not None:
                comm |= {f"tls.{key}": path, "require-encryption": True}
        with dask.config.set({f"distributed.comm.{key}": value for key, value in comm.items()}):
            return command(**options)

    return run  # type: ignore[return-value]


def cluster_options(command: F) -> F:
    """Add the options that choose where work runs, and how it is reached."""
    command = _configured(command)
    for name, (_, help_text) in reversed(TLS_OPTIONS.items()):
        command = click.option(
            f"--{name.replace('_', '-')}",
            type=click.Path(exists=True, dir_okay=False),
            help=help_text,
        )(command)
    command = click.option(
        "--scheduler", metavar="ADDRESS", help="Of a Dask scheduler, such as tcp://host:8786."
    )(command)
    return click.option(
        "--scheduler-file",
        type=click.Path(exists=True, dir_okay=False),
        help="The file that a Dask scheduler wrote its address to.",
    )(command)
