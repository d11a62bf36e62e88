"""CRT against its official code: domains, dropping, network, objective, gradients."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from ecg_hf.models.crt.configuration_crt import CrtConfig
from ecg_hf.models.crt.encoder_crt import cross_domain_signal
from ecg_hf.models.crt.modeling_crt import CrtForPreTraining, CrtModel

pytestmark = pytest.mark.fixtures

CLOSE = {"rtol": 0.0, "atol": 1e-5}
RELATIVE = {"rtol": 1e-5, "atol": 1e-5}
# Official tokens of a record: [CLS] of a domain, then its patches. Ours: all [CLS], then all patches.
CLS = [0, 17, 26]
ORDER = [*CLS, *(token for token in range(35) if token not in CLS)]
_BLOCK = {
    "0.norm": "attention_norm",
    "0.fn.to_qkv": "attention.qkv",
    "0.fn.to_out.0": "attention.output",
    "1.norm": "mlp_norm",
    "1.fn.net.0": "mlp.0",
    "1.fn.net.3": "mlp.3",
}


@pytest.fixture(scope="module")
def recorded(shared_fixtures: Path) -> dict[str, Tensor]:
    return load_file(shared_fixtures / "crt" / "tiny_io.safetensors")


@pytest.fixture(scope="module")
def official(shared_fixtures: Path) -> dict[str, Tensor]:
    return load_file(shared_fixtures / "crt" / "tiny_state_dict.safetensors")


def config(**overrides: object) -> CrtConfig:
    sizes = {
        "lead_names": ["I", "II", "V1"],
        "num_samples": 160,
        "patch_size": 10,
        "spectrum": "raw",
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "head_size": 8,
        "intermediate_size": 16,
        "dropout": 0.0,
        "embedding_dropout": 0.0,
        "decoder_num_layers": 1,
        "drop_ratio_start": 0.5,
        "drop_ratio_end": 0.5,
    }
    return CrtConfig(**{**sizes, **overrides})


def own_names(official: dict[str, Tensor]) -> dict[str, Tensor]:
    """The official state under the names of :class:`CrtForPreTraining`."""
    own = {
        "progress": torch.zeros(()),
        "crt.encoder.cls_tokens": official["encoder.cls_token"][0],
        "crt.encoder.domain_embedding": official["encoder.modal_embedding"][:, 0],
        "crt.encoder.positions": official["encoder.pos_embedding"][0, ORDER],
        "decoder.mask_tokens": official["mask_token"],
        "decoder.positions": official["decoder_pos_emb.weight"][:32],
    }
    for index, name in enumerate(("first_projection", "second_projection")):
        own |= {f"{name}.{part}": official[f"projs.{index}.{part}"] for part in ("weight", "bias")}
    for domain in range(3):
        own |= {
            f"decoder.heads.{domain}.{part}": official[f"to_pixels.{domain}.{part}"]
            for part in ("weight", "bias")
        }
    stacks = (("encoder.transformer.layers", "crt.encoder", 2), ("decoder.layers", "decoder", 1))
    for source, target, depth in stacks:
        for layer in range(depth):
            for theirs, ours in _BLOCK.items():
                for part in ("weight", "bias"):
                    key = f"{source}.{layer}.{theirs}.{part}"
                    if key in official:
                        own[f"{target}.layers.blocks.{layer}.{ours}.{part}"] = official[key]
    for domain in range(3):
        source = f"encoder.cnn{domain + 1}.cnn.feature_extractor."
        target = f"crt.encoder.networks.{domain}.network."
        names = {"0": "stem.0.0", "1": "stem.0.1"}
        for stage in range(4):
            for block in range(2):
                here, there = f"{stage + 4}.{block}.", f"blocks.{2 * stage + block}."
                for index in range(2):
                    names[f"{here}conv{index + 1}"] = f"{there}convolutions.{index}.0"
                    names[f"{here}bn{index + 1}"] = f"{there}convolutions.{index}.1"
                    names[f"{here}downsample.{index}"] = f"{there}shortcut.0.{index}"
        for theirs, ours in names.items():
            for part in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
                if f"{source}{theirs}.{part}" in official:
                    own[f"{target}{ours}.{part}"] = official[f"{source}{theirs}.{part}"]
    return own


def noise(recorded: dict[str, Tensor], mode: str) -> dict[str, Tensor]:
    """Noise that drops what the fixture's permutations drop: their first half."""
    return {
        f"{name}_noise": (-recorded[f"{mode}.perm_{short}"].argsort().float()).expand(2, -1)
        for name, short in (("time", "time"), ("frequency", "freq"))
    }


