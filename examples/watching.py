"""A run that is watched, and stopped when it is good enough: python examples/watching.py [FOLDER].

What the run came to is its result: it is finished then. Ctrl-C, or a callback that raises
KeyboardInterrupt, stops one with a checkpoint, from which `dasksne resume` goes on.
"""

import sys
from pathlib import Path

from sklearn.datasets import load_digits

import dasksne
from dasksne.job import Event


class Patience:
    """Stops a run when the last stage has nearly come to rest."""

    def __init__(self, steps: int, share: float) -> None:
        self.steps, self.share = steps, share
        self.costs: list[float] = []

    def __call__(self, event: Event) -> bool:
        """Look at an iteration; return True to stop."""
        if event.stage + 1 < event.n_stages:
            return False  # a stage on the way to the perplexity asked for
        self.costs.append(event.cost)
        print(f"{event.iteration:3} cost {event.cost:.2f}, gradient {event.gradient_norm:.3f}")
        earlier = self.costs[-1 - self.steps :][0]
        return len(self.costs) > self.steps and earlier - event.cost < self.share * event.cost


def main(folder: Path = Path(), steps: int = 10, share: float = 1e-3, **options: object) -> None:
    """Write watched.zarr and history.png to a folder."""
    store = folder / "watched.zarr"
    patience = Patience(steps, share)
    model = dasksne.SNE(store=store, overwrite=True, callbacks=patience, **options)
    model.fit(load_digits().data)
    print(f"C = {model.kl_divergence_:.2f} nats, {model.report_['stopped']}")
    dasksne.open_run(store).plot_history(folder / "history.png")


if __name__ == "__main__":
    main(Path(*sys.argv[1:]))
