"""Beat morphologies: what each finding does to the P, QRS, ST and T vectors, and the intervals.

A QRS complex is five kernels, each a direction of the dipole with a place and a width given as fractions of
the QRS duration; ST and T are two kernels, the P wave two (right and left atrium). Findings choose or change
these, then amplitudes are calibrated on the complex as the leads see it: voltage criteria hold by
construction, not by luck.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ecg_hf.signal.synthetic.dipole import LEAD_FIELD, flat_top
from ecg_hf.signal.synthetic.draws import Draws, FloatArray
from ecg_hf.signal.synthetic.findings import Plan, Stage, Territory

__all__ = ["Complexes", "Hearts", "make_hearts"]

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class _Shape:
    """A ventricular activation: kernel places and widths (fractions of QRS), directions, ST and T vectors."""

    places: tuple[float, ...]
    widths: tuple[float, ...]
    vectors: tuple[tuple[float, float, float], ...]
    st: tuple[float, float, float]
    t: tuple[float, float, float]


_SHAPES: dict[str, _Shape] = {
    "normal": _Shape(
        (0.22, 0.40, 0.53, 0.68, 0.82),
        (0.075, 0.085, 0.085, 0.080, 0.070),
        ((-0.12, -0.03, 0.17), (0.34, 0.36, 0.12), (0.66, 0.46, -0.38), (0.00, -0.06, -0.44), (-0.10, -0.12, -0.15)),
        (0.015, 0.010, 0.020),
        (0.22, 0.20, 0.135),
    ),
    "CLBBB": _Shape(
        (0.13, 0.32, 0.50, 0.67, 0.82),
        (0.055, 0.100, 0.110, 0.100, 0.075),
        ((0.10, 0.04, 0.07), (0.62, 0.22, -0.45), (0.52, 0.16, -0.85), (0.66, 0.10, -0.50), (0.20, 0.00, -0.12)),
        (-0.09, -0.02, 0.17),
        (-0.27, -0.06, 0.34),
    ),
    "CRBBB": _Shape(
        (0.13, 0.26, 0.35, 0.47, 0.74),
        (0.050, 0.055, 0.060, 0.065, 0.105),
        ((-0.11, -0.03, 0.17), (0.34, 0.34, 0.12), (0.62, 0.44, -0.30), (0.02, -0.06, -0.22), (-0.40, -0.04, 0.56)),
        (0.01, 0.01, -0.03),
        (0.25, 0.22, -0.14),
    ),
    "LAFB": _Shape(
        (0.20, 0.38, 0.54, 0.70, 0.84),
        (0.075, 0.085, 0.085, 0.080, 0.060),
        ((-0.16, 0.30, 0.14), (0.34, 0.16, 0.16), (0.62, -0.70, -0.28), (0.10, -0.46, -0.36), (-0.06, -0.10, -0.10)),
        (0.010, 0.010, 0.015),
        (0.20, 0.20, 0.14),
    ),
    "LVH": _Shape(
        (0.20, 0.38, 0.53, 0.68, 0.83),
        (0.070, 0.085, 0.090, 0.085, 0.065),
        ((-0.16, -0.04, 0.20), (0.40, 0.32, 0.05), (0.95, 0.46, -0.78), (0.14, -0.04, -0.66), (-0.06, -0.06, -0.12)),
        (0.010, 0.010, 0.050),
        (0.20, 0.18, 0.20),
    ),
    "RVH": _Shape(
        (0.20, 0.38, 0.54, 0.70, 0.85),
        (0.070, 0.085, 0.090, 0.080, 0.060),
        ((-0.02, -0.02, 0.10), (0.34, 0.38, 0.34), (-0.50, 0.58, 0.50), (-0.42, 0.16, -0.04), (-0.10, -0.06, -0.06)),
        (0.000, 0.000, -0.010),
        (0.14, 0.20, 0.08),
    ),
    "PACE": _Shape(
        (0.16, 0.34, 0.51, 0.68, 0.83),
        (0.080, 0.100, 0.110, 0.100, 0.070),
        ((0.12, -0.16, -0.1), (0.34, -0.66, -0.46), (0.30, -0.84, -0.7), (0.22, -0.56, -0.52), (0.06, -0.14, -0.1)),
        (-0.07, 0.15, 0.13),
        (-0.16, 0.40, 0.34),
    ),
}  # fmt: skip
_SHAPE_NAMES = tuple(_SHAPES)

# Premature ventricular beats: right outflow tract, right apex, left lateral wall, left inferior wall.
_PVC_DIRECTIONS: FloatArray = np.asarray(
    [[0.25, 0.95, -0.55], [0.55, -0.75, -0.60], [-0.85, 0.30, 0.60], [-0.35, -0.95, 0.60]]
)
_PVC_PLACES = np.asarray([0.16, 0.34, 0.51, 0.68, 0.83])
_PVC_WIDTHS = np.asarray([0.080, 0.100, 0.110, 0.100, 0.070])
_PVC_COURSE = np.asarray([0.20, 0.75, 1.0, 0.60, 0.15])

# T wave components that an inverted territory takes away and replaces by their opposite.
_TERRITORY_T = {
    Territory.ANTERIOR: (0.02, 0.02, -0.42),
    Territory.INFERIOR: (0.10, -0.42, 0.02),
    Territory.LATERAL: (-0.46, 0.02, 0.06),
}
_TERRITORY_ST = {
    Territory.ANTERIOR: (-0.03, -0.02, -0.13),
    Territory.INFERIOR: (0.00, -0.15, -0.03),
    Territory.LATERAL: (-0.15, -0.05, -0.05),
}
_INFARCT_STEPS = {
    # finding: initial (Q) vector, damping of the other kernels' (x, y, z), what is lost, ST vector, T vector
    "AMI": ((0.00, 0.00, -0.38), (1.0, 0.95, 1.0), (-0.08, 0.00, -0.28), (0.03, 0.00, 0.22), (0.06, 0.06, -0.30)),
    "IMI": ((-0.02, -0.46, 0.12), (1.0, 0.55, 1.0), (0.00, -0.05, 0.06), (-0.08, 0.21, -0.02), (0.22, -0.26, 0.16)),
    "LMI": ((-0.36, 0.06, 0.06), (0.74, 0.95, 1.0), (-0.08, 0.02, 0.00), (0.18, -0.07, 0.03), (-0.28, 0.16, 0.16)),
}  # fmt: skip


@dataclass(slots=True)
class Complexes:
    """One kind of ventricular complex per record: kernels seen by the eight independent leads.

    Attributes:
        duration: QRS duration in seconds, ``(n,)``.
        places: Kernel centres after QRS onset as fractions of the duration, ``(n, 5)``.
        widths: Standard deviations as fractions of the duration, ``(n, 5)``.
        qrs: Amplitudes in mV, ``(n, 8, 5)``.
        st_t: Amplitudes of the ST plateau and the T wave in mV, ``(n, 8, 2)``.
        peak: Seconds from QRS onset to the R peak: the greatest root mean square over leads, ``(n,)``.
    """

    duration: FloatArray
    places: FloatArray
    widths: FloatArray
    qrs: FloatArray
    st_t: FloatArray
    peak: FloatArray = field(default_factory=lambda: np.empty(0))


@dataclass(slots=True)
class Hearts:
    """Everything about the beats of a batch that does not change from beat to beat.

    Attributes:
        usual: The conducted (or paced) complex.
        premature: The premature ventricular complex.
        p: Atrial amplitudes in mV of the sinus P and an ectopic P, ``(n, 2, 8, 2)``.
        p_duration: Seconds, ``(n,)``.
        p_places: Centres of the atrial kernels as fractions of the P duration, ``(n, 2)``.
        pr: PR interval in seconds, ``(n,)``.
        qtc: QT interval at one second RR (Fridericia) in seconds, ``(n,)``.
        axis: Frontal QRS axis in degrees, from net areas, ``(n,)``.
        lead_field: Each person's lead field, ``(n, 8, 3)``.
    """

    usual: Complexes
    premature: Complexes
    p: FloatArray
    p_duration: FloatArray
    p_places: FloatArray
    pr: FloatArray
    qtc: FloatArray
    axis: FloatArray
    lead_field: FloatArray


def make_hearts(plan: Plan, heart_rate: FloatArray) -> Hearts:
    """Draw the morphology of every record of ``plan``.

    Args:
        plan: What the records show.
        heart_rate: Mean rate in beats per minute, which shortens PR.
    """
    person, record = plan.patient_draws, plan.draws
    lead_field = _lead_fields(person, len(plan))
    field_gain = np.exp(0.04 * record.normals(8))[:, :, None]  # electrodes never sit twice the same
    lead_field = lead_field * np.concatenate([np.ones((len(plan), 2, 1)), field_gain[:, 2:]], axis=1)

    duration = _qrs_durations(plan)
    qtc = _corrected_qt(plan, duration)
    places, widths, vectors, st, t = _ventricular_vectors(plan)
    local = 0.05 * np.concatenate(
        [np.zeros((len(plan), 2, 5)), person.normals(30).reshape(-1, 6, 5)], axis=1
    )  # what the dipole can't express: electrodes near the heart
    usual = Complexes(duration, places, widths, _project(lead_field, vectors) + local, np.empty(0))
    scale, chest = _calibrate(plan, usual, record, person)
    usual.qrs = usual.qrs * scale[:, None, None] * chest[:, :, None]
    # Repolarisation secondary to a wide or tall complex grows with it; primary T waves only in part.
    secondary = plan.has("CLBBB", "PACE") | (plan.has("LVH") & plan.strain)
    st_scale = np.where(secondary, np.clip(scale, 0.5, 1.6), 1.0)
    t_scale = np.where(secondary, np.clip(scale, 0.5, 1.6), np.clip(0.55 + 0.45 * scale, 0.35, 1.35))
    low = plan.has("LVOLT")
    st_scale, t_scale = np.where(low, 0.6 * st_scale, st_scale), np.where(low, 0.38, t_scale)
    usual.st_t = np.stack(
        [
            np.matmul(lead_field, (st * st_scale[:, None])[:, :, None])[:, :, 0],
            np.matmul(lead_field, (t * t_scale[:, None])[:, :, None])[:, :, 0],
        ],
        axis=2,
    )
    usual.st_t = usual.st_t * chest[:, :, None]
    usual.peak = _peak_time(usual)
    premature = _premature(plan, lead_field, usual)
    p, p_duration, p_places = _atrial(plan, lead_field)
    pr = _pr_interval(plan, heart_rate, p_duration)
    return Hearts(usual, premature, p, p_duration, p_places, pr, qtc, _frontal_axis(usual), lead_field)


def _project(lead_field: FloatArray, vectors: FloatArray) -> FloatArray:
    """``(n, 8, k)`` lead amplitudes of ``(n, k, 3)`` vectors."""
    leads: FloatArray = np.matmul(lead_field, np.ascontiguousarray(np.swapaxes(vectors, 1, 2)))
    return leads


def _lead_fields(person: Draws, count: int) -> FloatArray:
    """Each person's chest electrodes: displaced and with another gain. Limb leads stay Einthoven's."""
    displaced = 0.06 * person.normals(18).reshape(count, 6, 3)
    gain = np.exp(0.10 * person.normals(6))[:, :, None]
    chest = (LEAD_FIELD[2:] + displaced) * gain
    return np.concatenate([np.broadcast_to(LEAD_FIELD[:2], (count, 2, 3)), chest], axis=1)


def _qrs_durations(plan: Plan) -> FloatArray:
    draw = plan.patient_draws
    spread = draw.normal()
    usual = np.clip(0.090 - 0.005 * plan.female + 0.007 * spread, 0.074, 0.106)
    wide = {"CLBBB": (0.148, 0.010), "CRBBB": (0.138, 0.008), "PACE": (0.165, 0.010)}
    slow = {"LAFB": (0.104, 0.005), "LVH": (0.104, 0.005), "RVH": (0.098, 0.006)}
    for name, (mean, deviation) in (wide | slow).items():
        usual = np.where(plan.has(name), mean + deviation * np.clip(spread, -2.0, 2.0), usual)
    return np.where(plan.infarct & (usual < 0.098), 0.098 + 0.004 * spread / 3.0, usual)


def _corrected_qt(plan: Plan, duration: FloatArray) -> FloatArray:
    spread = plan.draws.normal()
    usual = 0.402 + 0.010 * plan.female + 0.00018 * (plan.ages - 55.0) + 0.013 * spread
    usual = np.clip(usual, 0.365, 0.438) + 0.75 * np.maximum(duration - 0.110, 0.0)
    return np.where(plan.has("LNGQT"), 0.515 + 0.014 * spread, usual)


def _rotate_frontal(vectors: FloatArray, angle: FloatArray) -> FloatArray:
    """Rotate ``(n, k, 3)`` vectors in the frontal plane by ``(n,)`` radians towards the feet."""
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    x, y = vectors[:, :, 0], vectors[:, :, 1]
    return np.stack([x * cos - y * sin, x * sin + y * cos, vectors[:, :, 2]], axis=2)


def _target_axis(plan: Plan) -> FloatArray:
    """Frontal axis in degrees before an infarct changes it."""
    lean = plan.patient_draws.normal()
    axis = np.clip(62.0 - 0.55 * (plan.ages - 25.0) + 16.0 * lean, -22.0, 84.0)
    axis = np.where(plan.infarct, np.clip(axis, 0.0, 60.0), axis)
    axis = np.where(plan.has("LMI"), np.clip(axis, -5.0, 28.0), axis)
    axis = np.where(plan.has("CLBBB"), -8.0 + 14.0 * lean, axis)
    axis = np.where(plan.has("LVH"), np.clip(axis - 10.0, -25.0, 60.0), axis)
    axis = np.where(plan.has("LAFB"), -58.0 + 5.0 * lean, axis)
    axis = np.where(plan.has("RVH"), 122.0 + 9.0 * lean, axis)
    return np.where(plan.has("PACE"), -72.0 + 8.0 * lean, axis)


def _ventricular_vectors(plan: Plan) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray, FloatArray]:
    """Places, widths ``(n, 5)``, vectors ``(n, 5, 3)``, ST and T vectors ``(n, 3)`` of the usual complex."""
    record, person = plan.draws, plan.patient_draws
    shape = np.zeros(len(plan), dtype=np.int64)
    for number, name in enumerate(_SHAPE_NAMES):
        if name != "normal":
            shape[plan.has(name)] = number
    shapes = list(_SHAPES.values())
    places = np.asarray([s.places for s in shapes])[shape]
    widths = np.asarray([s.widths for s in shapes])[shape] * np.exp(0.05 * person.normals(5))
    vectors = np.asarray([s.vectors for s in shapes])[shape]
    st = np.asarray([s.st for s in shapes])[shape]
    t = np.asarray([s.t for s in shapes])[shape]

    vectors = vectors * np.exp(0.13 * person.normals(5))[:, :, None]
    vectors = vectors + 0.022 * person.normals(15).reshape(-1, 5, 3)
    area = np.matmul(widths[:, None, :], vectors)[:, 0, :]
    turn = np.radians(_target_axis(plan)) - np.arctan2(area[:, 1], area[:, 0])
    turn = np.arctan2(np.sin(turn), np.cos(turn))
    vectors = _rotate_frontal(vectors, turn)
    follow = np.where(plan.has("CLBBB", "PACE", "LAFB", "RVH"), 0.15, 0.45)
    t = _rotate_frontal(t[:, None, :], turn * follow)[:, 0, :]

    height = np.clip(1.05 - 0.18 * plan.female - 0.003 * (plan.ages - 55.0), 0.7, 1.2)
    t = t * (height * np.exp(0.16 * record.normal()))[:, None] + 0.02 * record.normals(3)
    st = st + 0.008 * record.normals(3)
    # Young men carry some ST elevation in V2-V4.
    young = np.clip((45.0 - plan.ages) / 25.0, 0.0, 1.0) * ~plan.female * (shape == 0)
    st[:, 2] += 0.045 * young

    places, widths, vectors, st, t = _infarcts(plan, places, widths, vectors, st, t)
    st, t = _repolarisation(plan, st, t)
    return places, widths, vectors, st, t


def _infarcts(
    plan: Plan, places: FloatArray, widths: FloatArray, vectors: FloatArray, st: FloatArray, t: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray, FloatArray]:
    """Pathological Q waves, lost R waves, and the ST-T changes of the infarct's stage."""
    strength = np.exp(0.14 * plan.draws.normal())[:, None]
    early = np.where(plan.has("CRBBB"), 0.13, 0.20)
    depth = np.where(plan.stage == Stage.ACUTE, 0.85, 1.0)[:, None] * strength
    for name, (q, damping, lost, injury, t_vector) in _INFARCT_STEPS.items():
        here = plan.has(name)
        if not here.any():
            continue
        changed = vectors * np.asarray(damping)
        changed[:, 0] = np.asarray(q) * depth
        changed[:, 1] = changed[:, 1] + np.asarray(lost) * depth
        vectors = np.where(here[:, None, None], changed, vectors)
        places[here, 0] = early[here]
        widths[:, 0] = np.where(here, np.where(plan.has("CRBBB"), 0.075, 0.105), widths[:, 0])
        acute = (here & (plan.stage == Stage.ACUTE))[:, None]
        recent = (here & (plan.stage == Stage.RECENT))[:, None]
        old = (here & (plan.stage == Stage.OLD))[:, None]
        st = st + np.where(acute, np.asarray(injury) * strength, 0.0)
        st = st + np.where(recent, 0.2 * np.asarray(injury) * strength, 0.0)
        t = np.where(acute, 0.7 * t + 0.8 * np.asarray(injury) * strength, t)
        t = np.where(recent, np.asarray(t_vector) * strength, t)
        t = np.where(old, 0.55 * t + 0.15 * np.asarray(t_vector), t)
    return places, widths, vectors, st, t


