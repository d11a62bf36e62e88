"""Make synthetic 12-lead records: plan, beats, waves, noise, text."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ecg_hf.errors import ConfigurationError, SamplingRateError
from ecg_hf.signal.leads import STANDARD_LEADS
from ecg_hf.signal.record import EcgRecord
from ecg_hf.signal.synthetic.beats import draw_beats
from ecg_hf.signal.synthetic.dipole import electrodes_to_leads, twelve_leads
from ecg_hf.signal.synthetic.draws import FloatArray
from ecg_hf.signal.synthetic.findings import Plan, plan_records
from ecg_hf.signal.synthetic.morphologies import Hearts, make_hearts
from ecg_hf.signal.synthetic.noise import electrode_noise
from ecg_hf.signal.synthetic.reports import Measurements, measurements, write_report
from ecg_hf.signal.synthetic.rhythms import Beats, Pulse, atrial_waves, draw_pulse, place_beats

__all__ = ["SyntheticBatch", "SyntheticEcg", "simulate"]

_CHUNK = 64  # records made together: large enough for numpy, small enough for the cache
_MIN_DURATION_S = 5.0
_MIN_RATE_HZ = 50.0


@dataclass(frozen=True, slots=True, eq=False)
class SyntheticEcg:
    """One synthetic record.

    Attributes:
        signal: float32 ``(12, samples)`` in mV, leads in the order of ``STANDARD_LEADS``.
        sampling_rate: Hertz.
        record_id: ``synthetic-000007``.
        patient_id: Shared by the records of one simulated person.
        age: Years.
        sex: ``"female"`` or ``"male"``.
        codes: SCP codes as PTB-XL spells them.
        report: Clinical text in English, consistent with ``codes``.
        r_peaks: int64 sample indices of the true R peaks, ascending.
        measurements: Rate, intervals and axis of the noise-free signal.
    """

    signal: npt.NDArray[np.float32]
    sampling_rate: float
    record_id: str
    patient_id: str
    age: float
    sex: str
    codes: tuple[str, ...]
    report: str
    r_peaks: npt.NDArray[np.int64]
    measurements: Measurements

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SyntheticEcg):
            return NotImplemented
        mine = (
            self.sampling_rate,
            self.record_id,
            self.patient_id,
            self.age,
            self.sex,
            self.codes,
            self.report,
        )
        theirs = (
            other.sampling_rate, other.record_id, other.patient_id, other.age, other.sex, other.codes, other.report
        )  # fmt: skip
        return (
            mine == theirs
            and self.measurements == other.measurements
            and np.array_equal(self.r_peaks, other.r_peaks)
            and np.array_equal(self.signal, other.signal)
        )

    __hash__ = None  # type: ignore[assignment]

    def to_record(self) -> EcgRecord:
        """The record as the rest of the package knows records."""
        return EcgRecord(
            self.signal,
            self.sampling_rate,
            STANDARD_LEADS,
            record_id=self.record_id,
            patient_id=self.patient_id,
            report=self.report,
        )


@dataclass(slots=True, eq=False)
class SyntheticBatch:
    """Records ``first .. first + n`` of a synthetic corpus; a sequence of :class:`SyntheticEcg`.

    Attributes:
        signal: float32 ``(n, 12, samples)`` in mV, leads in the order of ``STANDARD_LEADS``.
        sampling_rate: Hertz.
        record_ids: ``synthetic-000007``.
        patient_ids: Some patients own two or three records.
        ages: float32 ``(n,)``, years.
        sexes: ``"female"`` or ``"male"``.
        codes: SCP codes of each record.
        reports: Text of each record.
        r_peaks: True R peaks of each record, int64 sample indices.
        measurements: Rate, intervals and axis of each record.
    """

    signal: npt.NDArray[np.float32]
    sampling_rate: float
    record_ids: list[str]
    patient_ids: list[str]
    ages: npt.NDArray[np.float32]
    sexes: list[str]
    codes: list[tuple[str, ...]]
    reports: list[str]
    r_peaks: list[npt.NDArray[np.int64]]
    measurements: list[Measurements]

    def __len__(self) -> int:
        return len(self.record_ids)

    def __iter__(self) -> Iterator[SyntheticEcg]:
        return (self[row] for row in range(len(self)))

    def __getitem__(self, row: int) -> SyntheticEcg:
        return SyntheticEcg(
            signal=self.signal[row],
            sampling_rate=self.sampling_rate,
            record_id=self.record_ids[row],
            patient_id=self.patient_ids[row],
            age=float(self.ages[row]),
            sex=self.sexes[row],
            codes=self.codes[row],
            report=self.reports[row],
            r_peaks=self.r_peaks[row],
            measurements=self.measurements[row],
        )


def simulate(
    n: int,
    *,
    seed: int = 0,
    sampling_rate: float = 500.0,
    duration_s: float = 10.0,
    first: int = 0,
    noise: float = 1.0,
) -> SyntheticBatch:
    """Simulate ``n`` records of a 12-lead corpus from a moving cardiac dipole.

    Record ``k`` is the same, bit for bit, whatever batch it is made in. At another sampling rate it is the
    same heart with other noise samples; class frequencies are listed in
    :mod:`ecg_hf.signal.synthetic.findings`.

    Args:
        n: Number of records.
        seed: Names the corpus.
        sampling_rate: Hertz, at least 50.
        duration_s: Seconds, at least 5, so that every coded premature beat lies within the recording.
        first: Number of the first record.
        noise: Factor on all disturbances; 0 shows the same hearts undisturbed.

    Returns:
        The records, with ``signal`` float32 ``(n, 12, samples)`` in mV, ``samples = round(duration * rate)``.

    Raises:
        ConfigurationError: if ``n``, ``seed``, ``first``, ``duration_s`` or ``noise`` is out of range.
        SamplingRateError: if ``sampling_rate`` is below 50 Hz or not finite.

    Example:
        >>> batch = simulate(3, seed=1, sampling_rate=100.0)
        >>> batch.signal.shape
        (3, 12, 1000)
    """
    for name, value in (("n", n), ("seed", seed), ("first", first)):
        if int(value) != value or value < 0:
            raise ConfigurationError(f"{name} must be a whole number not below 0, got {value}", value=value)
    if not (math.isfinite(duration_s) and duration_s >= _MIN_DURATION_S):
        raise ConfigurationError(
            f"duration_s must be at least {_MIN_DURATION_S:g}, got {duration_s}", value=duration_s
        )
    if not (math.isfinite(noise) and noise >= 0.0):
        raise ConfigurationError(f"noise must be a finite factor not below 0, got {noise}", value=noise)
    if not (math.isfinite(sampling_rate) and sampling_rate >= _MIN_RATE_HZ):
        raise SamplingRateError(
            f"sampling_rate must be at least {_MIN_RATE_HZ:g} Hz, got {sampling_rate}", value=sampling_rate
        )
    samples = round(duration_s * sampling_rate)
    batch = SyntheticBatch(
        signal=np.empty((n, len(STANDARD_LEADS), samples), dtype=np.float32),
        sampling_rate=float(sampling_rate),
        record_ids=[f"synthetic-{first + k:06d}" for k in range(n)],
        patient_ids=[],
        ages=np.empty(n, dtype=np.float32),
        sexes=[],
        codes=[],
        reports=[],
        r_peaks=[],
        measurements=[],
    )
    for start in range(0, n, _CHUNK):
        stop = min(start + _CHUNK, n)
        _simulate_chunk(
            batch, int(first) + start, slice(start, stop), int(seed), float(duration_s), float(noise)
        )
    return batch


def _simulate_chunk(
    batch: SyntheticBatch, first: int, rows: slice, seed: int, duration_s: float, noise: float
) -> None:
    """Fill ``rows`` of ``batch`` with the records from number ``first`` on."""
    rate, samples = batch.sampling_rate, batch.signal.shape[2]
    plan = plan_records(seed, range(first, first + rows.stop - rows.start))
    pulse = draw_pulse(plan)
    hearts = make_hearts(plan, pulse.rate)
    beats = place_beats(plan, pulse, hearts.qtc, seed, duration_s)

    leads = draw_beats(plan, hearts, beats, samples, rate)
    time = (np.arange(samples) / rate).astype(np.float32)
    atrial_rows, waves = atrial_waves(time, plan, pulse, beats, hearts.lead_field, plan.draws)
    leads[atrial_rows] += waves
    if noise > 0.0:
        potentials = electrode_noise(plan.records, plan.draws, seed, samples, rate, pulse.breathing_hz)
        leads += electrodes_to_leads(potentials * np.float32(noise))
    twelve_leads(leads, out=batch.signal[rows])

    batch.patient_ids += [f"synthetic-patient-{number:06d}" for number in plan.patients.tolist()]
    batch.ages[rows] = plan.ages
    batch.sexes += ["female" if female else "male" for female in plan.female.tolist()]
    codes = plan.codes()
    batch.codes += codes
    for row, record_codes in enumerate(codes):
        peaks = _sample_indices(beats.times[row], rate, samples)
        facts = _facts(plan, row, hearts, pulse, beats, peaks, rate)
        batch.r_peaks.append(peaks)
        batch.measurements.append(facts)
        batch.reports.append(write_report(plan, row, record_codes, facts, int(pulse.conduction[row]), seed))


def _sample_indices(times: FloatArray, rate: float, samples: int) -> npt.NDArray[np.int64]:
    indices = np.round(times * rate).astype(np.int64)
    return indices[(indices >= 0) & (indices < samples)]


def _facts(
    plan: Plan,
    row: int,
    hearts: Hearts,
    pulse: Pulse,
    beats: Beats,
    peaks: npt.NDArray[np.int64],
    rate: float,
) -> Measurements:
    intervals = len(peaks) - 1
    bpm = 60.0 * rate * intervals / float(peaks[-1] - peaks[0]) if intervals > 0 else float(pulse.rate[row])
    has_p = bool(np.any(hearts.p[row, 0]))
    return measurements(
        bpm,
        float(hearts.pr[row]) if has_p else None,
        float(hearts.usual.duration[row]),
        float(hearts.qtc[row]),
        float(hearts.axis[row]),
    )
