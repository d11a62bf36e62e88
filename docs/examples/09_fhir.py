"""
FHIR resources
==============

A recording as an ``Observation`` and what a model says of it as a ``DiagnosticReport``: plain dictionaries, without
names, dates or identifiers.
"""

# %%
import json

from transformers import pipeline

import ecg_hf

record = ecg_hf.read_record(ecg_hf.sample_record())
observation = ecg_hf.record_to_fhir(record)
print(
    observation["resourceType"],
    observation["code"]["coding"][0]["code"],
    len(observation["component"]),
    "leads",
)
lead = observation["component"][0]
lead["valueSampledData"]["data"] = lead["valueSampledData"]["data"][:40] + " ..."
print(json.dumps(lead, indent=1))

# %%
# R5 states the time between samples as an interval, R4B as a period.
for version in ("R5", "R4B"):
    sampled = ecg_hf.record_to_fhir(record, version=version)["component"][0]["valueSampledData"]
    print(
        version,
        {name: value for name, value in sampled.items() if name in ("interval", "intervalUnit", "period")},
    )

# %%
# The report is preliminary: nobody has looked at it.
report = ecg_hf.scores_to_fhir(pipeline("ecg-classification")(record)[:2])
print(report["status"], "|", report["conclusion"])
print(json.dumps(report["contained"][0], indent=1))
