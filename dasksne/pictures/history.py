"""What the optimiser did, iteration by iteration, by matplotlib."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dasksne.pictures.colours import FEW_COLOURS
from dasksne.types import FloatArray


def write_history(path: str | Path, history: Mapping[str, FloatArray]) -> None:
    """Draw cost, gradient and step over the iterations; a dotted line begins a stage."""
    shown = {
        "cost in nats": np.asarray(history["cost"]),
        "norm of the gradient": history["gradient_norm"],
        "step": history["step"],
    }
    iterations = np.arange(1, len(history["cost"]) + 1)
    begins = np.flatnonzero(np.diff(history["stage"], prepend=-1))
    figure = Figure(figsize=(7.0, 7.0), layout="constrained")
    panels = figure.subplots(len(shown), 1, sharex=True)
    for axes, colour, (name, values) in zip(panels, FEW_COLOURS, shown.items(), strict=False):
        axes.plot(iterations, values, color=colour, marker=".", markersize=3, linewidth=1)
        axes.set_ylabel(name)
        axes.spines[["top", "right"]].set_visible(False)
        if np.any(values > 0) and name != "cost in nats":
            axes.set_yscale("log")
        for i in begins:
            axes.axvline(iterations[i] - 0.5, color="0.6", linestyle=":", linewidth=1)
    for i in begins:
        panels[0].annotate(
            f" {history['perplexity'][i]:.4g}",
            (iterations[i] - 0.5, 1.0),
            xycoords=("data", "axes fraction"),
            fontsize="small",
            color="0.4",
        )
    panels[0].set_title("each stage begins at a dotted line, with its perplexity", pad=16)
    panels[-1].set_xlabel("iteration")
    panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.savefig(path, dpi=150)
