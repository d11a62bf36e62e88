"""
Interpret a recording
=====================

Heart rate, intervals and findings of one recording, by the classifier that ships with the package: what
``ecg-hf predict RECORD`` prints. For research only, not for diagnosis.
"""

# %%
# The recording is PTB-XL 2940, of a fold that no model here was trained on. In its place may stand a path to a
# recording of yours: WFDB, DICOM, EDF, SCP-ECG, XML, CSV.
from transformers import AutoFeatureExtractor

import ecg_hf
from ecg_hf.pipelines.interpretation import Interpreter

folder = ecg_hf.pretrained("ecg-distil-ptbxl-statements")
model = ecg_hf.AutoModelForEcgClassification.from_pretrained(folder)
interpret = Interpreter(model, AutoFeatureExtractor.from_pretrained(folder), name=str(folder))
(answer,) = interpret([ecg_hf.sample_record()])

for name, value in answer.measurements.items():
    print(f"{name:15} {'not measured' if value is None else f'{value:.0f}'}")

# %%
# A probability is calibrated: of the validation records that were given 0.7, about 70 % had the label. The star says
# that it reaches the threshold of its class; the AUROC says how well the class is told apart on records kept aside.
for finding in answer.findings[:6]:
    star = "*" if finding.positive else " "
    print(f"{finding.probability:.2f} {star} {finding.name:35} AUROC {finding.reference_auroc:.3f}")

# %%
# The most similar of the reference ECGs that ship with the classifier, and what cardiologists called them.
for near in answer.nearest:
    print(f"PTB-XL {near['record_id']:>6}, cosine {near['similarity']:.2f}: {', '.join(near['labels'])}")

# %%
# Where the quality of a recording forbids an answer there is none, and the reason stands in its place.
record = ecg_hf.read_record(ecg_hf.sample_record())
flat = ecg_hf.EcgRecord(0.0 * record.signal, record.sampling_rate, record.lead_names)
(answer,) = interpret([flat])
print("abstained:", answer.abstained)

# %%
figure = ecg_hf.plot_ecg(record, title="PTB-XL 2940")
figure
