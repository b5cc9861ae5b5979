"""In what a run that is there differs from the one that is asked for, for who is refused it."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from dasksne.errors import DamageError
from dasksne.run import Run
from dasksne.settings import ARRAYS, Settings


def difference(store: Run, settings: Settings, fingerprint: str | None) -> str:
    """Say in what a run differs from the one asked for, as far as that is known.

    Parameters
    ----------
    store : Run
        Where there may be a run.
    settings : Settings
        As asked for.
    fingerprint : str or None
        Of the data as given; None where it is lazy, and nobody has looked at it.
    """
    if not store.holds_a_run() or "parameters" not in store.state:
        return ""
    state = store.state
    differing = [*_options(store, state["parameters"], settings)]
    if fingerprint is None:
        differing.append("data that is not compared, as X is lazy")
    elif state["given"] not in (None, fingerprint):
        differing.append("other data")
    return f", with {', '.join(differing)}" if differing else ""


def _options(store: Run, there: dict[str, Any], settings: Settings) -> Iterator[str]:
    """Name each option that is not what it was."""
    for name, asked in json.loads(json.dumps(settings.to_json())).items():
        if there.get(name) != asked:
            # Where no random_state is given, the seed is drawn.
            said = f"{name}={there.get(name)!r} where {asked!r} is asked for"
            yield "another random_state" if name == "seed" else said
        elif name in settings.arrays and not _is_kept(store, name, settings):
            yield f"another array {name}"


def _is_kept(store: Run, name: str, settings: Settings) -> bool:
    try:
        return np.array_equal(store.read_whole(ARRAYS[name]), settings.arrays[name])
    except DamageError:
        return False
