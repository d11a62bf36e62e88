"""Peak rates of known accelerators, from their data sheets: dense, without sparsity."""

from __future__ import annotations

from dataclasses import dataclass

from ecg_hf.errors import ConfigurationError
from ecg_hf.training.settings import Precision

__all__ = ["CARDS", "Card", "card_of_device", "get_card"]


@dataclass(frozen=True, slots=True)
class Card:
    """An accelerator.

    Attributes:
        name: On the command line.
        device_names: Beginnings of what CUDA calls it.
        half_tflops: Dense bfloat16 and float16 matrix rate, TFLOP/s.
        fp32_tflops: float32 rate without TF32, which torch does not use unless told to.
        memory_gb: Memory, 10^9 bytes.
    """

    name: str
    device_names: tuple[str, ...]
    half_tflops: float
    fp32_tflops: float
    memory_gb: float

    def tflops(self, precision: Precision) -> float:
        """Peak rate in a precision."""
        return self.fp32_tflops if precision == "fp32" else self.half_tflops


CARDS: dict[str, Card] = {
    card.name: card
    for card in (
        Card("h200", ("NVIDIA H200",), 989.4, 66.9, 141.0),
        Card("h100-nvl", ("NVIDIA H100 NVL",), 835.0, 60.0, 94.0),
        Card("h100-pcie", ("NVIDIA H100 PCIe",), 756.0, 51.0, 80.0),
        Card("h100", ("NVIDIA H100",), 989.4, 66.9, 80.0),
        Card("a100-80gb", ("NVIDIA A100-SXM4-80GB", "NVIDIA A100 80GB"), 312.0, 19.5, 80.0),
        Card("a100-40gb", ("NVIDIA A100",), 312.0, 19.5, 40.0),
        Card("l40s", ("NVIDIA L40S",), 362.0, 91.6, 48.0),
        Card("l4", ("NVIDIA L4",), 121.0, 30.3, 24.0),
        Card("a10", ("NVIDIA A10",), 125.0, 31.2, 24.0),
    )
}
"""Known cards; of two whose names begin alike the more special one comes first."""


def get_card(name: str) -> Card:
    """Look a card up.

    Raises:
        ConfigurationError: if it is not known; the message lists those that are.
    """
    try:
        return CARDS[name.lower()]
    except KeyError:
        known = ", ".join(CARDS)
        raise ConfigurationError(
            f"unknown card {name!r}; known: {known}; for others give the peak rate in TFLOP/s", value=name
        ) from None


def card_of_device(device_name: str) -> Card | None:
    """The card CUDA calls ``device_name``, None if it is not known.

    A name must go on with a word of its own after the known beginning: ``NVIDIA A10G`` is no ``NVIDIA A10``.
    """
    for card in CARDS.values():
        for known in card.device_names:
            if device_name == known or device_name.startswith((known + " ", known + "-")):
                return card
    return None
