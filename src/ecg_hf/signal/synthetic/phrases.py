"""The vocabulary of the reports: noun phrases for every finding, in full and in ward shorthand.

``{where}`` is filled with the leads concerned, ``{age}`` with the age of an infarct. Every phrase names its
finding on its own, because a report uses only one of them.
"""

from __future__ import annotations

__all__ = [
    "AGE_WORDS",
    "FINDING_PHRASES",
    "FINDING_SHORT",
    "INFARCT_EXTRAS",
    "RHYTHM_PHRASES",
    "RHYTHM_SHORT",
    "WHERE",
]

RHYTHM_PHRASES: dict[str, tuple[str, ...]] = {
    "SR": (
        "sinus rhythm",
        "normal sinus rhythm",
        "regular sinus rhythm",
        "sinus rhythm with regular rate",
        "sinus rhythm, normal rate",
        "sinus mechanism",
        "rhythm is sinus",
    ),
    "SBRAD": (
        "sinus bradycardia",
        "marked sinus bradycardia",
        "slow sinus rhythm (sinus bradycardia)",
        "bradycardic sinus rhythm",
        "sinus bradycardia, slow ventricular rate",
        "sinus rhythm with bradycardia",
        "regular sinus bradycardia",
    ),
    "STACH": (
        "sinus tachycardia",
        "rapid sinus rhythm (sinus tachycardia)",
        "sinus tachycardia, fast ventricular rate",
        "tachycardic sinus rhythm",
        "regular sinus tachycardia",
        "sinus rhythm with tachycardia",
    ),
    "SARRH": (
        "sinus arrhythmia",
        "sinus rhythm with sinus arrhythmia",
        "respiratory sinus arrhythmia",
        "marked sinus arrhythmia",
        "irregular sinus rhythm (sinus arrhythmia)",
        "phasic sinus arrhythmia",
    ),
    "AFIB": (
        "atrial fibrillation",
        "atrial fibrillation with irregular ventricular response",
        "irregularly irregular rhythm, atrial fibrillation",
        "atrial fibrillation, absent P waves",
        "atrial fibrillation with fibrillatory waves",
        "rhythm is atrial fibrillation",
        "absolute arrhythmia in atrial fibrillation",
    ),
    "AFLT": (
        "atrial flutter",
        "atrial flutter with {ratio} conduction",
        "atrial flutter with {ratio} AV block",
        "atrial flutter with sawtooth flutter waves",
        "typical atrial flutter",
        "rhythm is atrial flutter, {ratio} conduction",
        "flutter waves consistent with atrial flutter",
    ),
    "PACE": (
        "ventricular paced rhythm",
        "electronic ventricular pacemaker",
        "ventricular pacing",
        "pacemaker rhythm with ventricular capture",
        "paced rhythm, pacing spikes before each QRS",
        "artificial pacemaker, ventricular paced complexes",
        "ventricular-paced rhythm, normal pacemaker function",
    ),
}

RHYTHM_SHORT: dict[str, tuple[str, ...]] = {
    "SR": ("SR", "NSR", "sinus"),
    "SBRAD": ("sinus brady", "SB", "sinus bradycardia"),
    "STACH": ("sinus tach", "sinus tachy", "sinus tachycardia"),
    "SARRH": ("sinus arrhythmia", "SR w/ sinus arrhythmia"),
    "AFIB": ("AF", "afib", "a-fib", "atrial fib"),
    "AFLT": ("aflutter", "atrial flutter {ratio}", "AFL"),
    "PACE": ("V-paced", "paced rhythm", "pacemaker, V pacing"),
}

