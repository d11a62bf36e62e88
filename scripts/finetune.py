#!/usr/bin/env python
"""Fine-tune a pretrained model on a PTB-XL label group. A recipe to copy and edit.

    python scripts/finetune.py --model runs/tiny --dataset built/ptbxl --task super --output_dir runs/tiny-super

Training keeps the epoch with the best macro AUROC on validation and scores the test split once.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ecg_hf.training import EcgArgumentParser, EcgFineTuningArguments, finetune


@dataclass
class ScriptArguments:
    """What ``EcgFineTuningArguments`` does not know."""

    model: str = field(metadata={"help": "Folder or Hub name of a pretrained model."})
    dataset: str = field(metadata={"help": "Folder made by ecg_hf.data.build_dataset, with SCP labels."})
    task: str = field(default="super", metadata={"help": "super, sub, form, rhythm, diag or all."})
    fraction: float = field(default=1.0, metadata={"help": "Share of the labelled training records to use."})
    from_scratch: bool = field(default=False, metadata={"help": "Start from random weights: the baseline."})
    cache_inputs: bool = field(default=False, metadata={"help": "Keep preprocessed signals in memory."})
    resume: bool = field(default=False, metadata={"help": "Continue from the newest complete checkpoint."})


def main() -> None:
    """Fine-tune and print both scores."""
    script, args = EcgArgumentParser((ScriptArguments, EcgFineTuningArguments)).parse_args_into_dataclasses()
    result = finetune(
        script.model,
        script.dataset,
        args.output_dir,
        task=script.task,
        fraction=script.fraction,
        from_scratch=script.from_scratch,
        cache_inputs=script.cache_inputs,
        resume=script.resume,
        arguments=args,
    )
    print(f"validation macro AUROC {result.validation['eval_macro_auroc']:.4f}")
    if result.test:
        print(
            f"test macro AUROC       {result.test['test_macro_auroc']:.4f} ({result.records['test']} records)"
        )


if __name__ == "__main__":
    main()