def _repolarisation(plan: Plan, st: FloatArray, t: FloatArray) -> tuple[FloatArray, FloatArray]:
    """ST depression, T inversion, flat T waves, and the strain of hypertrophy."""
    depth = np.exp(0.2 * plan.draws.normal())[:, None]
    st_vectors = np.asarray([_TERRITORY_ST[x] for x in Territory])[plan.territory]
    t_vectors = np.asarray([_TERRITORY_T[x] for x in Territory])[plan.territory]
    depressed = plan.has("STD_", "ISC_")[:, None]
    st = np.where(depressed, st_vectors * depth, st)
    t = np.where(plan.has("STD_")[:, None], 0.45 * t, t)
    inverted = plan.has("INVT")[:, None]
    # Take away the T wave along the territory's direction, then point it the other way.
    direction = t_vectors / np.sqrt(np.square(t_vectors).sum(axis=1, keepdims=True))
    along = (t * direction).sum(axis=1, keepdims=True)
    t = np.where(inverted, 0.9 * (t - along * direction) + 0.62 * t_vectors * depth, t)
    t = np.where(plan.has("ISC_")[:, None], 0.5 * (t - along * direction) + 0.45 * t_vectors * depth, t)
    t = np.where(plan.has("NDT")[:, None], 0.14 * t + np.asarray([-0.015, 0.0, 0.015]), t)
    left = (plan.has("LVH") & plan.strain)[:, None]
    st = np.where(left, np.asarray([-0.09, -0.03, 0.06]) * depth, st)
    t = np.where(left, np.asarray([-0.20, -0.04, 0.16]) * depth, t)
    right = (plan.has("RVH") & plan.strain)[:, None]
    st = np.where(right, np.asarray([0.0, -0.02, -0.05]) * depth, st)
    t = np.where(right, np.asarray([0.18, 0.08, -0.26]) * depth, t)
    return st, t


