"""
Files of hospitals and watches
==============================

``read_record`` goes by the content of a file, not by its name. Here four files are written and read; the formats page
lists all that are known.
"""

# %%
# A CSV with a time column and units in its header says everything itself.
import io
import tempfile
from pathlib import Path

import numpy as np

import ecg_hf

sample = ecg_hf.read_record(ecg_hf.sample_record())
folder = Path(tempfile.mkdtemp())
seconds = np.arange(sample.signal.shape[1]) / sample.sampling_rate
table = np.column_stack([seconds, 1000.0 * sample.signal[:2].T])
np.savetxt(
    folder / "export.csv", table, delimiter=",", header="time (s),I (uV),II (uV)", comments="", fmt="%.3f"
)
record = ecg_hf.read_record(folder / "export.csv")
print(
    record.lead_names, record.sampling_rate, f"{np.abs(record.signal).max():.2f} mV", *record.notes, sep="\n"
)

# %%
# A bare array says nothing: whoever reads it has to.
np.save(folder / "bare.npy", sample.signal)
try:
    ecg_hf.read_record(folder / "bare.npy")
except ecg_hf.EcgError as error:
    error.path = None
    print("refused:", error)
record = ecg_hf.read_record(folder / "bare.npy", sampling_rate=100, units="mV", lead_names=sample.lead_names)
print(record.signal.shape)

# %%
# HL7 aECG, the XML of drug trials. Names, dates and numbers of a person in such files are never read.
leads = "".join(
    f'<component><sequence><code code="MDC_ECG_LEAD_{name.upper()}"/><value><origin value="0" unit="uV"/>'
    f'<scale value="5" unit="uV"/><digits>{" ".join(str(v) for v in np.rint(row * 200).astype(int))}</digits>'
    "</value></sequence></component>"
    for name, row in zip(sample.lead_names, sample.signal, strict=True)
)
xml = (
    '<AnnotatedECG xmlns="urn:hl7-org:v3"><component><series><code code="RHYTHM"/><component><sequenceSet>'
    '<component><sequence><code code="TIME_ABSOLUTE"/><value><head value="20260101"/>'
    f'<increment value="0.01" unit="s"/></value></sequence></component>{leads}'
    "</sequenceSet></component></series></component></AnnotatedECG>"
)
record = ecg_hf.read_record(xml.encode())
print(record.lead_names, f"largest difference {np.abs(record.signal - sample.signal).max() * 1000:.1f} uV")

# %%
# A file object works too, such as an upload. What comes out of all of them goes into any model.
record = ecg_hf.read_record(io.BytesIO((folder / "export.csv").read_bytes()))
print(ecg_hf.embed(record).shape)

# %%
# A file that is no ECG is refused in one line.
try:
    ecg_hf.read_record(b"\x89PNG\r\n\x1a\n and so on")
except ecg_hf.EcgError as error:
    print(f"{type(error).__name__}: {error}")

# %%
figure = ecg_hf.plot_ecg(record, title="two leads of a CSV file")
figure
