"""Against tensors made with the official code, through conversion and Auto classes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModel, AutoModelForPreTraining

from ecg_hf.errors import ConfigurationError, ConversionError
from ecg_hf.hub.converting import convert_checkpoint
from ecg_hf.models.auto import AutoModelForEcgClassification
from ecg_hf.models.conversion import OfficialState
from ecg_hf.models.heartlang.configuration_heartlang import HeartLangConfig
from ecg_hf.models.heartlang.conversion_heartlang import convert_official
from ecg_hf.models.heartlang.modeling_heartlang import HeartLangForPreTraining, HeartLangModel
from ecg_hf.nn.codebook import cosine_k_means

pytestmark = pytest.mark.fixtures

CLOSE = {"rtol": 0.0, "atol": 1e-5}


@pytest.fixture(scope="module")
def folder(shared_fixtures) -> Path:
    return shared_fixtures / "heartlang"


@pytest.fixture(scope="module")
def io(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "tiny_io.safetensors")


@pytest.fixture(scope="module")
def given(io: dict[str, Tensor]) -> dict[str, Tensor]:
    return {"input_values": io["input"], "channel_ids": io["in_chan"], "time_ids": io["in_time"]}


@pytest.fixture(scope="module")
def converted(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of the encoder alone, of both stages, and of the first alone."""
    target = tmp_path_factory.mktemp("converted")
    backbone, vocabulary = (folder / f"tiny_{name}_state_dict.safetensors" for name in ("backbone", "vqhbr"))
    convert_checkpoint("heartlang", backbone, target / "encoder")
    convert_checkpoint("heartlang", backbone, target / "both", vqhbr=vocabulary)
    convert_checkpoint("heartlang", vocabulary, target / "first")
    return {name: target / name for name in ("encoder", "both", "first")}


def pretraining(path: Path) -> HeartLangForPreTraining:
    model = AutoModelForPreTraining.from_pretrained(path)
    assert isinstance(model, HeartLangForPreTraining)
    return model.eval()


@pytest.mark.parametrize("which", ["encoder", "both"])
def test_encoder(
    which: str, converted: dict[str, Path], io: dict[str, Tensor], given: dict[str, Tensor]
) -> None:
    model = AutoModel.from_pretrained(converted[which]).eval()
    assert isinstance(model, HeartLangModel)
    with torch.no_grad():
        output = model(**given)
        embedded = model.encoder.embedding.project(io["input"])
    torch.testing.assert_close(output.last_hidden_state, io["last_hidden_state"], **CLOSE)
    torch.testing.assert_close(output.pooler_output, io["pooler_output"], **CLOSE)
    torch.testing.assert_close(output.last_hidden_state[:, 1:].mean(1), io["mean_tokens"], **CLOSE)
    torch.testing.assert_close(embedded, io["token_embed"], **CLOSE)


def test_masked_sentences(
    converted: dict[str, Path], io: dict[str, Tensor], given: dict[str, Tensor]
) -> None:
    """Masks, targets, logits, loss and gradients of stage 2."""
    model = pretraining(converted["both"])
    encoder = model.heartlang.encoder
    seen: dict[str, Tensor] = {}
    encoder.layers.register_forward_hook(lambda _, inputs, __: seen.update(input=inputs[0]))
    encoder.register_forward_hook(lambda _, __, output: seen.update(output=output))
    output = model(**given, noise=io["noise"])
    torch.testing.assert_close(seen["input"], io["encoder_input"], **CLOSE)
    torch.testing.assert_close(seen["output"], io["last_hidden_state_masked"], **CLOSE)
    hidden = torch.zeros_like(io["mask"], dtype=torch.int64).scatter(1, output.masked_index, 1)
    assert torch.equal(hidden, io["mask"].long())
    assert torch.equal(output.codes.flatten(), io["mlm_labels"])
    torch.testing.assert_close(output.code_logits.flatten(0, 1), io["mlm_logits"], **CLOSE)
    torch.testing.assert_close(output.loss, io["mlm_loss"], **CLOSE)
    output.loss.backward()
    for name, parameter in {
        "cls_token": encoder.cls_token,
        "mask_token": model.mask_token[None, None],
        "norm_layer.weight": encoder.norm.weight,
        "spa_embed.embed.weight": encoder.embedding.lead_embedding.weight,
        "token_embed.tokenConv.weight": encoder.embedding.convolution.weight,
        "transformer.layers.0.0.to_qkv.weight": encoder.layers.blocks[0].attention.qkv.weight,
        "lm_head.bias": model.lm_head.bias,
    }.items():
        gradient = model.mask_token.grad[None, None] if name == "mask_token" else parameter.grad
        torch.testing.assert_close(gradient, io[f"grad.{name}"], **CLOSE)


