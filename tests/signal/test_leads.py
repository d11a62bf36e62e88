from __future__ import annotations

import itertools

import numpy as np
import pytest

from ecg_hf.errors import LeadError, SignalError
from ecg_hf.signal import LIMB_LEADS, STANDARD_LEADS, arrange_leads, normalize_lead_name, normalize_lead_names
from ecg_hf.signal.leads import derivation_weights


@pytest.mark.parametrize(
    ("written", "canonical"),
    [  # row 53 of the table of bad inputs
        ("I", "I"), ("i", "I"), (" II ", "II"), ("iii", "III"), ("III\r", "III"), ("AVR", "aVR"), ("avr", "aVR"),
        ("aVR", "aVR"), ("Avl", "aVL"), ("AVF", "aVF"), ("v1", "V1"), ("V1 ", "V1"), ("v6", "V6"), ("V 3", "V3"),
        ("Lead aVR", "aVR"), ("lead_avr", "aVR"), ("Lead II", "II"), ("lead_ii", "II"), ("LEAD I", "I"),
        ("lead-V2", "V2"), ("Lead: V4", "V4"), ("aVR (aug)", "aVR"), ("II (mV)", "II"), ("V5 [mV]", "V5"),
        ("MDC_ECG_LEAD_AVR", "aVR"), ("MDC_ECG_LEAD_I", "I"), ("MDC_ECG_LEAD_V6", "V6"), ("mdc_ecg_lead_avf", "aVF"),
        ("ECG_V3", "V3"), ("ECG lead II", "II"), ("DI", "I"), ("DII", "II"), ("diii", "III"),
        ("C1", "V1"), ("c6", "V6"), ("C3 [mV]", "V3"), ("ECG C2", "V2"), ("MDC_ECG_LEAD_C1", "V1"), ("V1 (C1)", "V1"),
        ("D1", "I"), ("d2", "II"), ("D 3", "III"), ("Lead D2", "II"), ("EKG I", "I"), ("EKG aVR", "aVR"),
        ("ekg-v4", "V4"), ("I lead", "I"), ("Ableitung II", "II"), ("Lead I (Einthoven)", "I"), ("\u2161", "II"),
        ("5.6.3-9-1", "I"), ("5.6.3-9-64", "aVF"), ("5.6.3-9-3", "V1"), ("2:2", "II"), ("2:61", "III"),
        ("SCP V5", "V5"), ("MDC_ECG_ELEC_POTL_V2", "V2"),
        # not standard leads, kept as they are
        ("MLI", "MLI"), ("MLIII", "MLIII"), ("MCL1", "MCL1"), ("X", "X"), ("Y", "Y"), ("Z", "Z"), ("C7", "C7"),
        ("C4-A1", "C4-A1"), ("CM5", "CM5"), ("D4", "D4"), ("Lead 1", "Lead 1"), ("1", "1"),
        ("MLII", "MLII"), ("-aVR", "-aVR"), ("V1-V2", "V1-V2"), ("vx", "vx"), ("V7", "V7"), ("V3R", "V3R"),
        ("ABP", "ABP"), ("lead", "lead"), ("ECG", "ECG"), ("Resp Wave", "Resp Wave"), ("V10", "V10"),
        ("(aug)", "(aug)"),
    ],
)  # fmt: skip
def test_normalize_lead_name(written, canonical):
    assert normalize_lead_name(written) == canonical
    assert normalize_lead_name(canonical) == canonical


@pytest.mark.parametrize(
    "names", [("I", None), ("I", ""), ("I", "  "), ("I", "i"), ("aVR", "II", "Lead AVR"), (1, 2)]
)
def test_unusable_names(names):
    with pytest.raises(LeadError):
        normalize_lead_names(names)


def test_electrodes_of_an_eeg_are_no_chest_electrodes():
    assert normalize_lead_names(("C3", "C4", "I")) == ("V3", "V4", "I")
    assert normalize_lead_names(("C3", "O1", "C4", "I")) == ("C3", "O1", "C4", "I")
    assert normalize_lead_names(("C3", "EEG Fpz", "d1")) == ("C3", "EEG Fpz", "I")


@pytest.mark.parametrize("names", ["II", b"II", 5, None, [["I"]]])
def test_what_is_no_list_of_names(names):
    with pytest.raises(LeadError):
        normalize_lead_names(names)


def twelve_leads(samples: int = 50) -> np.ndarray:
    signal = np.random.default_rng(0).standard_normal((12, samples))
    one, two = signal[:2]
    signal[2:6] = two - one, -(one + two) / 2, one - two / 2, two - one / 2
    return signal


@pytest.mark.parametrize("pair", itertools.combinations(LIMB_LEADS, 2))
def test_any_two_limb_leads_give_the_others(pair):
    signal = twelve_leads()
    rows = [STANDARD_LEADS.index(name) for name in pair]
    arranged, present, derived = arrange_leads(signal[rows], pair, STANDARD_LEADS)
    np.testing.assert_allclose(arranged[:6], signal[:6], atol=1e-12)
    assert present.tolist() == [True] * 6 + [False] * 6
    assert derived == tuple(name for name in LIMB_LEADS if name not in pair)
    assert not arranged[6:].any()


def test_classic_weights():
    have = ("I", "II", "V1")
    assert derivation_weights("III", have) == {"I": -1.0, "II": 1.0}
    assert derivation_weights("aVR", have) == {"I": -0.5, "II": -0.5}
    assert derivation_weights("aVL", have) == {"I": 1.0, "II": -0.5}
    assert derivation_weights("aVF", have) == {"I": -0.5, "II": 1.0}
    assert derivation_weights("V2", have) is None
    assert derivation_weights("III", ("II", "V1")) is None


def test_batches_order_and_no_copy():
    batch = np.stack([twelve_leads().astype(np.float32)] * 3)
    same, present, derived = arrange_leads(batch, STANDARD_LEADS, STANDARD_LEADS)
    assert same is batch
    assert present.all()
    assert derived == ()
    wanted = ("V6", "aVF", "I")
    picked, _, _ = arrange_leads(batch, [name.lower() for name in STANDARD_LEADS], wanted)
    assert np.array_equal(picked, batch[:, [11, 5, 0]])
    assert picked.dtype == np.float32
    masked, present, derived = arrange_leads(batch[:, :2], ("I", "II"), ("III", "I"), derive=False)
    assert present.tolist() == [False, True]
    assert derived == ()
    assert not masked[:, 0].any()


def test_missing_samples_stay_missing_in_derived_leads():
    signal = np.ones((2, 4))
    signal[0, 1] = np.nan
    arranged, _, _ = arrange_leads(signal, ("I", "II"), ("III",))
    assert np.isnan(arranged[0]).tolist() == [False, True, False, False]


def test_wrong_arguments():
    with pytest.raises(LeadError, match="3 lead names for 2 rows"):
        arrange_leads(np.zeros((2, 5)), ("I", "II", "III"), ("I",))
    with pytest.raises(SignalError):
        arrange_leads(np.zeros(5), ("I",), ("I",))
    with pytest.raises(SignalError):
        arrange_leads(np.zeros((1, 5), dtype=np.int16), ("I",), ("I",))
