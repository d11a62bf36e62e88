#!/usr/bin/env python
"""Share a model folder on the Hub: weights, preprocessing and card. A recipe to copy and edit.

    python scripts/push_to_hub.py --model runs/tiny --repo_id me/cg-dmer-tiny --dataset "PTB-XL 1.0.3" \
        --data_licence "CC BY 4.0" --results probe/results.json

Log in first (``hf auth login``). The card is made from the method's source in ``model_cards/`` and the results.
``--dry_run`` makes it in the model folder and uploads nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from huggingface_hub import ModelCard
from transformers import AutoConfig, AutoFeatureExtractor, AutoTokenizer, HfArgumentParser

import ecg_hf
from ecg_hf.evaluation import read_results
from ecg_hf.hub import CardContext, write_model_card
from ecg_hf.models.registry import get_method


@dataclass
class ScriptArguments:
    """What to share, where, and what the card has to say."""

    model: str = field(metadata={"help": "Folder of a model."})
    repo_id: str = field(metadata={"help": "Repository, owner/name."})
    dataset: str = field(metadata={"help": "Name of the training data."})
    data_licence: str = field(metadata={"help": "Licence of the training data."})
    results: str | None = field(default=None, metadata={"help": "A results.json to put into the card."})
    synthetic: bool = field(default=False, metadata={"help": "The training data are simulated."})
    private: bool = field(default=False, metadata={"help": "Make a private repository."})
    dry_run: bool = field(default=False, metadata={"help": "Write the card, upload nothing."})


def main() -> None:
    """Write the card and upload everything."""
    (args,) = HfArgumentParser(ScriptArguments).parse_args_into_dataclasses()
    config = AutoConfig.from_pretrained(args.model)
    spec = get_method(config.model_type)
    # The very class that was saved: a base model would leave the heads behind.
    model = getattr(ecg_hf, config.architectures[0]).from_pretrained(args.model)
    extractor = AutoFeatureExtractor.from_pretrained(args.model)

    context = CardContext(
        model_name=args.repo_id.rpartition("/")[2],
        dataset=args.dataset,
        data_licence=args.data_licence,
        results=dict(read_results(args.results)) if args.results else {},
        repo=args.repo_id,
        synthetic=args.synthetic,
    )
    card = write_model_card(args.model, model, extractor, context)
    print(f"card: {card}")
    if args.dry_run:
        return

    model.push_to_hub(args.repo_id, private=args.private)
    if spec.multimodal and "ForEcgClassification" not in config.architectures[0]:
        tokenizer = AutoTokenizer.from_pretrained(args.model)
        ecg_hf.EcgProcessor(extractor, tokenizer).push_to_hub(args.repo_id)
    else:
        extractor.push_to_hub(args.repo_id)
    ModelCard.load(card).push_to_hub(args.repo_id)
    print(f"https://huggingface.co/{args.repo_id}")


if __name__ == "__main__":
    main()
