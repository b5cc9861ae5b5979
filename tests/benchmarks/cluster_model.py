"""What a large problem would take on a cluster, from the largest size that was measured.

Assumed, beside as many seconds of one core a pair, a kept entry and a point as were measured here:

- cores of the same speed, all of them at work but for those without a shard; a step waits for its
  slowest task, a quarter longer than the mean one;
- rows keep as many entries more as the measured sizes show, by the power law through the first
  and the last of them, and never fewer;
- a task costs the scheduler 1 ms, and each of the five rounds of a step 10 ms; affinities have one
  task a row block, a step a task for each core that has shards, as a plan makes them, and four for
  each of the Fourier blocks of half a million points;
- 1 GB/s between any two machines: Y goes out once, doubling the machines of 16 cores that have it
  at each turn, and rows of attraction, repulsion and weights come back to the client;
- S is held as float64 with an index of 4 bytes for each of its entries, at most twice those of P.
"""

import math
from argparse import Namespace
from typing import Any

from dasksne.plan import SHARD_BYTES, SHARD_ROWS
from dasksne.repulsion import FOURIER_ROWS

SIZES = (1_000_000, 10_000_000)
CORES = (100, 1_000)
CORES_PER_MACHINE = 16
SLOWEST = 1.25
TASK_SECONDS = 1e-3
ROUND_SECONDS = 1e-2
ROUNDS = 5
BYTES_PER_SECOND = 1e9
COPIES_BACK = 2
ENTRY_BYTES = 12
EVALUATIONS = 200


def cluster_rows(measured: list[dict[str, Any]], options: Namespace) -> list[dict[str, Any]]:
    """Return a row for each problem and cluster."""
    return [_row(n, cores, measured, options) for n in SIZES for cores in CORES]


def _row(n: int, cores: int, measured: list[dict[str, Any]], options: Namespace) -> dict[str, Any]:
    first, last = measured[0], measured[-1]
    growth = n / last["N"]
    power = 0.0
    if len(measured) > 1:
        power = max(
            0.0,
            math.log(last["kept a row"] / first["kept a row"]) / math.log(last["N"] / first["N"]),
        )
    entries = growth * growth**power
    """Times as many as at the largest measured size."""
    speed = SLOWEST * options.threads / cores
    affinities = speed * last["affinities"].median * growth**2
    kept = last["kept a row"] * growth**power
    s_bytes = 2 * kept * n * ENTRY_BYTES
    shards = max(math.ceil(n / SHARD_ROWS), math.ceil(s_bytes / SHARD_BYTES))
    idle = max(1.0, cores / shards)
    work = speed * (last["attraction"].median * entries * idle + last["repulsion"].median * growth)
    tasks = min(shards, cores) + 4 * math.ceil(n / FOURIER_ROWS)
    machines = math.ceil(cores / CORES_PER_MACHINE)
    map_bytes = 16 * n
    in_turn = map_bytes * (math.ceil(math.log2(machines)) + COPIES_BACK)
    step = work + tasks * TASK_SECONDS + ROUNDS * ROUND_SECONDS + in_turn / BYTES_PER_SECOND
    return {
        "N": n,
        "cores": cores,
        "affinities, h": affinities / 3600,
        "a step, s": step,
        "of it work, s": work,
        "tasks a step": tasks,
        "network a step, GB": map_bytes * (machines + COPIES_BACK) / 1e9,
        "S, GB": s_bytes / 1e9,
        f"{EVALUATIONS} steps and affinities, h": (affinities + EVALUATIONS * step) / 3600,
    }
