"""What every benchmark reports: one row per piece of work, measured in the same way.

Ours and the reference take turns, round by round, so that other work on the machine slows both alike. Time is that
of the processor, of all threads together; ``run.py`` sets one thread. Of each round the ratio is taken, of the rounds
the median and the quartiles. The profile headline names the functions in which the time of ours is spent, by cProfile
for Python and numpy and by torch's profiler for operators.
"""

from __future__ import annotations

import cProfile
import pstats
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = [
    "Row",
    "alternate",
    "headline",
    "measured",
    "memory",
    "operator_headline",
    "peak_megabytes",
    "seconds",
    "table",
]

Work = Callable[[], object]
Unit = Literal["s", "ms", "us"]

_PER_SECOND = {"s": 1.0, "ms": 1e3, "us": 1e6}
_SHOWN = 3
_LEAST_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Attributes:
        work: What was done.
        ours: Our figure with its unit.
        reference: What it is compared with and its figure; empty where nothing is.
        value: The ratio reference / ours, or the figure itself where nothing is compared.
        spread: Quartiles of ``value`` over the rounds.
        goal: As it is written: ``>= 15`` or ``< 0.3 s``; empty where none was set.
        met: Whether ``value`` reaches it; None without a goal.
        profile: Where our time goes.
    """

    work: str
    ours: str
    reference: str
    value: float
    spread: tuple[float, float]
    goal: str = ""
    met: bool | None = None
    profile: str = ""


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """First and third quartile; of fewer than two values, that value twice."""
    if len(values) < 2:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high


def alternate(
    work: str,
    ours: Work,
    reference: Work,
    called: str,
    *,
    per: int = 1,
    reference_per: int | None = None,
    item: str = "",
    unit: Unit = "ms",
    least: float | None = None,
    rounds: int = 7,
    operators: bool = False,
) -> Row:
    """Ours against a reference.

    Args:
        work: What both do.
        ours: Does it once.
        reference: Does the same.
        called: Name of the reference.
        per: Items that one call handles.
        reference_per: Items that one call of the reference handles; as many if not given.
        item: What an item is, such as ``record``.
        unit: Of the figures.
        least: Ratio to be reached.
        rounds: Turns of each; one more goes before, for what is done only once.
        operators: Profile torch's operators instead of functions.
    """
    ours(), reference()
    counts = per, reference_per or per
    times = [(_seconds(ours) / counts[0], _seconds(reference) / counts[1]) for _ in range(rounds)]
    ratios = [theirs / max(own, 1e-12) for own, theirs in times]
    of = f"{unit}/{item}" if item else unit
    own, theirs = (_PER_SECOND[unit] * statistics.median(column) for column in zip(*times, strict=True))
    value = statistics.median(ratios)
    return Row(
        work,
        f"{own:.3g} {of}",
        f"{called}: {theirs:.3g} {of}",
        value,
        quartiles(ratios),
        "" if least is None else f">= {least:g}",
        None if least is None else value >= least,
        operator_headline(ours) if operators else headline(ours),
    )


def measured(
    work: str,
    values: Sequence[float],
    unit: str,
    *,
    most: float | None = None,
    least: float | None = None,
    profile: str = "",
) -> Row:
    """A figure without a reference: the median of ``values``, against an upper or a lower bound if there is one."""
    value = statistics.median(values)
    goal, met = "", None
    if most is not None:
        goal, met = f"< {most:g} {unit}", value < most
    elif least is not None:
        goal, met = f">= {least:g} {unit}", value >= least
    return Row(work, f"{value:.3g} {unit}", "", value, quartiles(values), goal, met, profile)


def memory(work: str, ours: Work, reference: Work, called: str, *, least: float | None = None) -> Row:
    """Largest sum of torch's tensors alive at once that either allocates, as torch's profiler records allocations."""
    own, theirs = peak_megabytes(ours), peak_megabytes(reference)
    value = theirs / own
    goal, met = ("", None) if least is None else (f">= {least:g}", value >= least)
    spread = (value, value)
    return Row(
        f"{work}, peak memory", f"{own:.3g} MB", f"{called}: {theirs:.3g} MB", value, spread, goal, met
    )


def peak_megabytes(work: Work) -> float:
    """Largest sum of torch's tensors alive at once that ``work`` allocates."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        work()
    alive = peak = 0
    for event in recorded.profiler.kineto_results.events():
        if event.name() == "[memory]":
            alive += event.nbytes()
            peak = max(peak, alive)
    return peak / 1e6


def seconds(work: Work, rounds: int = 3) -> list[float]:
    """Processor seconds of several runs."""
    return [_seconds(work) for _ in range(rounds)]


def _seconds(work: Work) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def headline(work: Work) -> str:
    """The functions in which ``work`` spends most of its time, with their shares of it."""
    profile = cProfile.Profile(time.process_time)
    profile.runcall(work)
    found = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    return _largest((_function_name(key), own) for key, (_, _, own, _, _) in found.items())


def operator_headline(work: Work) -> str:
    """The torch operators in which ``work`` spends most of its time, with their shares of it."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        work()
    return _largest((event.key, event.self_cpu_time_total) for event in recorded.key_averages())


def _largest(parts: Iterable[tuple[str, float]]) -> str:
    ordered = sorted(parts, key=lambda part: -part[1])
    total = sum(seconds for _, seconds in ordered) or 1.0
    shown = [(name, seconds / total) for name, seconds in ordered[:_SHOWN] if seconds >= _LEAST_SHARE * total]
    return ", ".join(f"{name} {share:.0%}" for name, share in shown)


def _function_name(key: tuple[str, int, str]) -> str:
    file, _, function = key
    if file == "~":  # built in: <built-in method posix.read>, <method 'reduce' of 'numpy.ufunc' objects>
        return function.strip("<>").removeprefix("built-in method ").removesuffix(" objects")
    return f"{Path(file).stem}.{function}"


_HEADER = ("work", "ours", "reference", "ratio", "spread", "goal", "met", "profile")


def table(rows: Iterable[Row]) -> str:
    """The rows as a Markdown table."""
    lines = ["| " + " | ".join(_HEADER) + " |", "|" + "---|" * len(_HEADER)]
    for row in rows:
        low, high = row.spread
        cells = (
            row.work,
            row.ours,
            row.reference,
            f"{row.value:.3g}" if row.reference else "",
            f"{low:.3g} to {high:.3g}",
            row.goal,
            {True: "yes", False: "no", None: ""}[row.met],
            row.profile,
        )
        lines.append("| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |")
    return "\n".join(lines)
