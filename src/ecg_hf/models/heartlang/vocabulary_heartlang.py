"""VQ-HBR: the vocabulary of HeartLang, learnt by rebuilding heartbeats from the codes that stand for them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ecg_hf.models.heartlang.configuration_heartlang import HeartLangConfig
from ecg_hf.models.heartlang.encoder_heartlang import BeatTransformer
from ecg_hf.nn.beats import BeatSentence
from ecg_hf.nn.codebook import Codebook, Quantized
from ecg_hf.nn.precision import full_precision, match_weights

__all__ = ["HeartLangVocabulary", "VocabularyOutput", "learn_vocabulary"]


class VocabularyOutput(NamedTuple):
    """What a forward pass of VQ-HBR gives.

    Attributes:
        reconstruction: float32 ``(batch, tokens, beat_length)``, in millivolts.
        reconstruction_loss: Mean squared error over all tokens, places without a beat included.
        commitment_loss: See :class:`ecg_hf.nn.codebook.Quantized`.
        quantized: The codes.
    """

    reconstruction: Tensor
    reconstruction_loss: Tensor
    commitment_loss: Tensor
    quantized: Quantized


class HeartLangVocabulary(nn.Module):
    """Encoder, codebook and decoder of beats.

    Official code: ``modeling_vqhbr.py``.
    """

    def __init__(self, config: HeartLangConfig) -> None:
        super().__init__()
        width = config.vq_hidden_size
        # Not "encoder" and "decoder": hidden states are recorded of modules of such names.
        self.reader, self.writer = (
            BeatTransformer(
                config,
                values,
                width,
                num_layers=layers,
                num_heads=config.vq_num_attention_heads,
                head_size=config.vq_head_size,
                intermediate_size=config.vq_intermediate_size,
            )
            for values, layers in (
                (config.beat_length, config.vq_num_hidden_layers),
                (config.code_size, config.vq_decoder_num_layers),
            )
        )
        self.to_code = _two_layers(width, config.code_size)
        self.to_beat = _two_layers(width, config.beat_length)
        self.codebook = Codebook(config.codebook_size, config.code_size, float(config.codebook_decay))

    def read(self, sentence: BeatSentence, *, places: bool = True) -> Tensor:
        """What becomes codes: float ``(batch, tokens, code_size)``.

        Args:
            sentence: Beats.
            places: Whether beats know their lead and second.
        """
        beats = sentence.beats
        ids = (sentence.lead_ids, sentence.time_ids) if places else ()
        tokens = self.reader(beats, *ids)[:, 1:]
        # All-zero beats are told by their samples, as officially, not by the mask.
        tokens = torch.where((beats != 0).any(-1, keepdim=True), tokens, 0.0)
        read: Tensor = self.to_code(match_weights(tokens, self.to_code))
        return read

    @torch.no_grad()
    def codes(self, sentence: BeatSentence, *, places: bool = True) -> Tensor:
        """Numbers of the codes, int64 ``(batch, tokens)``; see :meth:`read`."""
        return self.codebook.nearest(self.read(sentence, places=places))

    def forward(self, sentence: BeatSentence) -> VocabularyOutput:
        """Rebuild beats from their codes."""
        quantized = self.codebook(self.read(sentence))
        written = self.writer(quantized.values, sentence.lead_ids, sentence.time_ids)[:, 1:]
        rebuilt = full_precision(self.to_beat(match_weights(written, self.to_beat)))
        error = F.mse_loss(rebuilt, full_precision(sentence.beats))
        return VocabularyOutput(rebuilt, error, quantized.commitment, quantized)

    @torch.no_grad()
    def fit_codebook(self, sentences: Iterable[BeatSentence]) -> None:
        """Place the codes among the beats of the first records, two beats for each code.

        Differs from official code: that takes all tokens of the first batch, places without a beat included.
        """
        wanted, vectors = 2 * len(self.codebook.codes), []
        for sentence in sentences:
            vectors.append(self.read(sentence)[sentence.beat_mask])
            if sum(map(len, vectors)) >= wanted:
                break
        found = torch.cat(vectors) if vectors else torch.zeros(0)
        if len(found):
            self.codebook.fit(found)


def learn_vocabulary(
    vocabulary: HeartLangVocabulary,
    sentences: Iterable[BeatSentence],
    learning_rate: float,
    commitment: float,
) -> int:
    """Fit the codes of a vocabulary, then train it in one pass over ``sentences``, a step for each batch.

    The optimiser is that of the authors' first stage, but for its rate.

    Returns:
        The steps.
    """
    parameters = list(vocabulary.parameters())
    optimizer = torch.optim.AdamW(parameters, learning_rate, (0.9, 0.99), weight_decay=1e-4)
    vocabulary.train()
    steps, rest = 0, iter(sentences)
    first: list[BeatSentence] = []

    def remembered() -> Iterator[BeatSentence]:
        for sentence in rest:
            first.append(sentence)
            yield sentence

    vocabulary.fit_codebook(remembered())
    for sentence in chain(first, rest):
        with torch.enable_grad():
            output = vocabulary(sentence)
            loss = output.reconstruction_loss + commitment * output.commitment_loss
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 3.0)
        optimizer.step()
        vocabulary.codebook.step()
        steps += 1
    return steps


def _two_layers(width: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, out))
