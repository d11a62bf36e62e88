#!/usr/bin/env python
"""Pretrain CG-DMER on built datasets. A recipe to copy and edit; ``ecg-hf pretrain`` does the same and more.

    python scripts/pretrain.py --dataset built/synthetic --size tiny --output_dir runs/tiny --num_train_epochs 10
    torchrun --nproc_per_node 8 scripts/pretrain.py --dataset built/mimic --size base --output_dir runs/base \
        --per_device_train_batch_size 512 --bf16

Build a dataset with ``ecg-hf data build`` or ``ecg_hf.data.build_dataset``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from transformers import set_seed

from ecg_hf import CgDmerConfig, CgDmerFeatureExtractor, CgDmerForPreTraining, CgDmerTrainer
from ecg_hf.data import load_mixed
from ecg_hf.hub import ModelCardCallback
from ecg_hf.processing import EcgProcessor
from ecg_hf.training import BatchedEcgDataset, EcgArgumentParser, EcgPreTrainingArguments, EcgTextCollator
from ecg_hf.training.vocabulary import make_tokenizer


@dataclass
class ScriptArguments:
    """What ``EcgPreTrainingArguments`` does not know."""

    dataset: list[str] = field(
        metadata={"help": "Folders made by ecg_hf.data.build_dataset, mixed if several."}
    )
    size: str = field(default="tiny", metadata={"help": "Preset of CgDmerConfig."})
    resume: bool = field(default=False, metadata={"help": "Continue from the newest complete checkpoint."})


def main() -> None:
    """Pretrain, evaluate, save."""
    script, args = EcgArgumentParser((ScriptArguments, EcgPreTrainingArguments)).parse_args_into_dataclasses()
    set_seed(args.seed)

    # Data: rows with a report, by split.
    dataset = load_mixed(script.dataset).dataset
    with_report = dataset.select([i for i, report in enumerate(dataset["report"][:]) if report])
    split = with_report["split"][:]
    train = with_report.select([i for i, name in enumerate(split) if name == "train"])
    validation = with_report.select([i for i, name in enumerate(split) if name == "validation"])

    # Text: a vocabulary of the training reports. (A pretrained tower: CgDmerForPreTraining.from_text_model.)
    preset = CgDmerConfig.preset(script.size)
    tokenizer = make_tokenizer(train["report"][:], preset.text_config.vocab_size, preset.max_text_length)

    # Model: the preset, with the text tower's vocabulary fitted to the tokenizer.
    preset.text_config.vocab_size = len(tokenizer)
    config = CgDmerConfig.preset(
        script.size,
        freeze_text_layers=0,
        text_config=preset.text_config,
        text_mask_token_id=tokenizer.mask_token_id,
        text_special_token_ids=[tokenizer.pad_token_id, tokenizer.cls_token_id, tokenizer.sep_token_id],
    )
    model = CgDmerForPreTraining(config)
    extractor = CgDmerFeatureExtractor(
        sampling_rate=config.sampling_rate, duration_s=config.num_samples / config.sampling_rate
    )

    reading = {"tokenizer": tokenizer, "max_text_length": config.max_text_length}
    trainer = CgDmerTrainer(
        model=model,
        args=args,
        data_collator=EcgTextCollator(extractor, tokenizer, config.max_text_length),
        train_dataset=BatchedEcgDataset(train, **reading),
        eval_dataset=BatchedEcgDataset(validation, **reading),
        processing_class=EcgProcessor(extractor, tokenizer),
        callbacks=[ModelCardCallback(script.dataset)],
    )
    trainer.train(resume_from_checkpoint=script.resume)
    print(trainer.evaluate())
    trainer.save_model()


if __name__ == "__main__":
    main()
