"""
ECG paper
=========

A recording as a reader of paper strips knows it: 25 mm/s, 10 mm/mV. Printed at its own size, the grid measures what
it says.
"""

# %%
# Twelve leads take the usual print, a quarter of the time each, and a rhythm strip below.
import ecg_hf
from ecg_hf.plotting import save_figure

record = ecg_hf.read_record(ecg_hf.sample_record())
print(record.signal.shape, record.sampling_rate, record.lead_names)
figure = ecg_hf.plot_ecg(record)
figure

# %%
# Rows, a part of the recording, larger amplitudes.
rows = ecg_hf.plot_ecg(
    record.select_leads(["II", "V1", "V5"]),
    layout="rows",
    start_s=2.0,
    duration_s=5.0,
    mm_per_unit=20.0,
    title="5 s",
)
rows

# %%
# As a file: PNG, or SVG for print.
import tempfile
from pathlib import Path

with tempfile.TemporaryDirectory() as folder:
    for name in ("ecg.png", "ecg.svg"):
        path = save_figure(figure, Path(folder, name))
        print(path.name, f"{path.stat().st_size / 1e6:.1f} MB")
