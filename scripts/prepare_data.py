#!/usr/bin/env python
"""Download a source from PhysioNet if asked to, build a dataset, look at it. A recipe to copy and edit.

    python scripts/prepare_data.py --source synthetic --output built/synthetic --options '{"records": 2000}'
    python scripts/prepare_data.py --source ptbxl --data_dir ptb-xl --download --output built/ptbxl --num_proc 4

``ecg-hf data download`` and ``ecg-hf data build`` do the same. Both continue where they were interrupted.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field

from transformers import HfArgumentParser

from ecg_hf import Ecg
from ecg_hf.data import build_dataset, check_patient_leak, download_source, get_source, load_built


@dataclass
class ScriptArguments:
    """What to build, and from where."""

    source: str = field(metadata={"help": "synthetic, ptbxl, mimic_iv_ecg or wfdb_folder."})
    output: str = field(metadata={"help": "Folder to build."})
    data_dir: str | None = field(default=None, metadata={"help": "Folder with the source's files."})
    download: bool = field(default=False, metadata={"help": "Download into data_dir first."})
    num_proc: int = field(default=1, metadata={"help": "Processes reading records."})
    options: str = field(default="{}", metadata={"help": "Options of the source, as a JSON object."})


def main() -> None:
    """Download, build, and print what a first look at a dataset should show."""
    (args,) = HfArgumentParser(ScriptArguments).parse_args_into_dataclasses()
    info = get_source(args.source).info
    print(f"{info.title}\n  licence: {info.licence}\n  expects: {info.expects}\n  leaves out: {info.drops}")
    if args.download:
        print(download_source(args.source, args.data_dir))

    options = json.loads(args.options)
    report = build_dataset(args.source, args.data_dir, args.output, num_proc=args.num_proc, **options)
    print(report.summary())

    dataset = load_built(args.output)
    leak = check_patient_leak(dataset, strict=False)
    print(f"{leak.distinct_patients} patients, {leak.patients} of them in more than one split")
    codes = Counter(code for labels in dataset["labels"][:] for code in labels)
    print("most frequent labels:", ", ".join(f"{code} {count}" for code, count in codes.most_common(10)))

    # The ECG column decodes on access: here resampled, and with two leads picked by name.
    two_leads = dataset.cast_column("ecg", Ecg(sampling_rate=250, lead_names=["II", "V2"]))
    ecg = two_leads[0]["ecg"]
    print(f"first record, leads {', '.join(ecg['lead_names'])} at {ecg['sampling_rate']:g} Hz:")
    print(f"  {ecg['signal'].dtype} {ecg['signal'].shape} in mV, largest {abs(ecg['signal']).max():.2f}")


if __name__ == "__main__":
    main()
