"""What the command prints: a run, a plan, as lines of names and values."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import zarr

from dasksne.estimate import Estimate
from dasksne.job import share_explained
from dasksne.opened import OpenedRun
from dasksne.plan import Plan, format_bytes
from dasksne.progress import format_seconds
from dasksne.run import COPY

Line = tuple[str, str]

NEIGHBOURS = 10
"""Of each point, by which a map is judged where it has so many."""


def table(title: str, lines: Sequence[Line]) -> str:
    """Return a title and its lines, the values below each other."""
    width = max((len(name) for name, _ in lines), default=0)
    return "\n".join([title, *(f"  {name:<{width}}  {value}" for name, value in lines)])


def plan_lines(plan: Plan, time: Estimate) -> list[Line]:
    """Say what a run would need."""
    n = plan.n_points
    p = f"{format_bytes(plan.p_bytes)} as {plan.dtype}, between steps in {_STORAGE[plan.p_storage]}"
    if plan.kept_share < 1.0:
        p = f"about {plan.kept_share:.2%} of its entries, {p}"
    if plan.keeps_p:
        p += ", written to the run"
    seconds = (
        f"about {format_seconds(time.total)} without reading and writing: "
        f"{time.stages} x {format_seconds(time.affinities)} for affinities, "
        f"{time.evaluations} evaluations of {format_seconds(time.evaluation)}"
    )
    if time.before > 0.0:
        what = "a coarse stage" if plan.coarse_share > 0.0 else "the search for a spectral start"
        seconds += f", and {format_seconds(time.before)} before them for {what}"
    return [
        ("data", f"{n:,} points of {plan.n_features:,} features"),
        ("row blocks", f"{plan.n_blocks:,} of {plan.block_rows:,} rows"),
        ("shards", f"{plan.shards:,}, on {plan.n_threads:,} threads"),
        ("P", p),
        ("memory", _needed(plan.memory_bytes, plan.memory_limit)),
        ("disk", _needed(plan.disk_bytes, plan.disk_found)),
        ("repulsion", plan.repulsion),
        ("operations", f"{n * n:,} pairs of points a pass"),
        ("time", seconds),
    ]


_STORAGE = {
    "memory": "memory",
    "zarr": "the run",
    "recompute": "no place: computed again in each step",
}


def _needed(needed: int, found: int) -> str:
    return f"{format_bytes(needed)} needed, {format_bytes(found)} may be used"


def run_lines(opened: OpenedRun) -> list[Line]:
    """Say what a run found, as far as it came."""
    state = opened.summary
    lines = [("status", state["status"])]
    if state["status"] == "created":
        return lines
    plan, parameters = state["plan"], state["parameters"]
    n = plan["n_points"]
    counted = opened.n_counted
    lines += [
        ("data", f"{n:,} points of {plan['n_features']:,} features"),
        *_weight_lines(parameters, counted),
        ("components", str(plan["n_components"])),
        _width(parameters),
    ]
    if state["status"] != "finished":
        return lines
    cost = state["kl_divergence"]
    lines += [
        ("cost C", f"{cost:.8g} nats, {cost / counted:.5g} per point"),
        ("explained", _explained(cost, state["constant_cost"], n)),
        ("iterations", _iterations(opened)),
        ("stopped", state["stopped"]),
    ]
    if state["unreached"]:
        lines.append(("warning", f"{state['unreached']:,} points cannot reach the perplexity"))
    if state["tails"] is not None:
        lines += _tail_lines(state["tails"])
    return lines


def _weight_lines(parameters: dict[str, Any], counted: float) -> list[Line]:
    """Say how many points those of a run with weights count as; nothing of one without."""
    weighted = parameters.get("sample_weight") is not None
    return [("weights", f"count as {counted:,.12g} points")] if weighted else []


def quality_lines(opened: OpenedRun) -> list[Line]:
    """Judge a run's map: this looks at all pairs of points."""
    k = max(1, min(NEIGHBOURS, (len(opened.embedding) - 1) // 2))
    found, costs = opened.quality([k]), opened.kl_per_point()
    worst = int(np.argmax(costs))
    kl = f"{np.median(costs):.4g} in the median, {costs[worst]:.4g} at row {worst}"
    return [
        ("trustworthiness", f"{found.trustworthiness[0]:.4f} of {k} neighbours"),
        ("continuity", f"{found.continuity[0]:.4f} of {k} neighbours"),
        ("neighbours kept", f"{found.neighbors_kept[0]:.2%} of {k}"),
        ("area below R_NX", f"{found.curve.area:.4f}"),
        ("KL per point", kl),
    ]


def _tail_lines(tails: dict[str, Any]) -> list[Line]:
    dropped = f"{tails['largest_dropped']:.3g} of a row dropped at most"
    mean = f"{tails['mean_dropped']:.3g} on average"
    bound = f"at most {tails['largest_bound']:.3g} for any point"
    error = f"{tails['largest_error']:.3g} found at {tails['sampled_points']:,} points"
    return [
        ("P kept", f"{tails['kept_share']:.2%} of its entries; {dropped}, {mean}"),
        ("perplexity left", f"{tails['perplexity_left']:.4g}"),
        ("gradient error", f"{bound}, {error}"),
    ]


def _explained(cost: float, constant_cost: float, n: int) -> str:
    found = share_explained(cost, constant_cost, n)
    share = "" if np.isnan(found) else f"{found:.2%} of "
    return f"{share}the {constant_cost:.8g} nats of a map with all points in one place"


def _width(parameters: dict[str, Any]) -> Line:
    if parameters["metric"] == "affinities":
        return "affinities", "given"
    name = "sigma" if parameters["perplexity"] is None else "perplexity"
    given = parameters[name]
    return name, "one for each point" if given == "array" else f"{given:g}"


def _iterations(opened: OpenedRun) -> str:
    history = opened.history
    n_iter = len(history["cost"])
    if n_iter == 0:
        return "none"
    n_stages = int(history["stage"][-1]) + 1
    return (
        f"{n_iter:,} in {n_stages} stages, {int(history['evaluations'][-1]):,} evaluations, "
        f"{format_seconds(history['seconds'][-1])}"
    )


def holdings(opened: OpenedRun) -> list[Line]:
    """Say what a run holds, with the bytes that it takes."""
    lines = []
    for name, member in sorted(opened.run.group().members()):
        if name == COPY:
            continue
        if isinstance(member, zarr.Array):
            what = f"{member.shape} {member.dtype}"
            stored = member.nbytes_stored()
        else:
            inside = [array for _, array in member.members(max_depth=None)]
            arrays = [array for array in inside if isinstance(array, zarr.Array)]
            what = f"{len(list(member.keys()))} entries"
            stored = sum(array.nbytes_stored() for array in arrays)
        lines.append((name, f"{what}, {format_bytes(stored)}"))
    return lines


def option_lines(opened: OpenedRun) -> list[Line]:
    """Say which options a run was given."""
    return [(name, str(value)) for name, value in opened.summary.get("parameters", {}).items()]