FINDING_PHRASES: dict[str, tuple[str, ...]] = {
    "PAC": (
        "premature atrial contractions",
        "atrial premature complexes",
        "occasional PACs",
        "premature atrial complex(es)",
        "supraventricular extrasystoles of atrial origin",
        "atrial ectopic beats",
        "atrial extrasystoles",
    ),
    "PVC": (
        "premature ventricular contractions",
        "ventricular premature complexes",
        "PVC(s)",
        "ventricular ectopic beats",
        "premature ventricular complex(es) with wide QRS",
        "ventricular extrasystoles",
        "ventricular ectopy",
    ),
    "1AVB": (
        "first degree AV block",
        "1st degree A-V block",
        "prolonged PR interval (first degree AV block)",
        "first-degree atrioventricular block",
        "borderline to marked PR prolongation, first degree AV block",
        "AV conduction delay, first degree AV block",
    ),
    "LAO/LAE": (
        "left atrial enlargement",
        "left atrial abnormality",
        "left atrial overload",
        "wide notched P waves, left atrial enlargement",
        "broad P waves consistent with left atrial enlargement",
        "P mitrale (left atrial enlargement)",
    ),
    "LAFB": (
        "left anterior fascicular block",
        "left anterior hemiblock",
        "left axis deviation due to left anterior fascicular block",
        "left axis deviation with left anterior fascicular block",
        "LAFB",
        "conduction delay of the left anterior fascicle (left anterior fascicular block)",
    ),
    "CLBBB": (
        "left bundle branch block",
        "complete left bundle branch block",
        "LBBB",
        "wide QRS with left bundle branch block pattern",
        "intraventricular conduction delay of left bundle branch block type",
        "complete LBBB with secondary ST-T changes",
    ),
    "CRBBB": (
        "right bundle branch block",
        "complete right bundle branch block",
        "RBBB",
        "wide QRS with right bundle branch block pattern",
        "rsR' in V1 consistent with right bundle branch block",
        "complete RBBB with secondary T wave changes in V1-V2",
    ),
    "LVH": (
        "left ventricular hypertrophy",
        "left ventricular hypertrophy by voltage criteria",
        "voltage criteria for left ventricular hypertrophy",
        "LVH",
        "high left ventricular voltage, left ventricular hypertrophy",
        "tall R waves in V5-V6, left ventricular hypertrophy",
    ),
    "RVH": (
        "right ventricular hypertrophy",
        "right axis deviation with right ventricular hypertrophy",
        "tall R wave in V1, right ventricular hypertrophy",
        "RVH",
        "dominant R in V1 consistent with right ventricular hypertrophy",
        "right ventricular hypertrophy pattern",
    ),
    "AMI": (
        "anterior infarct{age}",
        "anterior myocardial infarction{age}",
        "anterior wall myocardial infarction{age}",
        "Q waves in V1-V4, anterior infarct{age}",
        "loss of anterior R waves, anterior infarct{age}",
        "anterior MI{age}",
    ),
    "IMI": (
        "inferior infarct{age}",
        "inferior myocardial infarction{age}",
        "inferior wall myocardial infarction{age}",
        "Q waves in II, III and aVF, inferior infarct{age}",
        "inferior Q waves, inferior infarct{age}",
        "inferior MI{age}",
    ),
    "LMI": (
        "lateral infarct{age}",
        "lateral myocardial infarction{age}",
        "lateral wall myocardial infarction{age}",
        "Q waves in I and aVL, lateral infarct{age}",
        "lateral Q waves, lateral infarct{age}",
        "lateral MI{age}",
    ),
    "STD_": (
        "ST depression{where}",
        "ST segment depression{where}",
        "nonspecific ST depression{where}",
        "depressed ST segments{where}",
        "horizontal ST depression{where}",
        "J point and ST depression{where}",
    ),
    "INVT": (
        "T wave inversion{where}",
        "inverted T waves{where}",
        "T wave inversions{where}",
        "negative T waves{where}",
        "symmetrical T wave inversion{where}",
        "abnormal inverted T waves{where}",
    ),
    "ISC_": (
        "ischemic ST-T changes{where}",
        "ST-T changes consistent with ischemia{where}",
        "ST depression and T wave changes suggesting myocardial ischemia{where}",
        "ST and T wave abnormality, consider ischemia{where}",
        "ST depression with ischemic T waves{where}",
        "myocardial ischemia{where} by ST-T criteria",
    ),
    "NDT": (
        "nonspecific T wave abnormality",
        "nonspecific T wave flattening",
        "non-diagnostic T wave abnormalities",
        "low amplitude T waves, nonspecific T wave changes",
        "flat T waves, nonspecific",
        "nonspecific T wave changes",
    ),
    "LNGQT": (
        "prolonged QT interval",
        "long QT interval",
        "prolonged QTc interval",
        "QT prolongation",
        "QTc prolongation, long QT",
        "markedly prolonged QT interval",
    ),
    "LVOLT": (
        "low QRS voltage",
        "low voltage QRS",
        "low QRS voltages in the limb and precordial leads",
        "generalized low voltage",
        "low voltage in limb and chest leads",
        "diffusely low QRS voltages",
    ),
}

FINDING_SHORT: dict[str, tuple[str, ...]] = {
    "PAC": ("PACs", "APCs"),
    "PVC": ("PVCs", "VPCs", "VES"),
    "1AVB": ("1st deg AVB", "1 AVB", "first degree AV block"),
    "LAO/LAE": ("LAE", "left atrial enlargement"),
    "LAFB": ("LAFB", "LAD, LAHB"),
    "CLBBB": ("LBBB", "CLBBB"),
    "CRBBB": ("RBBB", "CRBBB"),
    "LVH": ("LVH", "LVH by voltage"),
    "RVH": ("RVH", "RAD, RVH"),
    "AMI": ("anterior MI{age}", "AMI{age}", "ant. infarct{age}"),
    "IMI": ("inferior MI{age}", "IMI{age}", "inf. infarct{age}"),
    "LMI": ("lateral MI{age}", "lat. infarct{age}"),
    "STD_": ("ST depr.{where}", "ST depression{where}", "STD{where}"),
    "INVT": ("TWI{where}", "T inversion{where}", "neg. T waves{where}"),
    "ISC_": ("ischemic ST-T changes{where}", "ST-T ischemia{where}"),
    "NDT": ("NS T wave changes", "nonspec. T abn."),
    "LNGQT": ("long QT", "QTc prolonged"),
    "LVOLT": ("low voltage", "low QRS volt."),
}

# By Territory: anterior, inferior, lateral.
WHERE: tuple[tuple[str, ...], ...] = (
    (" in V1-V4", " in the anterior leads", " anteriorly", " in anterior leads", ""),
    (" in II, III, aVF", " in the inferior leads", " inferiorly", " in inferior leads", ""),
    (" in I, aVL, V5-V6", " in the lateral leads", " laterally", " in lateral leads", ""),
)

# By Stage: old, recent, acute.
AGE_WORDS: tuple[tuple[str, ...], ...] = (
    (", age undetermined", " - age undetermined", ", old", ", probably old", ""),
    (
        ", possibly recent",
        " - age undetermined, possibly recent",
        ", subacute",
        ", recent",
        ", age undetermined",
    ),
    (
        ", acute",
        " - possibly acute",
        ", acute, with ST elevation",
        " with ST segment elevation, acute",
        " (STEMI)",
    ),
)

# Said in addition, when the stage shows it.
INFARCT_EXTRAS: dict[str, tuple[str, str, str]] = {
    "AMI": ("V1-V4", "V2-V5", "anterior"),
    "IMI": ("II, III, aVF", "the inferior leads", "inferior"),
    "LMI": ("I, aVL, V5-V6", "the lateral leads", "lateral"),
}
