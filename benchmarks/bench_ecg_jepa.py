"""ECG-JEPA's attention and training step against the straightforward formulation.

(1) Attention over a grid of leads x times at the published width (768, 16 heads): factorised CroPA against
scaled-dot-product attention with the boolean mask, and against the softmax written out, at 8 leads x 10 s (400
tokens) and 12 leads x 30 s (1,800 tokens). (2) One training step (forward, backward, no optimiser): this package as
it is set up by itself, against the official formulation (explicit masked softmax), and against the same with the
student over all 400 tokens, hidden ones too. All variants are checked to give the same numbers first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from ecg_hf.models.ecg_jepa.configuration_ecg_jepa import EcgJepaConfig
from ecg_hf.models.ecg_jepa.encoder_ecg_jepa import pick_times
from ecg_hf.models.ecg_jepa.modeling_ecg_jepa import EcgJepaForPreTraining
from ecg_hf.nn.attention import eager_attention
from ecg_hf.nn.cropa import cropa_mask, factorised_cropa, factorised_cropa_mask
from ecg_hf.nn.losses.latent import latent_prediction_loss
from ecg_hf.nn.masks.time import TimeMask
from rows import Row, alternate, memory

HEADS, HEAD_DIM = 16, 48
Work = Callable[[], Tensor]


def compare(
    name: str,
    variants: dict[str, Work],
    rounds: int,
    least: float | None = None,
    *,
    per: int = 1,
    item: str = "",
) -> Iterator[Row]:
    """The first variant against each of the others."""
    results = {variant: float(work()) for variant, work in variants.items()}
    first, *others = variants
    for variant in others:
        if abs(results[variant] - results[first]) > 1e-4 * max(abs(results[first]), 1.0):
            raise SystemExit(f"{name}: {variant} is not the same computation as {first}")
        yield alternate(
            name,
            variants[first],
            variants[variant],
            variant,
            per=per,
            item=item,
            rounds=rounds,
            least=least,
            operators=True,
        )


def attention_variants(leads: int, times: int, batch: int, *, backward: bool) -> dict[str, Work]:
    """The three ways, on the same queries, keys and values."""
    tokens = leads * times
    drawn = torch.randn(batch, tokens, 3, HEADS, HEAD_DIM)
    dense = cropa_mask(leads, times)
    factors = factorised_cropa_mask(leads, times, None, torch.device("cpu"))
    scaling, module = HEAD_DIM**-0.5, nn.Identity()

    def sdpa(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        attended = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=dense)
        return attended.transpose(1, 2).contiguous()

    def run(kernel: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Tensor:
        leaf = drawn.detach().requires_grad_(backward)
        with torch.set_grad_enabled(backward):
            total = kernel(*leaf.permute(2, 0, 3, 1, 4)).square().mean()
        if backward:
            total.backward()
        return total.detach()

    return {
        "factorised": lambda: run(lambda q, k, v: factorised_cropa(q, k, v, factors, scaling)),
        "masked SDPA": lambda: run(sdpa),
        "explicit softmax": lambda: run(
            lambda q, k, v: eager_attention(module, q, k, v, dense[None, None], scaling=scaling)[0]
        ),
    }


def step_variants(size: str, batch: int) -> dict[str, Work]:
    """One forward and backward of the training model, three ways, with the same weights and mask."""
    torch.manual_seed(0)
    model = EcgJepaForPreTraining(EcgJepaConfig.preset(size, drop_path_rate=0.0)).train()
    values = torch.randn(batch, model.config.num_leads, model.config.num_samples)
    drawn = model.draw_noise({"input_values": values}, torch.Generator().manual_seed(1))
    times = TimeMask(drawn["visible_times"], drawn["masked_times"])
    leads, patches = model.config.num_leads, model.config.num_patches
    everything = torch.arange(patches).expand(batch, -1)

    def finish(loss: Tensor) -> Tensor:
        model.zero_grad(set_to_none=True)
        loss.backward()
        return loss.detach()

    def own(kernel: str) -> Tensor:
        model.set_attn_implementation(kernel)
        return finish(model(values, visible_times=times.visible, masked_times=times.masked).loss)

    def all_tokens() -> Tensor:
        model.set_attn_implementation("eager")
        target, _ = model.targets(values, times)
        hidden = torch.zeros(batch, leads, patches, dtype=torch.bool)
        present = hidden.scatter(2, times.visible[:, None].expand(-1, leads, -1), True)
        tokens = model.ecg_jepa.encoder(values, present.flatten(1), everything).unflatten(1, (leads, -1))
        predicted = model.predictor(pick_times(tokens, times.visible).flatten(1, 2), times)
        predicted = predicted.unflatten(1, (leads, -1))[:, :, times.visible.shape[1] :].flatten(1, 2)
        return finish(latent_prediction_loss(predicted, target))

    return {
        "this package": lambda: own("sdpa"),
        "explicit masked softmax": lambda: own("eager"),
        "the same over all tokens": all_tokens,
    }


def rows(quick: bool) -> Iterator[Row]:
    """Attention on two grids, and a training step."""
    rounds = 3 if quick else 5
    for leads, times, batch in ((8, 50, 2 if quick else 8), (12, 150, 1 if quick else 2)):
        for backward in (False, True):
            name = f"attention {leads} leads x {times} times, forward{' and backward' if backward else ''}"
            least = 3.0 if leads == 12 else None
            variants = attention_variants(leads, times, batch, backward=backward)
            yield from compare(name, variants, rounds, least)
            ours, reference, _ = variants.values()
            yield memory(name, ours, reference, "masked SDPA")
    size, batch = ("tiny", 2) if quick else ("base", 8)
    name = f"ECG-JEPA training step, {size}"
    yield from compare(name, step_variants(size, batch), min(rounds, 3), 1.5, per=batch, item="record")
