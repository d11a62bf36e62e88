"""Report texts: what a machine, a cardiologist or a hurried ward round would write about a record.

A report names the rhythm and every finding exactly once, in one of several wordings, and may add what can be
measured on the signal (rate, intervals, axis) or what is plainly normal. It denies something only rarely, and
only what the record does not show.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ecg_hf.signal.synthetic.draws import Stream, generator
from ecg_hf.signal.synthetic.findings import Plan, Stage, Territory
from ecg_hf.signal.synthetic.phrases import (
    AGE_WORDS,
    FINDING_PHRASES,
    FINDING_SHORT,
    INFARCT_EXTRAS,
    RHYTHM_PHRASES,
    RHYTHM_SHORT,
    WHERE,
)

__all__ = ["Measurements", "write_report"]

_HEDGES = ("possible ", "probable ", "consider ", "cannot exclude ", "suspected ")
# Only a phrase that begins with the diagnosis itself takes a hedge ("possible Q waves in I" would be absurd).
_MAY_BE_HEDGED = (
    "anterior ",
    "inferior infarct",
    "inferior wall",
    "inferior my",
    "inferior MI",
    "lateral infarct",
    "lateral wall",
    "lateral my",
    "lateral MI",
    "left ventricular",
    "right ventricular",
    "left atrial",
)
_TERRITORY_OF = {"AMI": Territory.ANTERIOR, "IMI": Territory.INFERIOR, "LMI": Territory.LATERAL}
_NORMAL = (
    "normal ECG",
    "normal electrocardiogram",
    "within normal limits",
    "normal 12-lead ECG",
    "ECG within normal limits",
    "normal tracing",
    "no abnormality detected, normal ECG",
)
_MINOR = {"SBRAD", "SARRH", "PAC", "1AVB", "NDT", "SR"}
_TOUCHES_ST = {
    "STD_",
    "ISC_",
    "INVT",
    "NDT",
    "AMI",
    "IMI",
    "LMI",
    "CLBBB",
    "CRBBB",
    "RVH",
    "LVH",
    "PACE",
    "AFLT",
}


@dataclass(frozen=True, slots=True)
class Measurements:
    """What a careful reader would measure on one record.

    Attributes:
        heart_rate_bpm: Mean ventricular rate, beats per minute.
        pr_ms: PR interval, None without visible P waves.
        qrs_ms: QRS duration of the usual complex.
        qt_ms: QT interval at the mean rate.
        qtc_ms: QT interval corrected by Fridericia's formula.
        axis_deg: Frontal QRS axis, degrees.
    """

    heart_rate_bpm: float
    pr_ms: float | None
    qrs_ms: float
    qt_ms: float
    qtc_ms: float
    axis_deg: float


class _Writer:
    """Chooses words for one record."""

    def __init__(self, seed: int, record: int) -> None:
        self._random = generator(seed, Stream.REPORT, record)
        self._numbers: Iterator[float] = iter(())

    def number(self) -> float:
        """Next uniform number."""
        value = next(self._numbers, None)
        if value is None:
            self._numbers = iter(self._random.random(32).tolist())
            value = next(self._numbers)
        return value

    def chance(self, probability: float) -> bool:
        return self.number() < probability

    def pick(self, options: tuple[str, ...]) -> str:
        return options[int(self.number() * len(options))]

    def shuffled(self, items: list[str]) -> list[str]:
        return [item for _, item in sorted((self.number(), item) for item in items)]


def write_report(
    plan: Plan, row: int, codes: tuple[str, ...], facts: Measurements, conduction: int, seed: int
) -> str:
    """The report of one record.

    Args:
        plan: What the batch shows.
        row: Row of the record in ``plan``.
        codes: Its SCP codes.
        facts: Its measurements.
        conduction: Flutter waves per beat, 0 where it varies.
        seed: Seed of the corpus.
    """
    words = _Writer(seed, int(plan.records[row]))
    style = words.number()
    short = style > 0.82
    rhythm, findings = _rhythm_and_findings(words, plan, row, codes, conduction, short)
    rate = round(facts.heart_rate_bpm)
    remarks = _remarks(words, codes, facts)
    verdict = _verdict(words, codes)
    if short:
        return _shorthand(words, rhythm, rate, findings, remarks, verdict)
    if style > 0.5:
        return _prose(words, rhythm, rate, findings, remarks, verdict)
    return _machine(words, rhythm, findings, remarks, verdict, facts)


def _rhythm_and_findings(
    words: _Writer, plan: Plan, row: int, codes: tuple[str, ...], conduction: int, short: bool
) -> tuple[str, list[str]]:
    """Phrases for the rhythm and for each finding, findings in random order."""
    ratio = f"{conduction}:1" if conduction else "variable"
    stage = int(plan.stage[row])
    rhythm = ""
    findings: list[str] = []
    infarct = next((code for code in codes if code in _TERRITORY_OF), None)
    ventricle = next((code for code in codes if code in ("LVH", "RVH")), None)
    for code in codes:
        if code == "NORM":
            continue
        if code in RHYTHM_PHRASES:
            rhythm = words.pick((RHYTHM_SHORT if short else RHYTHM_PHRASES)[code]).replace("{ratio}", ratio)
            continue
        if code == "STD_" and "ISC_" in codes:
            continue  # its phrases say so
        phrase = words.pick((FINDING_SHORT if short else FINDING_PHRASES)[code])
        territory = int(plan.territory[row])
        if code == infarct:
            phrase = phrase.replace("{age}", words.pick(AGE_WORDS[stage]))
        elif code == "INVT" and infarct is not None:
            territory = _TERRITORY_OF[infarct]
        elif code in ("INVT", "STD_") and ventricle is not None:
            territory = Territory.ANTERIOR if ventricle == "RVH" else Territory.LATERAL
        phrase = phrase.replace("{where}", words.pick(WHERE[territory]))
        if code == ventricle and plan.strain[row] and words.chance(0.5):
            phrase += words.pick((" with strain pattern", " with repolarization abnormality", " with strain"))
        if phrase.startswith(_MAY_BE_HEDGED) and not short and words.chance(0.3):
            phrase = words.pick(_HEDGES) + phrase
        findings.append(phrase)
        if code == infarct and stage == Stage.ACUTE and "elevation" not in phrase and words.chance(0.6):
            leads = words.pick(INFARCT_EXTRAS[code][:2])
            findings.append(words.pick((f"ST elevation in {leads}", f"ST segment elevation in {leads}")))
    return rhythm, words.shuffled(findings)


def _remarks(words: _Writer, codes: tuple[str, ...], facts: Measurements) -> list[str]:
    """Axis, normal findings and, rarely, a true negation."""
    remarks: list[str] = []
    axis = round(facts.axis_deg)
    if words.chance(0.4):
        if axis < -30 or axis > 180:
            remarks.append(
                words.pick(("left axis deviation", f"left axis deviation ({axis} degrees)", "leftward axis"))
            )
        elif axis > 95:
            remarks.append(
                words.pick(
                    ("right axis deviation", f"right axis deviation ({axis} degrees)", "rightward axis")
                )
            )
        elif -28 <= axis <= 88:
            remarks.append(
                words.pick(
                    (
                        "normal axis",
                        "normal QRS axis",
                        f"QRS axis {axis} degrees",
                        f"axis {axis} degrees, normal",
                    )
                )
            )
    normal: list[str] = []
    if facts.pr_ms is not None and 120 <= facts.pr_ms <= 195:
        normal += ["normal PR interval", f"PR interval {facts.pr_ms:.0f} ms"]
    if facts.qrs_ms <= 105 and "PVC" not in codes:
        normal += ["normal QRS duration", f"QRS duration {facts.qrs_ms:.0f} ms"]
    if 370 <= facts.qtc_ms <= 435:
        normal += ["normal QTc", f"QTc {facts.qtc_ms:.0f} ms"]
    if codes[0] == "NORM":
        normal += [
            "normal R wave progression",
            "normal intervals",
            "normal P waves and QRS complexes",
            "normal repolarization",
        ]
    if normal and words.chance(0.3):
        remarks.append(words.pick(tuple(normal)))
    if not _TOUCHES_ST & set(codes) and words.chance(0.12):
        remarks.append(words.pick(("no acute ST changes", "no significant ST-T changes", "no ST elevation")))
    return words.shuffled(remarks)


def _verdict(words: _Writer, codes: tuple[str, ...]) -> str:
    if codes[0] == "NORM":
        return words.pick(_NORMAL) if words.chance(0.9) else ""
    if set(codes) <= _MINOR:
        return words.pick(("borderline ECG", "abnormal rhythm ECG", "abnormal ECG", "", ""))
    return words.pick(("abnormal ECG", "abnormal ECG", "abnormal tracing", "", ""))


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."


def _machine(
    words: _Writer, rhythm: str, findings: list[str], remarks: list[str], verdict: str, facts: Measurements
) -> str:
    """Short statements, as printed by a cart."""
    parts = [rhythm, *findings]
    if remarks and words.chance(0.5):
        parts = [rhythm, *remarks, *findings]
    else:
        parts += remarks
    if words.chance(0.15) and len(parts) > 1:
        parts = [*parts[1:], parts[0]]
    if verdict:
        parts.append(verdict)
    if words.chance(0.45):
        numbers = [f"ventricular rate {facts.heart_rate_bpm:.0f} bpm"]
        if facts.pr_ms is not None:
            numbers.append(f"PR {facts.pr_ms:.0f} ms")
        numbers.append(f"QRS {facts.qrs_ms:.0f} ms")
        numbers.append(f"QT/QTc {facts.qt_ms:.0f}/{facts.qtc_ms:.0f} ms")
        kept = numbers[: 1 + int(words.number() * len(numbers))]
        parts.insert(0 if words.chance(0.5) else len(parts), ", ".join(kept))
    return " ".join(_sentence(part) for part in parts)


def _listed(items: list[str]) -> str:
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1]


def _prose(
    words: _Writer, rhythm: str, rate: int, findings: list[str], remarks: list[str], verdict: str
) -> str:
    """Sentences, as dictated."""
    subject = rhythm.removeprefix("rhythm is ")
    if words.chance(0.5):
        subject += words.pick(
            (f" at {rate} bpm", f" at a rate of {rate}", f", rate {rate}", f", ventricular rate {rate}")
        )
    rest = list(findings)
    opening = words.pick(("", "", "The rhythm is ", "ECG shows ", "The tracing shows "))
    if "is" in opening and "rhythm" in subject:
        opening = "There is "
    first = opening + subject
    if rest and words.chance(0.4):
        first += " with " + rest.pop(0) if " with " not in subject else ", also " + rest.pop(0)
    sentences = [first]
    if rest and words.chance(0.5):
        lead = words.pick(
            ("There is evidence of ", "Findings include ", "Also noted: ", "Note is made of ", "Shows ")
        )
        sentences.append(lead + _listed(rest))
    else:
        sentences += rest
    if remarks:
        sentences.append(_listed(remarks))
    if verdict:
        conclusion = words.pick(("Impression: ", "Conclusion: ", "", "", "Overall, "))
        sentences.insert(len(sentences) if words.chance(0.85) else 0, conclusion + verdict)
    return " ".join(_sentence(sentence) for sentence in sentences)


def _shorthand(
    words: _Writer, rhythm: str, rate: int, findings: list[str], remarks: list[str], verdict: str
) -> str:
    """Telegraphic notes."""
    if words.chance(0.6):
        rhythm += words.pick((f" {rate}", f" {rate}/min", f" @ {rate}", f", HR {rate}"))
    items = [rhythm, *findings, *remarks]
    if verdict:
        items.append(verdict)
    separator = words.pick(("; ", ", ", ". ", " / "))
    text = separator.join(item.removesuffix(".") if separator == ". " else item for item in items)
    text = text.removesuffix(".") + ("." if words.chance(0.5) else "")
    return text[:1].upper() + text[1:]


def measurements(
    rate: float, pr_s: float | None, qrs_s: float, qtc_s: float, axis_deg: float
) -> Measurements:
    """Round seconds to whole milliseconds and derive QT from QTc and the rate."""
    rr = 60.0 / rate
    return Measurements(
        heart_rate_bpm=rate,
        pr_ms=None if pr_s is None else float(np.round(1000.0 * pr_s)),
        qrs_ms=float(np.round(1000.0 * qrs_s)),
        qt_ms=float(np.round(1000.0 * qtc_s * np.cbrt(rr))),
        qtc_ms=float(np.round(1000.0 * qtc_s)),
        axis_deg=float(np.round(axis_deg)),
    )