def _sample(complexes: Complexes, step: float = 0.002, stop: float = 0.2) -> FloatArray:
    """``(n, 8, times)`` the QRS alone on a fine grid from onset."""
    time = np.arange(0.0, stop, step)
    duration = complexes.duration[:, None, None]
    width = complexes.widths[:, :, None] * duration
    kernels = flat_top(time, complexes.places[:, :, None] * duration, width, width)
    leads: FloatArray = np.matmul(complexes.qrs, kernels)
    return leads


def _peak_time(complexes: Complexes) -> FloatArray:
    power = np.square(_sample(complexes)).sum(axis=1)
    peak: FloatArray = power.argmax(axis=1) * 0.002
    return peak


def _limb_peak_to_peak(wave: FloatArray) -> FloatArray:
    """``(n,)`` greatest peak-to-peak of the six limb leads of ``(n, 8, times)``."""
    one, two = wave[:, 0], wave[:, 1]
    limb = np.stack([one, two, two - one, 0.5 * (one + two), one - 0.5 * two, two - 0.5 * one], axis=1)
    height: FloatArray = np.ptp(limb, axis=2).max(axis=1)
    return height


def _calibrate(plan: Plan, usual: Complexes, record: Draws, person: Draws) -> tuple[FloatArray, FloatArray]:
    """QRS scale ``(n,)`` and further gain of each lead ``(n, 8)`` that put voltages where the codes say."""
    wave = _sample(usual)
    limb = _limb_peak_to_peak(wave)
    sokolow = -wave[:, 2].min(axis=1) + wave[:, 6:8].max(axis=(1, 2))
    thin = np.clip(1.0 - 0.10 * plan.female - 0.003 * (plan.ages - 50.0), 0.75, 1.2)
    wish = np.clip(1.28 * thin * np.exp(0.2 * person.normal()), 0.78, 2.1)
    scale = wish / limb
    bounded = ~plan.has("LVH", "CLBBB", "PACE", "RVH")
    scale = np.where(bounded, np.minimum(scale, 3.1 / sokolow), scale)

    tall = (3.9 + 0.9 * record.uniform()) / np.maximum(sokolow, 0.3)
    scale = np.where(plan.has("LVH"), tall, scale)
    broad = (1.5 + 0.8 * record.uniform()) / np.maximum(-wave[:, 2:4].min(axis=(1, 2)), 0.3)
    scale = np.where(plan.has("CLBBB"), np.maximum(broad, 0.75 / limb), scale)
    right = (0.75 + 0.5 * record.uniform()) / np.maximum(wave[:, 2].max(axis=1), 0.2)
    scale = np.where(plan.has("RVH"), right, scale)
    low = (0.28 + 0.14 * record.uniform()) / limb
    is_low = plan.has("LVOLT")
    scale = np.where(is_low, low, scale)

    chest_height = np.ptp(wave[:, 2:], axis=2).max(axis=1) * scale
    ceiling = np.where(is_low, 0.70 + 0.2 * record.uniform(), 4.2)
    chest = np.where(is_low, ceiling / chest_height, np.minimum(1.0, ceiling / chest_height))
    gains = np.concatenate([np.ones((len(plan), 2)), np.repeat(chest[:, None], 6, axis=1)], axis=1)
    return scale, gains


