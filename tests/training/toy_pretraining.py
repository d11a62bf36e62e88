"""The smallest model that obeys the pretraining contract, and data for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput

from ecg_hf.nn.gather import gather_across_processes
from ecg_hf.training import EcgPreTrainer, EcgPreTrainingArguments

LEADS, SAMPLES, TOKENS, WORDS = 2, 16, 6, 11


class ToyConfig(PreTrainedConfig):
    model_type = "toy-ecg-text"
    dropout: float = 0.0
    width: int = 8
    contrastive: bool = True
    batch_norm: bool = False


@dataclass
class ToyOutput(ModelOutput):
    loss: Tensor | None = None
    loss_terms: dict[str, Tensor] | None = None
    metrics: dict[str, Tensor] | None = None


class ToyForPreTraining(PreTrainedModel):
    config: ToyConfig
    main_input_name = "input_values"
    accepts_loss_kwargs = False
    pool_embeddings = staticmethod(gather_across_processes)

    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        width = config.width
        self.ecg = nn.Sequential(nn.Linear(LEADS * SAMPLES, width), nn.GELU(), nn.Dropout(config.dropout))
        self.head = nn.Linear(width, width)
        self.text = nn.Embedding(WORDS, width)
        self.decoder = nn.Linear(width, LEADS * SAMPLES)
        self.norm = nn.BatchNorm1d(width) if config.batch_norm else nn.Identity()
        self.logit_scale = nn.Parameter(torch.tensor(1.0))
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)

    def draw_noise(
        self, batch: dict[str, Tensor], generator: torch.Generator, rows: int | None = None
    ) -> dict[str, Tensor]:
        shape = (len(batch["input_values"]) if rows is None else rows, LEADS, SAMPLES)
        return {"mask_noise": torch.rand(shape, generator=generator, device=generator.device)}

    def forward(
        self, input_values: Tensor, input_ids: Tensor, mask_noise: Tensor, return_loss: bool = True
    ) -> ToyOutput:
        masked = mask_noise < 0.5
        hidden = self.norm(self.ecg(input_values.masked_fill(masked, 0).flatten(1)))
        error = ((self.decoder(hidden).view_as(input_values) - input_values) ** 2).mean((1, 2))
        terms = {"reconstruction": error.mean()}
        if self.config.contrastive:
            words = self.text(input_ids).mean(1)
            pool = self.pool_embeddings({"ecg": F.normalize(self.head(hidden)), "text": F.normalize(words)})
            logits = pool["ecg"] @ pool["text"].T * self.logit_scale.exp()
            target = torch.arange(len(logits), device=logits.device)
            terms["contrastive"] = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
        metrics = {"error_ratio": error.mean() / (input_values**2).mean()}
        return ToyOutput(loss=sum(terms.values()), loss_terms=terms, metrics=metrics)


class ToyData(torch.utils.data.Dataset):
    def __init__(self, records: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.signals = torch.randn(records, LEADS, SAMPLES, generator=generator)
        self.ids = torch.randint(0, WORDS, (records, TOKENS), generator=generator)

    def __len__(self) -> int:
        return len(self.signals)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"input_values": self.signals[index], "input_ids": self.ids[index]}


def toy_trainer(
    output_dir: Path, *, records: int = 64, config: dict[str, Any] | None = None, **arguments: Any
) -> EcgPreTrainer:
    defaults: dict[str, Any] = {
        "learning_rate": 1e-2,
        "logging_steps": 1,
        "save_strategy": "no",
        "use_cpu": True,
        "disable_tqdm": True,
        "optim": "sgd",  # Adam's first step is +-lr whatever the gradient's size: it would hide wrong scales
    }
    torch.manual_seed(0)
    model = ToyForPreTraining(ToyConfig(**(config or {})))
    return EcgPreTrainer(
        model,
        EcgPreTrainingArguments(output_dir=str(output_dir), **{**defaults, **arguments}),
        train_dataset=ToyData(records),
        eval_dataset=ToyData(20),
    )


def training_losses(trainer: EcgPreTrainer) -> list[dict[str, float]]:
    return [row for row in trainer.state.log_history if "loss" in row]
