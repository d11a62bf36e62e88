#!/usr/bin/env python
"""Share a model folder on the Hub: weights, preprocessing and card. A recipe to copy and edit.

    python scripts/push_to_hub.py --model runs/tiny --repo_id me/cg-dmer-tiny --dataset "PTB-XL 1.0.3" \
        --data_licence "CC BY 4.0" --results probe/results.json

Log in first (``hf auth login``). The card is made from the method's source in ``model_cards/``, the account of the
training run and the results. ``--dry_run`` makes it in the model folder and uploads nothing. ``ecg-hf card`` and
``ecg-hf push`` do the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from transformers import HfArgumentParser

import ecg_hf  # noqa: F401  (registers the methods)
from ecg_hf.evaluation import read_results
from ecg_hf.hub import card_context_of, open_model_folder, push_model, write_model_card


@dataclass
class ScriptArguments:
    """What to share, where, and what the card has to say."""

    model: str = field(metadata={"help": "Folder of a model."})
    repo_id: str = field(metadata={"help": "Repository, owner/name."})
    dataset: str | None = field(default=None, metadata={"help": "Name of the training data."})
    data_licence: str | None = field(default=None, metadata={"help": "Licence of the training data."})
    results: str | None = field(default=None, metadata={"help": "A results.json to put into the card."})
    synthetic: bool | None = field(default=None, metadata={"help": "The training data are simulated."})
    private: bool = field(default=False, metadata={"help": "Make a private repository."})
    tag: str | None = field(default=None, metadata={"help": "Tag for the commit, such as v1.0."})
    dry_run: bool = field(default=False, metadata={"help": "Write the card, upload nothing."})


def main() -> None:
    """Write the card and upload everything."""
    (args,) = HfArgumentParser(ScriptArguments).parse_args_into_dataclasses()
    opened = open_model_folder(args.model)
    context = card_context_of(
        args.model,
        model_name=args.repo_id.rpartition("/")[2],
        dataset=args.dataset,
        data_licence=args.data_licence,
        results=dict(read_results(args.results)) if args.results else None,
        repo=args.repo_id,
        synthetic=args.synthetic,
    )
    card = write_model_card(args.model, opened.model, opened.feature_extractor, context)
    print(f"card: {card}")
    report = push_model(
        args.model, args.repo_id, private=args.private or None, tag=args.tag, dry_run=args.dry_run
    )
    print(report.summary())


if __name__ == "__main__":
    main()
