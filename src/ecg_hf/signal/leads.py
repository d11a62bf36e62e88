"""Lead names and the linear algebra of the limb leads.

Every data set spells leads its own way (PTB-XL ``AVR``, LUDB ``avr``, ISO/IEEE 11073 ``MDC_ECG_LEAD_AVR``)
and some order them unlike the rest (MIMIC-IV-ECG stores aVF before aVL). Here a lead is a name, never a
position.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from ecg_hf.errors import LeadError, SignalError

__all__ = [
    "LIMB_LEADS",
    "STANDARD_LEADS",
    "arrange_leads",
    "derivation_weights",
    "normalize_lead_name",
    "normalize_lead_names",
]

STANDARD_LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
LIMB_LEADS = STANDARD_LEADS[:6]

#: Each limb lead as a combination of I and II (Einthoven's law and Goldberger's definitions).
_IN_TERMS_OF_I_AND_II: dict[str, tuple[float, float]] = {
    "I": (1.0, 0.0),
    "II": (0.0, 1.0),
    "III": (-1.0, 1.0),
    "aVR": (-0.5, -0.5),
    "aVL": (1.0, -0.5),
    "aVF": (-0.5, 1.0),
}

_CANONICAL = {name.lower(): name for name in STANDARD_LEADS}
# Spanish and Portuguese recorders write the bipolar limb leads DI, DII, DIII.
_CANONICAL.update({"di": "I", "dii": "II", "diii": "III"})
_PREFIX = re.compile(r"^(?:mdc[\s_-]*)?(?:ecg[\s_-]*)?(?:lead[\s_:.-]*)?(?=.)")
_SUFFIX = re.compile(r"[\s_]*[(\[][^()\[\]]*[)\]]$")
_INNER_SPACE = re.compile(r"[\s_]+")


@lru_cache(maxsize=4096)
def normalize_lead_name(name: str) -> str:
    """The canonical spelling of a lead, or the name itself (stripped) when it is not a standard lead.

    ``AVR``, ``avr``, ``Lead aVR``, ``lead_avr``, ``aVR (aug)`` and ``MDC_ECG_LEAD_AVR`` are all ``aVR``.
    Names that only resemble a standard lead (``MLII``, ``-aVR``, ``V1-V2``, ``vx``) are not touched.
    """
    stripped = name.strip()
    key = _SUFFIX.sub("", stripped.lower())
    key = _INNER_SPACE.sub("", _PREFIX.sub("", key))
    return _CANONICAL.get(key, stripped)


def normalize_lead_names(names: Sequence[str | None]) -> tuple[str, ...]:
    """Canonical spelling of each name, checked to be usable as row labels.

    Raises:
        LeadError: if a name is missing or empty, or two rows have the same lead.
    """
    return _normalize_all(tuple(names))


@lru_cache(maxsize=1024)
def _normalize_all(names: tuple[str | None, ...]) -> tuple[str, ...]:
    canonical = []
    for row, name in enumerate(names):
        if not isinstance(name, str) or not name.strip():
            raise LeadError(f"row {row} has no lead name; pass lead_names", value=name)
        canonical.append(normalize_lead_name(name))
    if len(set(canonical)) != len(canonical):
        twice = sorted({name for name in canonical if canonical.count(name) > 1})
        raise LeadError(f"lead {', '.join(twice)} occurs more than once", lead=twice[0], value=twice)
    return tuple(canonical)


def derivation_weights(wanted: str, available: Sequence[str]) -> dict[str, float] | None:
    """Weights with which ``wanted`` is an exact sum of two available limb leads, or None.

    Any two of the six limb leads determine the other four; I and II are preferred, then the earliest
    pair in the standard order.
    """
    if wanted not in _IN_TERMS_OF_I_AND_II:
        return None
    limb = [name for name in LIMB_LEADS if name in available and name != wanted]
    if len(limb) < 2:
        return None
    pair = limb[:2]
    basis = np.array([_IN_TERMS_OF_I_AND_II[name] for name in pair])
    weights = np.linalg.solve(basis.T, np.array(_IN_TERMS_OF_I_AND_II[wanted]))
    # All exact weights are multiples of 1/12; rounding takes the solver's last-bit noise away.
    return {name: round(float(w) * 12.0) / 12.0 for name, w in zip(pair, weights, strict=True)}


@lru_cache(maxsize=1024)
def _plan(
    have: tuple[str, ...], wanted: tuple[str, ...], derive: bool
) -> tuple[tuple[int | None, ...], tuple[tuple[int, tuple[tuple[int, float], ...]], ...], tuple[str, ...]]:
    """Row to take for each wanted lead (None: absent), the rows to derive, and the names derived."""
    rows = tuple(have.index(name) if name in have else None for name in wanted)
    recipes: list[tuple[int, tuple[tuple[int, float], ...]]] = []
    derived: list[str] = []
    for target, (name, row) in enumerate(zip(wanted, rows, strict=True)):
        weights = derivation_weights(name, have) if derive and row is None else None
        if weights is not None:
            recipes.append((target, tuple((have.index(lead), w) for lead, w in weights.items())))
            derived.append(name)
    return rows, tuple(recipes), tuple(derived)


def arrange_leads(
    signal: npt.NDArray[np.floating],
    lead_names: Sequence[str | None],
    wanted: Sequence[str | None],
    *,
    derive: bool = True,
) -> tuple[npt.NDArray[np.floating], npt.NDArray[np.bool_], tuple[str, ...]]:
    """Pick and order leads by name, computing missing limb leads exactly where two others are there.

    Args:
        signal: Floating ``(..., leads, samples)``.
        lead_names: Names of the rows of ``signal``, in any accepted spelling.
        wanted: Names wanted, in the order wanted.
        derive: Compute limb leads that are missing (III = II - I, aVR = -(I + II)/2, aVL = I - II/2,
            aVF = II - I/2, and the same relations solved for any other pair).

    Returns:
        ``(..., len(wanted), samples)`` with rows of zeros for leads that are absent; a bool array
        ``(len(wanted),)`` that is False for those; and the names that were derived. The array is the
        input itself, not a copy, when there is nothing to do.

    Raises:
        LeadError: if names are missing, repeated, or not as many as rows.
        SignalError: if ``signal`` has no lead axis or is not floating.
    """
    have, target = normalize_lead_names(lead_names), normalize_lead_names(wanted)
    if signal.ndim < 2 or signal.dtype.kind != "f":
        raise SignalError(
            f"signal must be a floating (..., leads, samples) array, got {signal.dtype} of shape {signal.shape}"
        )
    if signal.shape[-2] != len(have):
        raise LeadError(f"{len(have)} lead names for {signal.shape[-2]} rows", value=have)
    if have == target:
        return signal, np.ones(len(target), dtype=bool), ()
    rows, recipes, derived = _plan(have, target, derive)
    taken = [row for row in rows if row is not None]
    if len(taken) == len(target):
        return signal[..., taken, :], np.ones(len(target), dtype=bool), ()

    arranged = np.zeros((*signal.shape[:-2], len(target), signal.shape[-1]), dtype=signal.dtype)
    present = np.zeros(len(target), dtype=bool)
    for index, row in enumerate(rows):
        if row is not None:
            arranged[..., index, :] = signal[..., row, :]
            present[index] = True
    for index, ((first, w1), (second, w2)) in recipes:
        arranged[..., index, :] = w1 * signal[..., first, :] + w2 * signal[..., second, :]
        present[index] = True
    return arranged, present, derived