def model(official: dict[str, Tensor], mode: str = "eval", **overrides: object) -> CrtForPreTraining:
    made = CrtForPreTraining(config(**overrides))
    made.load_state_dict(own_names(official))
    return made.train(mode == "train")


def test_every_official_tensor_is_used(official: dict[str, Tensor]) -> None:
    """One more is ours, the progress, and one of theirs is the same embedding of domains under a second name."""
    assert len(own_names(official)) == len(official)
    assert torch.equal(official["modal_embedding"], official["encoder.modal_embedding"])


def test_domains(recorded: dict[str, Tensor]) -> None:
    made = cross_domain_signal(recorded["signal"], standardize=False)
    torch.testing.assert_close(made, recorded["input"], **CLOSE)


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_tokens_and_predictions(recorded: dict[str, Tensor], official: dict[str, Tensor], mode: str) -> None:
    """Patches through their networks, positions, both transformers; with statistics of the batch while training."""
    # Norms by the statistics of a few records magnify rounding: to 4e-5 on processors without AVX2.
    close = RELATIVE if mode == "eval" else {"rtol": 1e-4, "atol": 1e-4}
    crt = model(official, mode)
    kept, dropped = crt._divided(*noise(recorded, mode).values())
    tokens = crt.crt.encoder(crt.patches(recorded["signal"]), None, kept)
    kept_order = [0, 9, 14, *range(1, 9), *range(10, 14), *range(15, 19)]
    torch.testing.assert_close(tokens.encoded, recorded[f"{mode}.encoder_out"][:, kept_order], **close)
    predicted = crt.decoder(tokens, dropped)
    theirs = torch.cat([recorded[f"{mode}.pred{domain}"] for domain in range(3)], dim=1)
    order = torch.cat([part for pair in zip(kept, dropped, strict=True) for part in pair], dim=1)
    assert torch.equal(order[0], recorded[f"{mode}.target_index_aligned"])
    picked = predicted.flatten(2).gather(1, order[..., None].expand(-1, -1, 30))
    torch.testing.assert_close(picked, theirs, **close)


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_objective_and_gradients(recorded: dict[str, Tensor], official: dict[str, Tensor], mode: str) -> None:
    aligned = model(official, mode)(recorded["signal"], **noise(recorded, mode))
    torch.testing.assert_close(aligned.loss, recorded[f"{mode}.loss_aligned_targets"], **RELATIVE)
    crt = model(official, mode, targets="official")
    output = crt(recorded["signal"], **noise(recorded, mode))
    torch.testing.assert_close(output.loss, recorded[f"{mode}.loss"], **RELATIVE)
    torch.testing.assert_close(output.loss_terms["discrimination"], recorded[f"{mode}.idc_loss"], **CLOSE)
    output.loss.backward()
    encoder = crt.crt.encoder
    ours = {
        "decoder.layers.0.0.fn.to_qkv.weight": crt.decoder.layers.blocks[0].attention.qkv.weight.grad,
        "encoder.cls_token": encoder.cls_tokens.grad[None],
        "encoder.pos_embedding": encoder.positions.grad[None],
        "mask_token": crt.decoder.mask_tokens.grad,
        "projs.0.weight": crt.first_projection.weight.grad,
        "to_pixels.2.weight": crt.decoder.heads[2].weight.grad,
    }
    for name, gradient in ours.items():
        expected = recorded[f"{mode}.grad.{name}"]
        expected = expected[:, ORDER] if name == "encoder.pos_embedding" else expected
        torch.testing.assert_close(gradient, expected, **RELATIVE)


def test_embedding_of_records(recorded: dict[str, Tensor], official: dict[str, Tensor]) -> None:
    """Downstream the official code adds the time domain's embedding to all tokens; with it in all rows we agree."""
    state = {
        key.removeprefix("crt."): value
        for key, value in own_names(official).items()
        if key.startswith("crt.")
    }
    state["encoder.domain_embedding"] = state["encoder.domain_embedding"][:1].expand(3, -1)
    encoder = CrtModel(config())
    encoder.load_state_dict(state)
    pooled = encoder.eval()(recorded["signal"]).pooler_output
    torch.testing.assert_close(pooled, recorded["downstream.mean_of_3_cls_official"], **CLOSE)
