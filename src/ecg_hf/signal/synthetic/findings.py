"""What each synthetic record shows: rhythm, findings, and the person it belongs to.

Codes are SCP-ECG statements as PTB-XL spells them. Measured over 20,000 planned records (seed 0), in percent::

    NORM 38.7     SR 63.4       SBRAD 6.5     STACH 6.1     SARRH 5.1     AFIB 8.9      AFLT 4.7
    PACE 5.3      PAC 4.4       PVC 7.9       1AVB 4.8      LAO/LAE 5.1   LAFB 4.2      CLBBB 3.3
    CRBBB 3.9     LVH 4.9       RVH 3.7       AMI 3.7       IMI 3.6       LMI 3.5       STD_ 6.4
    INVT 11.0     ISC_ 3.6      NDT 3.2       LNGQT 3.0     LVOLT 4.0

A record has exactly one rhythm code. ``NORM`` goes with ``SR`` and with nothing else. Some findings bring the
code of what they do to the waveform: left ventricular strain adds ``STD_`` and ``INVT``, right ventricular
strain and an infarct with inverted T waves add ``INVT``, ischaemic ST-T changes add both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from ecg_hf.signal.synthetic.draws import Draws, FloatArray, IntArray, Stream, generator

__all__ = ["FINDINGS", "RHYTHMS", "SCP_CODES", "Plan", "Stage", "Territory", "plan_records"]

BoolArray = npt.NDArray[np.bool_]

RHYTHMS = ("SR", "SBRAD", "STACH", "SARRH", "AFIB", "AFLT", "PACE")
FINDINGS = (
    "PAC", "PVC", "1AVB", "LAO/LAE", "LAFB", "CLBBB", "CRBBB", "LVH", "RVH",
    "AMI", "IMI", "LMI", "STD_", "INVT", "ISC_", "NDT", "LNGQT", "LVOLT",
)  # fmt: skip
SCP_CODES = ("NORM", *RHYTHMS, *FINDINGS)

# Relative frequency of rhythms among records that are not normal, at age 60, and its growth per decade.
_RHYTHM_WEIGHT = {
    "SR": 42.0,
    "SBRAD": 11.0,
    "STACH": 11.0,
    "SARRH": 8.0,
    "AFIB": 13.0,
    "AFLT": 7.5,
    "PACE": 7.5,
}
_RHYTHM_GROWTH = {"SARRH": -0.25, "AFIB": 0.3, "AFLT": 0.15, "PACE": 0.3, "STACH": -0.05}
_FINDING_WEIGHT = {
    "PAC": 7.5, "PVC": 6.0, "1AVB": 8.0, "LAO/LAE": 7.0, "LAFB": 6.5, "CLBBB": 8.0, "CRBBB": 7.0,
    "LVH": 9.0, "RVH": 8.5, "AMI": 6.5, "IMI": 6.5, "LMI": 6.0, "STD_": 3.0, "INVT": 1.5, "ISC_": 8.0,
    "NDT": 9.5, "LNGQT": 7.5, "LVOLT": 5.5,
}  # fmt: skip
_INFARCTS = ("AMI", "IMI", "LMI")
_REPOLARISATION = ("STD_", "INVT", "ISC_", "NDT")

# Findings that exclude each other, because one hides the other or because the waveform would contradict it.
_EXCLUSIVE: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (("PAC",), ("PVC",)),
    (("LAFB", "CLBBB", "CRBBB", "LVH", "RVH"), ("LAFB", "CLBBB", "CRBBB", "LVH", "RVH")),
    (_INFARCTS, _INFARCTS),
    (_INFARCTS, _REPOLARISATION),
    ((*_REPOLARISATION, "LNGQT"), (*_REPOLARISATION, "LNGQT")),
    (("CLBBB", "RVH"), (*_INFARCTS, *_REPOLARISATION, "LNGQT", "LVOLT")),
    (("CRBBB", "LVH"), (*_REPOLARISATION, "LVOLT")),
    (("LAFB",), ("IMI",)),
)
_FORBIDDEN_IN = {
    "STACH": ("1AVB", "LNGQT"),
    "SARRH": ("PAC", "PVC"),
    "AFIB": ("PAC", "1AVB", "LAO/LAE", "LNGQT", "NDT"),
    "AFLT": ("PAC", "PVC", "1AVB", "LAO/LAE", "LNGQT", *_REPOLARISATION),
    "PACE": tuple(name for name in FINDINGS if name != "PVC"),
}


class Stage(IntEnum):
    """Age of an infarct: a scar, a recent one with inverted T waves, an acute one with ST elevation."""

    OLD = 0
    RECENT = 1
    ACUTE = 2


class Territory(IntEnum):
    """Leads in which a repolarisation change shows."""

    ANTERIOR = 0
    INFERIOR = 1
    LATERAL = 2


@dataclass(slots=True)
class Plan:
    """What a batch of records shows, as arrays of length ``n``.

    Attributes:
        records: Record numbers.
        patients: Patient numbers.
        ages: Years.
        female: Sex.
        rhythm: Index into :data:`RHYTHMS`.
        findings: ``(n, len(FINDINGS))``: which findings were planned.
        stage: :class:`Stage` of the infarct, where there is one.
        territory: :class:`Territory` of repolarisation changes.
        strain: ST-T changes of ventricular hypertrophy.
        draws: Further random columns of the records, for morphology and rhythm.
        patient_draws: Further random columns of their patients, shared by all records of one person.
    """

    records: IntArray
    patients: IntArray
    ages: FloatArray
    female: BoolArray
    rhythm: IntArray
    findings: BoolArray
    stage: IntArray
    territory: IntArray
    strain: BoolArray
    draws: Draws
    patient_draws: Draws

    def __len__(self) -> int:
        return len(self.records)

    def has(self, *codes: str) -> BoolArray:
        """``(n,)`` records with one of these rhythms or planned findings."""
        found = np.zeros(len(self), dtype=bool)
        for code in codes:
            if code in RHYTHMS:
                found |= self.rhythm == RHYTHMS.index(code)
            else:
                found |= self.findings[:, FINDINGS.index(code)]
        return found

    @property
    def infarct(self) -> BoolArray:
        """``(n,)`` records with any infarct."""
        return self.has(*_INFARCTS)

    def codes(self) -> list[tuple[str, ...]]:
        """SCP codes of every record: rhythm first, then ``NORM`` or the findings in fixed order."""
        shown = self.findings.copy()
        inverted = (self.has("LVH", "RVH") & self.strain) | (self.infarct & (self.stage == Stage.RECENT))
        shown[:, FINDINGS.index("INVT")] |= inverted | self.has("ISC_")
        shown[:, FINDINGS.index("STD_")] |= (self.has("LVH") & self.strain) | self.has("ISC_")
        return [
            self._codes_of(RHYTHMS[rhythm], tuple(np.flatnonzero(row)))
            for rhythm, row in zip(self.rhythm, shown, strict=True)
        ]

    @staticmethod
    def _codes_of(rhythm: str, shown: tuple[int, ...]) -> tuple[str, ...]:
        if rhythm == "SR" and not shown:
            return ("NORM", "SR")
        return (rhythm, *(FINDINGS[finding] for finding in shown))


# Each block of records is dealt out to patients of these sizes, in a random order.
_PATIENT_SIZES = (1, 1, 1, 1, 1, 2, 2, 3)
_BLOCK = sum(_PATIENT_SIZES)

# Random numbers set aside for each person and each record; a few more than are used.
_PATIENT_COLUMNS, _RECORD_COLUMNS = 128, 224


def patient_numbers(seed: int, records: Sequence[int]) -> IntArray:
    """Patient number of each record; a third of the patients own two or three neighbouring records."""
    owners: dict[int, IntArray] = {}
    for block in sorted({record // _BLOCK for record in records}):
        order = generator(seed, Stream.LAYOUT, block).permutation(len(_PATIENT_SIZES))
        sizes = np.asarray(_PATIENT_SIZES)[order]
        owners[block] = block * len(_PATIENT_SIZES) + np.repeat(np.arange(len(_PATIENT_SIZES)), sizes)
    return np.asarray([owners[record // _BLOCK][record % _BLOCK] for record in records], dtype=np.int64)


def _compatibility() -> FloatArray:
    """``(findings, findings)``: 1 where two findings may occur together."""
    table = np.ones((len(FINDINGS), len(FINDINGS)))
    for left, right in _EXCLUSIVE:
        for a in left:
            for b in right:
                table[FINDINGS.index(a), FINDINGS.index(b)] = 0.0
                table[FINDINGS.index(b), FINDINGS.index(a)] = 0.0
    np.fill_diagonal(table, 0.0)
    return table


def _allowed() -> FloatArray:
    """``(rhythms, findings)``: 1 where a finding may occur in a rhythm."""
    rows = [[float(f not in _FORBIDDEN_IN.get(r, ())) for f in FINDINGS] for r in RHYTHMS]
    return np.asarray(rows)


def plan_records(seed: int, records: Sequence[int]) -> Plan:
    """Decide what every record shows. Cheap: no signal is made.

    Args:
        seed: Seed of the corpus.
        records: Record numbers.
    """
    patients = patient_numbers(seed, records)
    people, owner = np.unique(patients, return_inverse=True)
    patient = Draws(seed, Stream.PATIENT, people.tolist(), _PATIENT_COLUMNS).take(owner.astype(np.int64))
    record = Draws(seed, Stream.RECORD, records, _RECORD_COLUMNS)

    ages: FloatArray = np.round(np.clip(patient.normal(59.0, 17.0), 18.0, 92.0)).astype(np.float64)
    female = patient.chance(0.48)

    # Diseases mostly stay: seven records in ten of a patient are decided by the patient's own numbers.
    chronic = record.chance(0.7)
    decisions = Draws.either(chronic, patient, record, columns=10)

    healthy = decisions.chance(np.clip(0.95 - 0.0097 * ages, 0.12, 0.8))
    decades = (ages - 60.0) / 10.0
    weights = np.stack(
        [_RHYTHM_WEIGHT[name] * np.exp(_RHYTHM_GROWTH.get(name, 0.0) * decades) for name in RHYTHMS], axis=1
    )
    rhythm = np.where(healthy, 0, decisions.choice(weights)).astype(np.int64)

    compatible = _compatibility()
    candidates = _allowed()[rhythm] * np.asarray([_FINDING_WEIGHT[name] for name in FINDINGS])
    findings = np.zeros((len(patients), len(FINDINGS)), dtype=bool)
    rows = np.arange(len(patients))
    # A record in sinus rhythm that is not normal must have a finding; other rhythms are findings themselves.
    wanted = ~healthy & ((rhythm == 0) | decisions.chance(0.55))
    for more in (0.45, 0.25, 0.0):
        picked = decisions.choice(candidates)
        wanted &= picked >= 0
        findings[rows[wanted], picked[wanted]] = True
        candidates = np.where(wanted[:, None], candidates * compatible[picked], candidates)
        wanted &= decisions.chance(more)
    infarct = findings[:, [FINDINGS.index(name) for name in _INFARCTS]].any(axis=1)
    return Plan(
        records=np.asarray(records, dtype=np.int64),
        patients=patients,
        ages=ages,
        female=female,
        rhythm=rhythm,
        findings=findings,
        stage=record.choice(np.asarray([0.45, 0.3, 0.25])),
        territory=record.choice(np.asarray([0.35, 0.3, 0.35])),
        strain=record.chance(0.5) & ~infarct,  # an infarct keeps its own ST and T
        draws=record,
        patient_draws=patient,
    )