def test_vocabulary(converted: dict[str, Path], io: dict[str, Tensor], given: dict[str, Tensor]) -> None:
    """Codes, reconstruction, losses and gradients of stage 1."""
    model = pretraining(converted["first"])
    vocabulary = model.vocabulary
    sentence = model.sentence(**given)
    assert torch.equal(vocabulary.codes(sentence), io["codes_with_positions"])
    assert torch.equal(vocabulary.codes(sentence, places=False), io["codes_without_positions"])
    with torch.no_grad():
        torch.testing.assert_close(vocabulary.read(sentence), io["vq.to_quantizer"], **CLOSE)
        tokens = vocabulary.reader(sentence.beats, sentence.lead_ids, sentence.time_ids)[:, 1:]
        real = io["vq.encoder_tokens"].abs().sum(-1, keepdim=True) > 0
        torch.testing.assert_close(tokens * real, io["vq.encoder_tokens"], **CLOSE)
        torch.testing.assert_close(vocabulary(sentence).quantized.values, io["vq.quantized"], **CLOSE)
    output = model(**given)
    assert torch.equal(output.codes, io["vq.codes"])
    torch.testing.assert_close(output.beat_reconstruction, io["vq.reconstruction"], **CLOSE)
    torch.testing.assert_close(output.loss, io["vq.loss"], **CLOSE)
    torch.testing.assert_close(output.loss_terms["reconstruction"], io["vq.rec_loss"], **CLOSE)
    torch.testing.assert_close(output.loss_terms["commitment"], io["vq.commit_loss"], **CLOSE)
    output.loss.backward()
    reader, writer = vocabulary.reader, vocabulary.writer
    for name, parameter in {
        "encoder.cls_token": reader.cls_token,
        "encoder.token_embed.tokenConv.weight": reader.embedding.convolution.weight,
        "encode_task_layer.2.bias": vocabulary.to_code[2].bias,
        "decoder.norm_layer.weight": writer.norm.weight,
        "decoder.token_embed.tokenConv.weight": writer.embedding.convolution.weight,
        "decode_task_layer.2.bias": vocabulary.to_beat[2].bias,
    }.items():
        torch.testing.assert_close(parameter.grad, io[f"grad.vq.{name}"], **CLOSE)


def test_codes_move_as_officially(
    converted: dict[str, Path], io: dict[str, Tensor], given: dict[str, Tensor]
) -> None:
    """In one step of two micro-batches as in one of the whole batch; a pass without gradient moves nothing."""
    model = pretraining(converted["first"]).train()
    book = model.vocabulary.codebook
    torch.testing.assert_close(book.codes, io["ema.embedding_before"], **CLOSE)
    with torch.no_grad():
        model(**given)
    model.after_optimizer_step(0, 1)
    assert torch.equal(book.codes, io["ema.embedding_before"])
    for row in range(2):
        model(**{name: value[row : row + 1] for name, value in given.items()})
    assert torch.equal(book.codes, io["ema.embedding_before"])
    model.after_optimizer_step(0, 1)
    torch.testing.assert_close(book.codes, io["ema.embedding_after"], **CLOSE)
    after = book.codes.clone()
    model.after_optimizer_step(1, 1)
    assert torch.equal(book.codes, after)


def test_k_means(io: dict[str, Tensor]) -> None:
    samples = io["kmeans.samples"]
    means, counts = cosine_k_means(samples, samples[io["kmeans.init_indices"]])
    torch.testing.assert_close(means, io["kmeans.means"], **CLOSE)
    assert torch.equal(counts, io["kmeans.bins"])


def test_classifier(folder: Path, io: dict[str, Tensor], given: dict[str, Tensor], tmp_path: Path) -> None:
    backbone = load_file(folder / "tiny_backbone_state_dict.safetensors")
    state = {f"backbone.{key}": value for key, value in backbone.items()}
    state |= {f"mlp_head.{name}": io[f"cls_head.{name}"] for name in ("weight", "bias")}
    torch.save({"model": state, "epoch": 3}, tmp_path / "tuned.pth")
    convert_checkpoint("heartlang", tmp_path / "tuned.pth", tmp_path / "model")
    model = AutoModelForEcgClassification.from_pretrained(tmp_path / "model").eval()
    output = model(**given, labels=io["cls_labels"])
    torch.testing.assert_close(output.logits, io["cls_logits"], **CLOSE)
    torch.testing.assert_close(output.loss, io["cls_bce"], **CLOSE)


