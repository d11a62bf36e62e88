"""Types and bounds of a feature extractor's options, whether they come from users or from untrusted files.

A ``preprocessor_config.json`` may come from anyone. Every option is checked when an extractor is made, and again when
it is called, because attributes can be set in between. No value may ask for more memory than a recording needs, fail
inside a filter, or replace a method.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from ecg_hf.errors import ConfigurationError, LeadError
from ecg_hf.signal.leads import normalize_lead_names

__all__ = [
    "MAX_DURATION_S",
    "Choice",
    "Flag",
    "Number",
    "Numbers",
    "Rule",
    "check_filters",
    "check_length",
    "check_options",
    "checked_leads",
    "closest_option",
    "option_names",
    "refuse_unknown",
    "shortened",
]

MAX_DURATION_S = 86_400.0
"""Longest output: a day, as a Holter recorder stores it."""

# Values of one prepared recording: 24 h of 12 leads at 100 Hz, half a gigabyte of float32.
_MAX_VALUES = 2**27
_MAX_LEADS = 256
# At a lower share of the rate a filter would not settle within ten minutes.
_MIN_CUTOFF = 1e-5


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
class Numbers:
    """Finite numbers between ``low`` and ``high``, both included, in a list; or ``None``.

    Attributes:
        low: Least value.
        high: Largest value.
    """

    low: float
    high: float

    def complaint(self, value: Any) -> str | None:
        """What is wrong with ``value``; None if nothing is."""
        one = Number(self.low, self.high)
        listed = isinstance(value, list | tuple) and 0 < len(value) <= _MAX_LEADS
        if value is None or (listed and all(one.complaint(number) is None for number in value)):
            return None
        return f"must be a list of numbers in {self.low:g}..{self.high:g} or None"


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few names, or ``None`` where that is allowed too."""

    allowed: tuple[str, ...]
    optional: bool = False

    def complaint(self, value: Any) -> str | None:
        """What is wrong with ``value``; None if nothing is."""
        if (isinstance(value, str) and value in self.allowed) or (value is None and self.optional):
            return None
        return f"must be one of {', '.join(self.allowed)}{' or None' if self.optional else ''}"


@dataclass(frozen=True, slots=True)
class Flag:
    """True or False, or ``None`` where that is allowed too."""

    optional: bool = False

    def complaint(self, value: Any) -> str | None:
        """What is wrong with ``value``; None if nothing is."""
        if isinstance(value, bool) or (value is None and self.optional):
            return None
        return f"must be True or False{' or None' if self.optional else ''}"


Rule: TypeAlias = Number | Numbers | Choice | Flag


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
    """A value for messages: on one line, without control characters, of limited length."""
    try:
        text = ascii(value)
    except (ValueError, RecursionError):  # numbers of thousands of digits, lists that contain themselves
        text = type(value).__name__
    return text if len(text) <= 60 else f"{text[:60]}..."


def option_names(cls: type, root: type) -> frozenset[str]:
    """Options that ``cls`` and those it derives from, up to ``root``, name in their constructors."""
    names: set[str] = set()
    for base in cls.__mro__[: cls.__mro__.index(root) + 1]:
        if "__init__" in vars(base):
            parameters = inspect.signature(vars(base)["__init__"]).parameters.values()
            names |= {p.name for p in parameters if p.kind is not inspect.Parameter.VAR_KEYWORD}
    return frozenset(names - {"self"})


def checked_leads(names: Any) -> tuple[str, ...]:
    """Canonical names of the leads of the output.

    Raises:
        LeadError: if they are not a list of 1 to 256 names, or one occurs twice.
    """
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise LeadError(f"lead_names must be a list of names, got {shortened(names)}", value=names)
    if not 1 <= len(names) <= _MAX_LEADS:
        raise LeadError(f"lead_names must be 1 to {_MAX_LEADS} names, got {len(names)}", value=len(names))
    return normalize_lead_names(tuple(names))


def check_length(duration_s: float | None, sampling_rate: float, n_leads: int) -> None:
    """Check that an output of this length has at least one sample and fits in memory.

    Raises:
        ConfigurationError: if it does not.
    """
    if duration_s is None:
        return
    n_samples = round(duration_s * sampling_rate)
    if not 1 <= n_samples <= _MAX_VALUES // n_leads:
        what = "is shorter than a sample" if n_samples < 1 else f"of {n_leads} leads does not fit in memory"
        raise ConfigurationError(
            f"duration_s {duration_s:g} at {sampling_rate:g} Hz {what}", value=duration_s
        )


def check_filters(
    sampling_rate: float, *, highpass_hz: float | None, lowpass_hz: float | None, notch_hz: float | None
) -> None:
    """Check that filters at these frequencies can work at a sampling rate and leave a band between them.

    Raises:
        ConfigurationError: naming the frequency.
    """
    least, nyquist = _MIN_CUTOFF * sampling_rate, sampling_rate / 2
    for name, cutoff in (("highpass_hz", highpass_hz), ("lowpass_hz", lowpass_hz), ("notch_hz", notch_hz)):
        if cutoff is not None and not least <= cutoff < nyquist:
            raise ConfigurationError(
                f"{name} {cutoff:g} Hz is outside [{least:g}, {nyquist:g}) Hz", value=cutoff
            )
    if highpass_hz is not None and lowpass_hz is not None and highpass_hz >= lowpass_hz:
        raise ConfigurationError(
            f"highpass_hz {highpass_hz:g} and lowpass_hz {lowpass_hz:g} leave nothing between them",
            value=(highpass_hz, lowpass_hz),
        )
