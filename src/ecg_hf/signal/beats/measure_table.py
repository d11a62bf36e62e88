"""The 359 hand-made features, one by one: names with their units, and what each of them is."""

from __future__ import annotations

from ecg_hf.signal.beats.rr_statistics import RR_STATISTICS
from ecg_hf.signal.leads import STANDARD_LEADS

__all__ = [
    "BEAT_FEATURES",
    "DEMOGRAPHIC_FEATURES",
    "GLOBAL_FEATURES",
    "RECORD_FEATURES",
    "describe_features",
    "feature_names",
]

BEAT_FEATURES: dict[str, str] = {
    "q_mv": "deepest value before the R peak within the QRS complex, at most 0",
    "r_mv": "highest value within the QRS complex, at least 0",
    "s_mv": "deepest value after the R peak within the QRS complex, at most 0",
    "r_prime_mv": "highest value after the S wave within the QRS complex, at least 0",
    "qrs_peak_to_peak_mv": "highest minus deepest value of the QRS complex",
    "qrs_net_area_mv_ms": "signed area of the QRS complex",
    "qrs_absolute_area_mv_ms": "area of its magnitude",
    "r_time_ms": "QRS onset to R peak (intrinsicoid deflection)",
    "q_duration_ms": "time before the R peak spent below -0.03 mV: width of the Q wave or of a QS complex",
    "qrs_turns": "slope reversals of more than 0.05 mV within the QRS complex: notches and fragments",
    "j_mv": "level at the J point",
    "st_40_mv": "level 40 ms after the J point",
    "st_80_mv": "level 80 ms after the J point",
    "st_slope_mv_per_s": "straight line from the J point to 80 ms after it",
    "t_max_mv": "highest value between 80 ms after the J point and the end of the T wave",
    "t_min_mv": "deepest value there",
    "t_area_mv_ms": "signed area there",
    "t_peak_ms": "QRS onset to the largest magnitude there",
    "p_max_mv": "highest value of the P wave over the line between its ends",
    "p_min_mv": "deepest value of it under that line",
}
"""Per lead, of the median beat; levels are relative to the 20 ms before the QRS onset."""

RECORD_FEATURES: dict[str, str] = {
    "sd_mv": "standard deviation of the filtered recording",
    "range_mv": "its 99th minus its 1st percentile",
    "log_wander": "log10 of the power below 0.5 Hz in mV^2: baseline wander",
    "log_noise": "log10 of the mean square second difference at 250 Hz in mV^2: muscle noise, mains",
    "log_residual": "log10 of the power in mV^2 outside QRS complexes that the median beat leaves unexplained",
    "atrial_share": "share of that power between 4 and 10 Hz: fibrillation and flutter waves",
}
"""Per lead, of the whole recording."""

GLOBAL_FEATURES: dict[str, str] = {
    "qrs_ms": "QRS duration over all leads",
    "pr_ms": "P onset to QRS onset",
    "p_ms": "P duration",
    "qt_ms": "QRS onset to T end (tangent on the magnitude over leads)",
    "qtc_fridericia_ms": "QT / RR^(1/3), RR in seconds",
    "jt_peak_ms": "J point to T peak",
    "p_prominence_log": "log10 of the P peak over the quietest part of its surroundings, magnitudes over leads",
    "qrs_axis_cos": "cosine of the frontal QRS axis, from the net areas in I and aVF",
    "qrs_axis_sin": "its sine: negative for a left axis beyond 0 degrees",
    "t_axis_cos": "cosine of the frontal T axis, from the T areas in I and aVF",
    "t_axis_sin": "its sine",
    "p_axis_cos": "cosine of the frontal P axis, from the P peaks in I and aVF",
    "p_axis_sin": "its sine",
    "qrs_t_angle_deg": "angle between the frontal QRS and T axes, 0 to 180 degrees",
    "sokolow_lyon_mv": "S in V1 plus the larger R of V5 and V6",
    "cornell_mv": "R in aVL plus S in V3",
    "cornell_product_mv_ms": "that times the QRS duration",
    "limb_voltage_mv": "largest QRS peak-to-peak amplitude of the limb leads",
    "chest_voltage_mv": "largest QRS peak-to-peak amplitude of the chest leads",
    "transition_lead": "number of the first chest lead with R larger than S, 1 to 7 (7: none)",
    "v1_r_balance": "(R - S) / (R + S) in V1, magnitudes, -1 to 1",
    "v6_r_balance": "the same in V6",
    "p_terminal_v1_mv": "level of V1 in the second half of the P wave",
    "beat_similarity": "median correlation of single QRS complexes with the median one",
    "deviating_share": "share of beats that correlate less than 0.85",
    "premature_wide_share": "share of beats that deviate and come before 0.88 of the median interval",
    "premature_narrow_share": "share of beats that do not deviate and come before it",
    "p_consistency": "median correlation of single beats with the median one from P onset to QRS onset, all leads",
    "st_elevation_mv": "largest level 40 ms after the J point, aVR apart",
    "st_depression_mv": "deepest level 80 ms after the J point, aVR apart",
}
"""Of all leads together."""

DEMOGRAPHIC_FEATURES: dict[str, str] = {
    "age_years": "age",
    "is_female": "1 for female, 0 for male",
}
"""Not signal, and left out unless asked for."""


def feature_names(demographics: bool = False) -> tuple[str, ...]:
    """Names of the columns in order: ``rate_bpm`` ..., ``I_q_mv`` ..., ``I_sd_mv`` ..., ``qrs_ms`` ....

    Args:
        demographics: Append age and sex.
    """
    return tuple(describe_features(demographics))


def describe_features(demographics: bool = False) -> dict[str, str]:
    """Every feature's name and what it is, in the order of the columns.

    Args:
        demographics: Append age and sex.
    """
    table = dict(RR_STATISTICS)
    for group in (BEAT_FEATURES, RECORD_FEATURES):
        table.update(
            {f"{lead}_{name}": f"{lead}: {text}" for lead in STANDARD_LEADS for name, text in group.items()}
        )
    table.update(GLOBAL_FEATURES)
    return {**table, **DEMOGRAPHIC_FEATURES} if demographics else table
