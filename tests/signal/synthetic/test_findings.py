"""Class frequencies and combinations, without making signals."""

from __future__ import annotations

from collections import Counter

import pytest

from ecg_hf.signal.synthetic import FINDINGS, RHYTHMS, SCP_CODES
from ecg_hf.signal.synthetic.findings import plan_records

# SCP-ECG statements PTB-XL knows; a code outside this list would have no label group.
PTBXL_CODES = """
NDT NST_ DIG LNGQT NORM IMI ASMI LVH LAFB ISC_ IRBBB 1AVB IVCD ISCAL CRBBB CLBBB ILMI LAO/LAE AMI ALMI ISCIN
INJAS LMI ISCIL LPFB ISCAS INJAL ISCLA RVH ANEUR RAO/RAE EL WPW ILBBB IPLMI ISCAN IPMI SEHYP INJIN INJLA PMI
3AVB INJIL 2AVB ABQRS PVC STD_ VCLVH QWAVE LOWT NT_ PAC LPR INVT LVOLT HVOLT TAB_ STE_ PRC(S) SR AFIB STACH
SARRH SBRAD PACE SVARR BIGU AFLT SVTAC PSVT TRIGU
"""


@pytest.fixture(scope="module")
def codes() -> list[tuple[str, ...]]:
    return plan_records(0, range(6000)).codes()


def test_codes_are_ptbxl_statements(codes: list[tuple[str, ...]]) -> None:
    assert set(SCP_CODES) <= set(PTBXL_CODES.split())
    assert {code for record in codes for code in record} == set(SCP_CODES)


def test_frequencies(codes: list[tuple[str, ...]]) -> None:
    share = {
        code: count / len(codes) for code, count in Counter(c for record in codes for c in record).items()
    }
    assert 0.34 < share["NORM"] < 0.42
    assert min(share.values()) >= 0.02


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_two_thousand_records_hold_every_class(seed: int) -> None:
    counts = Counter(code for record in plan_records(seed, range(2000)).codes() for code in record)
    assert min(counts[code] for code in SCP_CODES) >= 34


def test_every_record_has_one_rhythm_and_normal_means_normal(codes: list[tuple[str, ...]]) -> None:
    for record in codes:
        assert sum(code in RHYTHMS for code in record) == 1
        assert len(set(record)) == len(record)
        assert ("NORM" in record) == (record == ("NORM", "SR"))
        if "SR" in record:
            assert "NORM" in record or set(record) & set(FINDINGS)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("AFIB", "PAC"),
        ("AFIB", "1AVB"),
        ("AFLT", "LAO/LAE"),
        ("CLBBB", "CRBBB"),
        ("CLBBB", "AMI"),
        ("CLBBB", "INVT"),
        ("LVH", "LVOLT"),
        ("AMI", "IMI"),
        ("PACE", "LVH"),
        ("STACH", "1AVB"),
        ("RVH", "LAFB"),
        ("PAC", "PVC"),
    ],
)
def test_contradictions_do_not_occur(codes: list[tuple[str, ...]], one: str, other: str) -> None:
    assert not [record for record in codes if one in record and other in record]


@pytest.mark.parametrize(
    ("one", "other"), [("AFIB", "CLBBB"), ("IMI", "PVC"), ("LVH", "STD_"), ("SBRAD", "1AVB")]
)
def test_usual_companions_do_occur(codes: list[tuple[str, ...]], one: str, other: str) -> None:
    assert [record for record in codes if one in record and other in record]


def test_fibrillation_grows_with_age() -> None:
    plan = plan_records(0, range(6000))
    fibrillation = plan.has("AFIB")
    assert plan.ages[fibrillation].mean() > plan.ages[~fibrillation].mean() + 3
