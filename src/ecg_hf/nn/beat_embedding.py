"""Beats to tokens: what they look like, in which lead, in which second."""

from __future__ import annotations

from torch import Tensor, nn

from ecg_hf.nn.precision import match_weights

__all__ = ["BeatEmbedding"]


class BeatEmbedding(nn.Module):
    """A convolution over the token axis, plus embeddings of the lead and of the second.

    The convolution is circular: with a kernel of 3, a token sees its neighbours in the sequence, the last beat of a
    lead the first of the next one, and the last token of all the first, as in the official code of CLEAR-HUG and
    HeartLang.

    Args:
        input_size: Values of a beat.
        hidden_size: Width of the tokens.
        kernel_size: Of the convolution, odd.
        num_lead_ids: Rows of the lead embedding.
        num_time_ids: Rows of the embedding of seconds.
    """

    def __init__(
        self, input_size: int, hidden_size: int, kernel_size: int, *, num_lead_ids: int, num_time_ids: int
    ) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(
            input_size,
            hidden_size,
            kernel_size,
            padding=kernel_size // 2,
            padding_mode="circular" if kernel_size > 1 else "zeros",
            bias=False,
        )
        self.lead_embedding = nn.Embedding(num_lead_ids, hidden_size)
        self.time_embedding = nn.Embedding(num_time_ids, hidden_size)

    def project(self, beats: Tensor) -> Tensor:
        """Float ``(batch, tokens, input_size)`` to ``(batch, tokens, hidden_size)``, without lead and second."""
        projected: Tensor = self.convolution(match_weights(beats, self.convolution).transpose(1, 2))
        return projected.transpose(1, 2)

    def places(self, lead_ids: Tensor, time_ids: Tensor) -> Tensor:
        """Embedding of lead and second: int64 ``(..., tokens)`` each to ``(..., tokens, hidden_size)``."""
        embedded: Tensor = self.lead_embedding(lead_ids) + self.time_embedding(time_ids)
        return embedded

    def forward(self, beats: Tensor, lead_ids: Tensor, time_ids: Tensor) -> Tensor:
        """Embed.

        Args:
            beats: float ``(batch, tokens, input_size)``.
            lead_ids: int64 ``(tokens,)`` or ``(batch, tokens)``.
            time_ids: int64 ``(batch, tokens)``.

        Returns:
            ``(batch, tokens, hidden_size)``.
        """
        return self.project(beats) + self.places(lead_ids, time_ids)