def _premature(plan: Plan, lead_field: FloatArray, usual: Complexes) -> Complexes:
    """A broad complex from one of four sites, the one least like the usual complex or the next."""
    record = plan.draws
    count = len(plan)
    mean = np.matmul(usual.widths[:, None, :], np.swapaxes(usual.qrs, 1, 2))[:, 0, :]
    sites = np.matmul(lead_field, np.ascontiguousarray(_PVC_DIRECTIONS.T))
    likeness = (sites * mean[:, :, None]).sum(axis=1) / np.sqrt(np.square(sites).sum(axis=1))
    order = np.argsort(likeness, axis=1)
    site = order[np.arange(count), record.chance(0.4).astype(np.int64)]
    direction = _PVC_DIRECTIONS[site] + 0.12 * record.normals(3)
    size = 0.95 + 0.4 * record.uniform()
    size = np.where(plan.has("LVOLT"), 0.55 * size, size)
    bend = 0.15 * record.normals(15).reshape(count, 5, 3)
    vectors = (direction[:, None, :] + bend) * _PVC_COURSE[None, :, None] * size[:, None, None]
    premature = Complexes(
        duration=0.150 + 0.025 * record.uniform(),
        places=np.tile(_PVC_PLACES, (count, 1)),
        widths=np.tile(_PVC_WIDTHS, (count, 1)),
        qrs=_project(lead_field, vectors),
        st_t=_project(
            lead_field, np.stack([-0.10 * direction, -0.42 * direction], axis=1) * size[:, None, None]
        ),
    )
    premature.peak = _peak_time(premature)
    return premature


