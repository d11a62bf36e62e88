"""Label groups of sources other than PTB-XL: code in the ``labels`` column -> class of the task."""

from __future__ import annotations

__all__ = ["CHALLENGE_SCORED", "CPSC_CLASSES", "CPSC_SNOMED", "CSN_CLASSES", "OTHER_TASKS"]

CPSC_CLASSES = ("NORM", "AFIB", "1AVB", "CLBBB", "CRBBB", "PAC", "VPC", "STD", "STE")
"""The nine classes in the order of their numbers (1 to 9), spelt as in MERL's label files."""

CPSC_SNOMED: dict[str, str] = {
    "426783006": "NORM",
    "164889003": "AFIB",
    "270492004": "1AVB",
    "164909002": "CLBBB",
    "59118001": "CRBBB",
    "284470004": "PAC",
    "164884008": "VPC",
    "429622005": "STD",
    "164931005": "STE",
}
"""SNOMED CT codes the Challenge of 2020 wrote for them."""

CSN_CLASSES = (
    "AQW", "UW", "SR", "WPW", "2AVB", "AT", "VB", "ARS", "STTC", "SA", "STE", "VPB", "TWO", "STTU", "ALS", "APB",
    "2AVB1", "PRIE", "CCR", "CR", "AF", "AVB", "QTIE", "LBBB", "VEB", "SVT", "RBBB", "1AVB", "STDD", "MI", "AFIB",
    "TWC", "PWC", "ERV", "RVH", "LVH", "ST", "JEB",
)  # fmt: skip
"""The 38 acronyms MERL takes from Chapman-Shaoxing-Ningbo, in the order of its tables."""

CHALLENGE_SCORED: dict[str, str] = {
    "164889003": "AF",
    "164890007": "AFL",
    "6374002": "BBB",
    "426627000": "Brady",
    "733534002": "CLBBB|LBBB",
    "164909002": "CLBBB|LBBB",
    "713427006": "CRBBB|RBBB",
    "59118001": "CRBBB|RBBB",
    "270492004": "IAVB",
    "713426002": "IRBBB",
    "39732003": "LAD",
    "445118002": "LAnFB",
    "164947007": "LPR",
    "251146004": "LQRSV",
    "111975006": "LQT",
    "698252002": "NSIVCB",
    "426783006": "NSR",
    "284470004": "PAC|SVPB",
    "63593006": "PAC|SVPB",
    "10370003": "PR",
    "365413008": "PRWP",
    "427172004": "PVC|VPB",
    "17338001": "PVC|VPB",
    "164917005": "QAb",
    "47665007": "RAD",
    "427393009": "SA",
    "426177001": "SB",
    "427084000": "STach",
    "164934002": "TAb",
    "59931005": "TInv",
}
"""SNOMED CT code -> class of the Challenge 2021: 30 scored diagnoses, four pairs of which count as one."""

LUDB_RHYTHMS = (
    "Sinus rhythm",
    "Sinus bradycardia",
    "Sinus tachycardia",
    "Sinus arrhythmia",
    "Irregular sinus rhythm",
    "Atrial fibrillation",
    "Atrial flutter, typical",
    "Wandering atrial pacemaker",
)
LUDB_CONDUCTION = (
    "I degree av block",
    "Iii degree av-block",
    "Incomplete right bundle branch block",
    "Complete right bundle branch block",
    "Incomplete left bundle branch block",
    "Complete left bundle branch block",
    "Left anterior hemiblock",
    "Non-specific intravintricular conduction delay",
)
LUDB_HYPERTROPHIES = (
    "Left ventricular hypertrophy",
    "Right ventricular hypertrophy",
    "Left atrial hypertrophy",
    "Right atrial hypertrophy",
    "Left ventricular overload",
    "Left atrial overload",
    "Right atrial overload",
)

OTHER_TASKS: dict[str, dict[str, str]] = {
    "cpsc2018": {**{name: name for name in CPSC_CLASSES}, **CPSC_SNOMED},
    "csn": {name: name for name in CSN_CLASSES},
    "challenge2021": CHALLENGE_SCORED,
    "ludb-rhythm": {name: name for name in LUDB_RHYTHMS},
    "ludb-conduction": {name: name for name in LUDB_CONDUCTION},
    "ludb-hypertrophy": {name: name for name in LUDB_HYPERTROPHIES},
}
"""Task -> code -> class; classes in the order of their first occurrence here."""
