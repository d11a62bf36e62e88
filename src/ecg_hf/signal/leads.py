"""Lead names and the linear algebra of the limb leads.

Every data set spells leads its own way (PTB-XL ``AVR``, LUDB ``avr``, ISO/IEEE 11073 ``MDC_ECG_LEAD_AVR``)
and some order them differently (MIMIC-IV-ECG stores aVF before aVL). Here leads go by name, never by
position.
"""

from __future__ import annotations

import re
import unicodedata
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
    "is_frank_lead",
    "is_generic_name",
    "is_known_lead",
    "is_modified_lead",
    "is_scalp_electrode",
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
# Spanish and Portuguese recorders write the bipolar limb leads DI, DII, DIII or D1, D2, D3; IEC 60601 names the
# chest electrodes C1 to C6.
_CANONICAL.update({"di": "I", "dii": "II", "diii": "III", "d1": "I", "d2": "II", "d3": "III"})
_CANONICAL.update({f"c{number}": f"V{number}" for number in range(1, 7)})
# Codes of SCP-ECG (EN 1064) and ISO/IEEE 11073-10102, as DICOM writes them: limb leads follow the chest leads.
_CODED = dict(zip((1, 2, 61, 62, 63, 64, *range(3, 9)), STANDARD_LEADS, strict=True))
_CANONICAL.update({f"5.6.3-9-{code}": name for code, name in _CODED.items()})
_CANONICAL.update({f"2:{code}": name for code, name in _CODED.items()})
_PREFIX = re.compile(
    r"^(?:(?:mdc|scp)[\s_-]*)?(?:e[ck]g[\s_:-]*)?(?:(?:lead|ableitung|elec[\s_]potl)[\s_:.-]*)?(?=.)"
)
_SUFFIX = re.compile(r"[\s_]*[(\[][^()\[\]]*[)\]]$|[\s_-]+lead$")
_INNER_SPACE = re.compile(r"[\s_]+")
# Electrodes of the 10-20 system, alone or as a pair such as C4-A1: beside them, C3 is on the scalp, not the chest.
_SCALP = re.compile(
    r"(?:eeg[\s_:-]*)?(?:fp[1-9z]|f[1-9z]|[cpo]z|t[3-8]|p[34578]|o[12]|[cfpot]\d-[am][12])\b", re.I
)

_MODIFIED = re.compile(r"ml(?:i|ii|iii)|ml\d|mcl?\d?r?|c[mcsb]\d|mv\d", re.I)
_FRANK = re.compile(r"v?[xyz]", re.I)
_OTHER = re.compile(r"v|v[7-9]|v[1-9]r|-avr|es|as|ai|nehb[\s_-]*[daj]", re.I)
_GENERIC = re.compile(
    r"(?:(?:e[ck]g|lead|signal|sig|channel|chan|ch|column|col|data|value|values|sample|samples|voltage|amplitude)"
    r"[\s_#.:-]*)*\d*",
    re.I,
)


@lru_cache(maxsize=4096)
def normalize_lead_name(name: str) -> str:
    """The canonical spelling of a lead, or the name itself (stripped) when it is not a standard lead.

    ``AVR``, ``avr``, ``Lead aVR``, ``lead_avr``, ``aVR (aug)`` and ``MDC_ECG_LEAD_AVR`` are all ``aVR``; ``EKG I``,
    ``D1`` and the SCP code ``5.6.3-9-1`` are ``I``; the IEC electrodes ``C1`` to ``C6`` are ``V1`` to ``V6``.
    Names that only resemble a standard lead (``MLII``, ``-aVR``, ``V1-V2``, ``vx``) are not touched.
    """
    stripped = name.strip()
    # NFKC, because East Asian recorders write Roman numerals as single characters.
    key = _SUFFIX.sub("", unicodedata.normalize("NFKC", stripped).lower())
    key = _INNER_SPACE.sub("", _PREFIX.sub("", key))
    return _CANONICAL.get(key, stripped)


def is_generic_name(name: str) -> bool:
    """Whether a name names a signal but no particular lead: ``ECG``, ``ECG2``, ``channel 1``, ``3``."""
    return _GENERIC.fullmatch(name.strip()) is not None


def is_known_lead(name: str) -> bool:
    """Whether a name is that of an ECG lead: standard, modified (``MLII``), Frank (``vx``) or another in use."""
    bare = _SUFFIX.sub("", name.strip())
    return normalize_lead_name(name) in STANDARD_LEADS or any(
        pattern.fullmatch(bare) for pattern in (_MODIFIED, _FRANK, _OTHER)
    )


def is_scalp_electrode(name: str) -> bool:
    """Whether a name is an electrode of the 10-20 system that can't be mistaken for a chest electrode."""
    return _SCALP.match(name.strip()) is not None


def is_modified_lead(name: str) -> bool:
    """Whether a name is that of a modified lead such as ``MLII``, which is never used as a standard lead."""
    return _MODIFIED.fullmatch(name) is not None


def is_frank_lead(name: str) -> bool:
    """Whether a name is that of an orthogonal (Frank) lead such as ``vx``."""
    return _FRANK.fullmatch(name) is not None


def normalize_lead_names(names: Sequence[str | None]) -> tuple[str, ...]:
    """Canonical spelling of each name, checked to be usable as row labels.

    ``C1`` to ``C6`` stay unchanged beside electrodes of an EEG.

    Raises:
        LeadError: if a name is missing or empty, or two rows have the same lead.
    """
    if isinstance(names, str | bytes):
        raise LeadError(f"lead names must be a sequence of names, got the single text {names[:32]!r}")
    try:
        return _normalize_all(tuple(names))
    except TypeError:
        raise LeadError("lead names must be a sequence of names") from None


@lru_cache(maxsize=1024)
def _normalize_all(names: tuple[str | None, ...]) -> tuple[str, ...]:
    canonical = []
    for row, name in enumerate(names):
        if not isinstance(name, str) or not name.strip():
            raise LeadError(f"row {row} has no lead name; pass lead_names", value=name)
        canonical.append(normalize_lead_name(name))
    if any(is_scalp_electrode(name) for name in canonical):
        stripped = [str(name).strip() for name in names]
        canonical = [
            name if name[0] in "cC" else lead for name, lead in zip(stripped, canonical, strict=True)
        ]
    if len(set(canonical)) != len(canonical):
        twice = sorted({name for name in canonical if canonical.count(name) > 1})
        raise LeadError(
            f"lead {', '.join(twice)} occurs more than once; pass lead_names to say which is which",
            lead=twice[0],
            value=twice,
        )
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
    # All exact weights are multiples of 1/12; rounding removes the solver's last-bit errors.
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
    """Pick and order leads by name, computing missing limb leads exactly from any two others.

    Args:
        signal: Floating ``(..., leads, samples)``.
        lead_names: Names of the rows of ``signal``, in any accepted spelling.
        wanted: Names wanted, in the order wanted.
        derive: Compute limb leads that are missing (III = II - I, aVR = -(I + II)/2, aVL = I - II/2,
            aVF = II - I/2, and the same relations solved for any other pair).

    Returns:
        ``(..., len(wanted), samples)`` with rows of zeros for missing leads; a bool array
        ``(len(wanted),)`` that is False for those; and the names that were derived. The array is the
        input itself, not a copy, if nothing changes.

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
