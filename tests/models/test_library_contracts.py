"""What users of the library expect of any model, for every method and role."""

from __future__ import annotations

import copy
import io
import pickle
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import AutoModelForAudioClassification, Trainer, TrainingArguments
from transformers.modeling_layers import GradientCheckpointingLayer

from ecg_hf.errors import ConfigurationError
from ecg_hf.models.layers import CheckpointedLayer
from ecg_hf.models.registry import METHODS
from ecg_hf.nn.normalization import GlobalBatchNorm1d

from .conftest import WITH_ATTENTION, MicroCase, make_case

ROLES = ("model", "pretraining", "classification")
BATCH_NORMED = ("acl-ecg", "ecg-cpc", "byol")


@pytest.fixture
def case(request: pytest.FixtureRequest) -> MicroCase:
    torch.manual_seed(0)
    return make_case(request.param)


@pytest.fixture
def role(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every method in each of its roles (some are not pretrained here), unless the test names methods itself."""
    if any(mark.args[0] == "case" for mark in metafunc.definition.iter_markers("parametrize")):
        return
    if {"case", "role"} <= set(metafunc.fixturenames):
        roles = [(name, role) for name in METHODS for role in ROLES if role in METHODS[name].roles]
        metafunc.parametrize(("case", "role"), roles, indirect=True)
    elif "case" in metafunc.fixturenames:
        metafunc.parametrize("case", sorted(METHODS), indirect=True)


def built(case: MicroCase, role: str, config: object = None) -> nn.Module:
    torch.manual_seed(0)
    model: nn.Module = case.spec.load(role)(case.config if config is None else config)
    return model.eval()


def inputs_of(
    case: MicroCase, role: str, model: nn.Module, *, labels: bool = False
) -> dict[str, torch.Tensor]:
    """A batch for the role; pretraining with its noise, so that two calls see the same."""
    if role == "pretraining":
        return {**case.batch, **model.draw_noise(case.batch, torch.Generator().manual_seed(0))}
    return {**case.signal, **({"labels": torch.ones(4, 2)} if labels else {})}


def main_output(output: object) -> torch.Tensor:
    return next(output[k] for k in ("loss", "logits", "pooler_output") if output.get(k) is not None)


def same_outputs(one: object, other: object) -> None:
    torch.testing.assert_close(main_output(one), main_output(other), rtol=0, atol=0)


def trainer(model: nn.Module, case: MicroCase, folder: Path, **options: object) -> Trainer:
    rows = [{**{k: v[i] for k, v in case.signal.items()}, "labels": torch.ones(2)} for i in range(4)]
    arguments = TrainingArguments(
        output_dir=str(folder),
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
        save_strategy="no",
        **options,
    )
    return Trainer(model, arguments, train_dataset=rows, eval_dataset=rows)


# Forms of the output ------------------------------------------------------------------------------------------


def test_tuples_hold_what_the_output_holds(case: MicroCase, role: str):
    model = built(case, role)
    extra: dict[str, bool] = {"output_hidden_states": True, "output_attentions": True}
    for labels in (False, True):
        for asked in ({}, extra):
            inputs = {**inputs_of(case, role, model, labels=labels), **asked}
            whole = model(**inputs).to_tuple()
            short = model(**inputs, return_dict=False)
            assert type(short) is tuple
            assert len(short) == len(whole)
            model.config.return_dict = False
            by_config = model(**inputs)
            assert type(by_config) is tuple
            assert len(by_config) == len(whole)
            model.config.return_dict = True


def test_states_and_attentions_of_every_role(case: MicroCase, role: str):
    """Under any attention implementation: the eager kernel steps in where weights are asked for."""
    model = built(case, role)
    if case.has_attention:
        assert model.config._attn_implementation == "sdpa"  # which gives no weights by itself
    inputs = inputs_of(case, role, model)
    plain = model(**inputs)
    output = model(**inputs, output_hidden_states=True, output_attentions=True)
    layers = case.config.num_hidden_layers
    assert len(output.hidden_states) == layers + (case.spec.name != "acl-ecg")
    assert (output.attentions is None) is not case.has_attention
    if case.has_attention:
        assert len(output.attentions) == layers
        torch.testing.assert_close(output.attentions[0].sum(-1), torch.ones(output.attentions[0].shape[:-1]))
    torch.testing.assert_close(main_output(output), main_output(plain), rtol=1e-4, atol=1e-5)
    assert plain.get("hidden_states") is None
    chosen = model(**inputs, output_hidden_states=[0]).hidden_states
    assert [state is not None for state in chosen] == [True] + [False] * (len(output.hidden_states) - 1)


def test_gradients_of_states_can_be_kept(case: MicroCase, role: str):
    model = built(case, role).train()
    output = model(**inputs_of(case, role, model), output_hidden_states=True, output_attentions=True)
    kept = [*output.hidden_states, *(output.attentions or ())]
    if case.spec.name == "ecg-cpc" and role == "model":
        kept = []  # of records, joined from those of windows behind the network
    for state in kept:
        state.retain_grad()
    main_output(output).sum().backward()
    assert all(state.grad is not None for state in kept[:-1])


# Copies ---------------------------------------------------------------------------------------------------------


def test_pickles_and_copies_compute_the_same(case: MicroCase, role: str):
    model = built(case, role)
    inputs = inputs_of(case, role, model)
    saved = io.BytesIO()
    torch.save(model, saved)
    saved.seek(0)
    copies = [
        pickle.loads(pickle.dumps(model)),
        copy.deepcopy(model),
        torch.load(saved, weights_only=False),
    ]
    for other in copies:
        same_outputs(other(**inputs), model(**inputs))


@pytest.mark.parametrize("case", WITH_ATTENTION, indirect=True)
def test_a_copy_follows_its_own_attention_implementation(case: MicroCase, monkeypatch: pytest.MonkeyPatch):
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    model = built(case, "classification")
    used: list[str] = []
    lookup = ALL_ATTENTION_FUNCTIONS.get_interface

    def noted(name: str, default: object) -> object:
        used.append(name)
        return lookup(name, default)

    monkeypatch.setattr(ALL_ATTENTION_FUNCTIONS, "get_interface", noted)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        other.set_attn_implementation("eager")
        used.clear()
        other(**case.signal)
        assert set(used) == {"eager"}
        used.clear()
        model(**case.signal)
        assert set(used) == {"sdpa"}


@pytest.mark.parametrize("pooling", ["mean", "attention"])
def test_heads_can_be_replaced_and_quantised(case: MicroCase, pooling: str):
    model = built(case, "classification", make_case(case.spec.name, classifier_pooling=pooling).config)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantised = torch.ao.quantization.quantize_dynamic(
            copy.deepcopy(model), {nn.Linear}, dtype=torch.qint8
        )
    assert quantised(**case.signal).logits.isfinite().all()
    width = model.classifier.in_features
    model.classifier = nn.Identity()
    assert model(**case.signal).logits.shape == (4, width)


# Precision --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_weights_and_signals_may_differ_in_precision(case: MicroCase, role: str, dtype: torch.dtype):
    expected = main_output(built(case, role)(**inputs_of(case, role, built(case, role)))).double()
    model = built(case, role)
    inputs = inputs_of(case, role, model)
    rough = model(**{**inputs, "input_values": inputs["input_values"].to(dtype)})
    torch.testing.assert_close(main_output(rough).double(), expected, rtol=0.1, atol=0.1)
    if dtype != torch.float64:
        model = model.to(dtype)
        low = model(**inputs)
        assert main_output(low).isfinite().all()
        low = model(**{**inputs, "input_values": inputs["input_values"].to(dtype)})
        main_output(low).sum().backward()
        assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_evaluates_in_bfloat16_by_the_trainer(case: MicroCase, tmp_path: Path):
    model = built(case, "classification")
    loss = trainer(model, case, tmp_path, bf16_full_eval=True).evaluate()["eval_loss"]
    assert 0.0 < loss < 5.0


def test_whole_numbers_are_no_signal(case: MicroCase):
    with pytest.raises(ConfigurationError, match="int64"):
        built(case, "model")(**{**case.signal, "input_values": case.signal["input_values"].long()})


# Freezing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_frozen_encoder_gives_the_same_embedding_after_training(case: MicroCase, tmp_path: Path, when: str):
    model = built(case, "classification")
    before = model.base_model(**case.signal).pooler_output.clone()
    states = {name: value.clone() for name, value in model.base_model.state_dict().items()}
    if when == "after":
        model.train()
    model.base_model.requires_grad_(False)
    if when == "before":
        trainer(model, case, tmp_path, max_steps=3).train()
    else:
        model(**case.signal, labels=torch.ones(4, 2)).loss.backward()
    assert torch.equal(model.eval().base_model(**case.signal).pooler_output, before)
    assert all(torch.equal(value, states[name]) for name, value in model.base_model.state_dict().items())


@pytest.mark.parametrize("name", BATCH_NORMED)
def test_accumulation_is_exact_or_refused(name: str, tmp_path: Path):
    """Statistics of micro-batches are not those of the batch; frozen ones are."""
    case = make_case(name)
    options = {"max_steps": 1, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}
    model = built(case, "classification")
    with pytest.raises(ConfigurationError, match="micro_batch_statistics"):
        trainer(model, case, tmp_path / "a", **options).train()
    model.micro_batch_statistics = True
    trainer(model, case, tmp_path / "b", **options).train()
    frozen = built(case, "classification")
    frozen.base_model.requires_grad_(False)
    trainer(frozen, case, tmp_path / "c", **options).train()


# Activation checkpointing --------------------------------------------------------------------------------------


def enable(model: nn.Module, reentrant: bool, **options: int) -> None:
    model.activation_checkpointing_enable({"use_reentrant": reentrant}, **options)


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_changes_neither_gradients_nor_statistics(case: MicroCase, role: str, reentrant: bool):
    results = []
    for checkpointing in (False, True):
        model = built(case, role).train()
        if checkpointing:
            enable(model, reentrant)
        torch.manual_seed(1)
        main_output(model(**inputs_of(case, role, model))).square().sum().backward()
        gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
        results.append((gradients, dict(model.named_buffers())))
    torch.testing.assert_close(results[0][0], results[1][0], rtol=1e-2, atol=1e-5)
    torch.testing.assert_close(results[0][1], results[1][1])


def test_checkpointing_takes_every_nth_layer(case: MicroCase, role: str):
    assert case.spec.load(role).supports_gradient_checkpointing
    runs = {}
    for every in (0, 1, 2):
        model = built(case, role).train()
        calls: list[int] = []
        for layer in model.encoder_layers:
            assert isinstance(layer, CheckpointedLayer)
            assert isinstance(layer, GradientCheckpointingLayer)
            layer.register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
        if every:
            enable(model, False, every_n_layers=every)
        main_output(model(**inputs_of(case, role, model))).sum().backward()
        runs[every] = len(calls)
    layers = case.config.num_hidden_layers * (runs[0] // case.config.num_hidden_layers)
    assert runs == {0: layers, 1: 2 * layers, 2: layers + -(-layers // 2)}


# Storage ----------------------------------------------------------------------------------------------------------


def test_models_can_be_built_without_storage_and_filled_in(case: MicroCase, role: str):
    """Everything that is not drawn at random follows from the configuration alone."""
    from transformers.initialization import no_init_weights

    with no_init_weights():
        bare = built(case, role)
    usual = built(case, role)
    with torch.device("meta"):
        model = case.spec.load(role)(copy.deepcopy(case.config))
    model.to_empty(device="cpu")
    model.init_weights()
    drawn = {"log_dt", "basis"} if case.spec.name == "ecg-cpc" else set()
    for (name, value), other, first in zip(
        model.named_buffers(), usual.buffers(), bare.buffers(), strict=True
    ):
        if name.rpartition(".")[2] not in drawn:
            assert torch.equal(value, other), name
            assert torch.equal(value, first), name
    if case.spec.name == "ecg-cpc":
        for block in model.encoder_layers:
            low, high = block.s4.log_dt_range
            assert ((block.s4.log_dt >= low) & (block.s4.log_dt <= high)).all()
            assert torch.equal(block.s4.basis, block.s4.make_basis(block.s4.basis.shape[-1]))
    for (name, value), other in zip(model.named_parameters(), usual.parameters(), strict=True):
        if value.numel() < 32:
            continue
        spreads = [float(tensor.detach().std(correction=0)) for tensor in (value, other)]
        assert spreads[0] == pytest.approx(spreads[1], rel=0.5, abs=0.02), name
    assert main_output(model.eval()(**inputs_of(case, role, model))).isfinite().all()


# Labels -----------------------------------------------------------------------------------------------------------

BAD_LABELS = [
    ("multi_label_classification", -1.0),
    ("multi_label_classification", -100.0),
    ("multi_label_classification", 2.0),
    ("multi_label_classification", float("inf")),
    ("single_label_classification", -1),
    ("single_label_classification", -100),
    ("single_label_classification", 2),
    ("single_label_classification", float("nan")),
    ("single_label_classification", 0.5),
    ("regression", float("nan")),
]


@pytest.mark.parametrize(("kind", "bad"), BAD_LABELS)
def test_labels_that_can_not_be_are_refused(case: MicroCase, kind: str, bad: float):
    config = copy.deepcopy(case.config)
    config.problem_type = kind
    model = built(case, "classification", config)
    shape = (4,) if kind == "single_label_classification" else (4, 2)
    labels = torch.zeros(shape) if isinstance(bad, float) else torch.zeros(shape, dtype=torch.int64)
    assert model(**case.signal, labels=labels).loss.isfinite()
    labels.view(-1)[-1] = bad
    with pytest.raises(ConfigurationError, match=f"label {bad:g} ") as caught:
        model(**case.signal, labels=labels)
    assert caught.value.value == pytest.approx(bad, nan_ok=True)


def test_labels_of_another_shape_are_refused(case: MicroCase):
    model = built(case, "classification")
    for labels in (
        torch.zeros(4),
        torch.zeros(4, 3),
        torch.zeros(4, 2, dtype=torch.int64),
        torch.zeros(3, 2),
    ):
        with pytest.raises(ConfigurationError, match="shape"):
            model(**case.signal, labels=labels)


def test_every_batch_norm_is_one_that_can_be_frozen():
    """Others would move under a frozen encoder. CoRe-ECG's projector keeps no statistics."""
    for name, spec in METHODS.items():
        model = spec.load(spec.whole)(make_case(name).config)
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                assert isinstance(module, GlobalBatchNorm1d) or not module.track_running_stats


def test_classifiers_train_from_a_folder_under_their_auto_class(case: MicroCase, tmp_path: Path):
    built(case, "classification").save_pretrained(tmp_path)
    model = AutoModelForAudioClassification.from_pretrained(tmp_path)
    assert type(model(**case.signal, return_dict=False)) is tuple
