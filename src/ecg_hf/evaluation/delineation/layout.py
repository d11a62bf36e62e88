"""Which lead and which moment a model's tokens stand for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ecg_hf.errors import ConfigurationError

__all__ = ["TokenLayout", "token_layout", "token_times"]


@dataclass(frozen=True, slots=True)
class TokenLayout:
    """Order of the tokens of ``last_hidden_state``.

    Attributes:
        steps: Consecutive tokens in time, each of ``samples_per_token`` samples.
        samples_per_token: Samples of the model's input between the starts of neighbours.
        leads: Leads that follow one another, each with its ``steps``; None where a token stands for all leads.
        before: Tokens ahead of these that stand for no moment, such as [CLS].
    """

    steps: int
    samples_per_token: int
    leads: int | None = None
    before: int = 0

    @property
    def count(self) -> int:
        """Tokens in all."""
        return self.before + self.steps * (self.leads or 1)


def token_layout(model: Any, samples: int, tokens: int) -> TokenLayout:
    """Layout of the ``tokens`` a model makes of ``samples`` samples.

    A model that knows better has a method ``token_layout(samples, tokens) -> TokenLayout``. Otherwise the
    configuration tells: ``patch_size`` (or ``samples_per_step``), and ``num_leads`` or ``lead_names``.

    * ``leads * (samples // patch)`` tokens are the patches of each lead in turn (ECG-JEPA, CG-DMER);
    * one token more than that is a class token that stands first (CoRe-ECG);
    * ``samples / patch`` tokens, rounded up or down, are steps in time of all leads together (ECG-CPC, ACL-ECG).

    Args:
        model: Model with a ``config``.
        samples: Samples of its input.
        tokens: Tokens it gives for them.

    Raises:
        ConfigurationError: if the configuration does not tell, as for models whose tokens are beats.
    """
    own = getattr(model, "token_layout", None)
    if own is not None:
        layout: TokenLayout = own(samples, tokens)
        return layout
    config = getattr(model, "config", None)
    # As attributes of the class, too: a model's tokens may follow from other fields.
    patch = int(getattr(config, "patch_size", None) or getattr(config, "samples_per_step", None) or 0)
    leads = int(getattr(config, "num_leads", None) or 0)
    if patch > 0:
        if leads > 1:
            steps = samples // patch
            if tokens - leads * steps in (0, 1):
                return TokenLayout(steps, patch, leads, tokens - leads * steps)
        if tokens in (samples // patch, -(-samples // patch)):
            return TokenLayout(tokens, patch)
    raise ConfigurationError(
        f"the configuration does not tell which moments {tokens} tokens of {samples} samples stand for",
        value=tokens,
    )


def token_times(
    model: Any, samples: int, tokens: int
) -> tuple[npt.NDArray[np.intp] | None, npt.NDArray[np.intp]]:
    """Lead and first sample of every token.

    Args:
        model: See :func:`token_layout`.
        samples: Samples of the model's input.
        tokens: Tokens it gives for them.

    Returns:
        Row of the model's leads ``(tokens,)``, -1 for tokens of no moment, or None where tokens stand for all leads;
        first sample ``(tokens,)``, -1 likewise.
    """
    layout = token_layout(model, samples, tokens)
    starts = np.arange(layout.steps) * layout.samples_per_token
    nothing = np.full(layout.before, -1, dtype=np.intp)
    first = np.concatenate([nothing, np.tile(starts, layout.leads or 1)])
    if layout.leads is None:
        return None, first
    return np.concatenate([nothing, np.repeat(np.arange(layout.leads), layout.steps)]), first