def _atrial(plan: Plan, lead_field: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """P amplitudes ``(n, 2, 8, 2)``, duration ``(n,)`` and kernel places ``(n, 2)``."""
    person, record = plan.patient_draws, plan.draws
    left = plan.has("LAO/LAE")
    duration = np.where(left, 0.136 + 0.004 * person.normal(), 0.102 + 0.005 * person.normal())
    place = np.where(left, 0.26, 0.36)
    right_atrium = np.asarray([0.045, 0.095, 0.050]) + 0.010 * person.normals(3)
    left_atrium = np.asarray([0.065, 0.050, -0.055]) + 0.010 * person.normals(3)
    left_atrium = np.where(
        left[:, None], np.asarray([0.105, 0.080, -0.150]) * np.ones((len(plan), 1)), left_atrium
    )
    size = (np.where(plan.has("LVOLT"), 0.7, 1.0) * np.exp(0.15 * person.normal()))[:, None, None]
    sinus = np.stack([right_atrium, left_atrium], axis=1) * size
    # An ectopic focus low in the atria, or in the left one.
    focus = np.stack(
        [0.025 - 0.06 * record.chance(0.4), -0.075 - 0.03 * record.uniform(), np.full(len(plan), 0.03)], 1
    )
    ectopic = np.stack([focus, 0.7 * focus], axis=1) * size
    amplitudes = np.stack([_project(lead_field, sinus), _project(lead_field, ectopic)], axis=1)
    hidden = plan.has("AFIB", "AFLT") | (plan.has("PACE") & record.chance(0.4))
    amplitudes = np.where(hidden[:, None, None, None], 0.0, amplitudes)
    return amplitudes, duration, np.stack([place, 1.0 - place], axis=1)


def _pr_interval(plan: Plan, heart_rate: FloatArray, p_duration: FloatArray) -> FloatArray:
    draw = plan.draws
    usual = 0.158 - 0.0004 * (heart_rate - 70.0) + 0.014 * plan.patient_draws.normal()
    usual = np.clip(usual, np.maximum(0.124, p_duration + 0.022), 0.192)
    long = 0.222 + 0.10 * draw.uniform()
    long = np.minimum(long, 0.22 + 0.45 * np.maximum(60.0 / heart_rate - 0.60, 0.0))
    return np.where(plan.has("1AVB"), long, usual)


def _frontal_axis(usual: Complexes) -> FloatArray:
    """Degrees from lead I towards the feet, by the net areas of I and aVF."""
    area = np.matmul(usual.widths[:, None, :], np.swapaxes(usual.qrs, 1, 2))[:, 0, :]
    down = (area[:, 1] - 0.5 * area[:, 0]) / 0.866
    axis: FloatArray = np.degrees(np.arctan2(down, area[:, 0]))
    return axis
