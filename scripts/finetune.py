#!/usr/bin/env python
"""Fine-tune a pretrained model on a column of labels. A recipe to copy and edit; `ecg-hf finetune` is the same.

python scripts/finetune.py --model runs/tiny --dataset built/ptbxl --labels super --output_dir runs/tiny-super
"""

from ecg_hf.hub import document_classifier
from ecg_hf.training import EcgArgumentParser, EcgFineTuningArguments, finetune

if __name__ == "__main__":
    parser = EcgArgumentParser(EcgFineTuningArguments, description=__doc__)
    for name in ("--model", "--dataset", "--labels"):
        parser.add_argument(name, required=True, help="See `ecg-hf finetune --help`.")
    args, script = parser.parse_args_into_dataclasses()
    result = finetune(script.model, script.dataset, args.output_dir, labels=script.labels, arguments=args)
    for split, positives in result.positives.items():
        print(f"{split}: {result.records[split]} records, {positives}")
    print(f"test macro AUROC {(document_classifier(result)['test'] or {}).get('macro_auroc')}")
