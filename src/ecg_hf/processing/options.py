"""What the options of a feature extractor may be: types and bounds, for users and for files of strangers alike.

A ``preprocessor_config.json`` is read before anything is known of whoever wrote it. Every option is looked at when an
extractor is made, and again when it is called, since attributes can be set in between: no value may ask for more
memory than a recording is worth, fail within a filter, or stand in the way of a method.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from ecg_hf.errors import ConfigurationError

__all__ = ["Choice", "Flag", "Number", "Rule", "check_options", "closest_option", "refuse_unknown"]


@dataclass(frozen=True, slots=True)
class Number:
    """A finite number between ``low`` and ``high``, both included.

    Attributes:
        low: Least value.
        high: Largest value.
        whole: Whether it must be a whole number.
        optional: Whether ``None`` is a value too.
    """

    low: float
    high: float
    whole: bool = False
    optional: bool = False

    def complaint(self, value: Any) -> str | None:
        """What is wrong with ``value``; None if nothing is."""
        if value is None and self.optional:
            return None
        kind = "a whole number" if self.whole else "a number"
        fits = isinstance(value, int if self.whole else int | float) and not isinstance(value, bool)
        if fits and self.low <= value <= self.high:
            return None
        return f"must be {kind} in {self.low:g}..{self.high:g}{' or None' if self.optional else ''}"


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few names."""

    allowed: tuple[str, ...]

    def complaint(self, value: Any) -> str | None:
        """What is wrong with ``value``; None if nothing is."""
        if isinstance(value, str) and value in self.allowed:
            return None
        return f"must be one of {', '.join(self.allowed)}"


@dataclass(frozen=True, slots=True)
class Flag:
    """True or False, or also ``None`` where that is a third answer."""

    optional: bool = False

    def complaint(self, value: Any) -> str | None:
        """What is wrong with ``value``; None if nothing is."""
        if isinstance(value, bool) or (value is None and self.optional):
            return None
        return f"must be True or False{' or None' if self.optional else ''}"


Rule: TypeAlias = Number | Choice | Flag


def check_options(owner: object, rules: Mapping[str, Rule]) -> None:
    """Compare the attributes of ``owner`` with their rules.

    Raises:
        ConfigurationError: naming the first that does not follow its rule.
    """
    for name, rule in rules.items():
        value = getattr(owner, name)
        complaint = rule.complaint(value)
        if complaint is not None:
            raise ConfigurationError(f"{name} {complaint}, got {shortened(value)}", value=value)


def refuse_unknown(owner: str, unknown: Iterable[str], known: Iterable[str]) -> None:
    """Refuse options that do not exist, which would otherwise be kept as attributes that nothing reads.

    Raises:
        ConfigurationError: naming the first, and the option it resembles.
    """
    for name in unknown:
        near = closest_option(name, known)
        hint = f"did you mean {near}?" if near else f"it has {', '.join(sorted(known))}"
        raise ConfigurationError(f"{owner} has no option {shortened(name)}; {hint}", value=name)


def closest_option(name: str, known: Iterable[str]) -> str | None:
    """The known option that ``name`` is a misspelling of, if any."""
    return next(iter(difflib.get_close_matches(str(name).lower(), list(known), n=1, cutoff=0.8)), None)


def shortened(value: Any) -> str:
    """A value as it may be shown: on one line, without control characters, not endless."""
    try:
        text = ascii(value)
    except (ValueError, RecursionError):  # numbers of thousands of digits, lists that contain themselves
        text = type(value).__name__
    return text if len(text) <= 60 else f"{text[:60]}..."