CASES = (
    "fast_22_truncated",
    "first_at_zero",
    "leads_0_1_7",
    "none_found",
    "regular_11",
    "single_mid",
    "slow_rr_gt_96",
)


def test_sentences_are_exact(folder: Path) -> None:
    """All cases in one batch, of different leads and numbers of beats."""
    expected = load_file(folder / "tokenizer.safetensors")
    table, leads = torch.full((len(CASES), 40), -1), torch.zeros(len(CASES), 12, dtype=torch.long)
    for row, case in enumerate(CASES):
        peaks = expected[f"{case}/qrs_inds"]
        table[row, : len(peaks)] = peaks
        leads[row, expected[f"{case}/used_channels"]] = 1
    model = HeartLangModel(HeartLangConfig.preset("tiny", without_peaks="empty"))
    sentence = model.sentence(expected["signal"].expand(len(CASES), -1, -1), leads, r_peaks=table)
    for row, case in enumerate(CASES):
        rows = expected[f"{case}/rows"]
        assert torch.equal(sentence.lead_ids[row], expected[f"{case}/in_chan"]), case
        assert torch.equal(sentence.time_ids[row], expected[f"{case}/in_time"]), case
        assert int(sentence.beat_mask[row].sum()) == int(expected[f"{case}/n_tokens"]), case
        assert torch.equal(sentence.beats[row, rows], expected[f"{case}/tokens_at_rows"]), case
        sums = sentence.beats[row].abs().sum(-1)
        torch.testing.assert_close(sums, expected[f"{case}/token_abs_sums"], rtol=1e-5, atol=1e-5)


# ---------------------------------------------------------------- conversion


def test_published_sizes_convert(folder: Path) -> None:
    """Keys and shapes of both published files: nothing missing, nothing left over."""
    shapes = json.loads((folder / "state_dict_shapes.json").read_text())
    state, vocabulary = (
        OfficialState({key: torch.empty(shape, device="meta") for key, shape in shapes[name].items()})
        for name in ("HeartLang", "vqhbr")
    )
    found = convert_official(state, vqhbr=vocabulary)
    state.finish()
    vocabulary.finish()
    assert found.config.to_diff_dict() == HeartLangConfig(without_peaks="empty").to_diff_dict()
    with torch.device("meta"):
        model = HeartLangForPreTraining(found.config)
    assert {key: value.shape for key, value in model.state_dict().items()} == {
        key: value.shape for key, value in found.state_dict.items()
    }


def test_a_vocabulary_is_taken_over_from_a_converted_first_stage(
    converted: dict[str, Path], io: dict[str, Tensor], given: dict[str, Tensor]
) -> None:
    both = pretraining(converted["both"])
    for parameter in both.vocabulary.parameters():
        parameter.data.zero_()
    both.load_teacher(converted["first"])
    torch.testing.assert_close(both(**given, noise=io["noise"]).loss, io["mlm_loss"], **CLOSE)
    assert not any(parameter.requires_grad for parameter in both.vocabulary.parameters())
    with pytest.raises(ConfigurationError, match="first stage"):
        pretraining(converted["first"]).load_teacher(converted["both"])
    other = HeartLangForPreTraining(HeartLangConfig.preset("micro"))
    with pytest.raises(ConfigurationError, match=r"not the vocabulary.*sentence_length"):
        other.load_teacher(converted["first"])


def test_stages_that_do_not_fit_are_refused(folder: Path, tmp_path: Path) -> None:
    backbone, vocabulary = (folder / f"tiny_{name}_state_dict.safetensors" for name in ("backbone", "vqhbr"))
    with pytest.raises(ConversionError, match="goes with one of stage 2"):
        convert_checkpoint("heartlang", vocabulary, tmp_path / "a", vqhbr=vocabulary)
    with pytest.raises(ConversionError, match="not a checkpoint of this method"):
        convert_checkpoint("heartlang", backbone, tmp_path / "b", vqhbr=backbone)
    with pytest.raises(ConversionError, match="do not divide attention that is 128"):
        convert_checkpoint("heartlang", backbone, tmp_path / "c", config={"dim_head": 60})
    state = load_file(backbone)
    state["unknown"] = torch.ones(1)
    torch.save(state, tmp_path / "more.pth")
    with pytest.raises(ConversionError, match="1 unexpected: unknown"):
        convert_checkpoint("heartlang", tmp_path / "more.pth", tmp_path / "d")
    assert not any((tmp_path / name).exists() for name in "abcd")
