"""What every registered method promises; a new registry line is covered without a new test."""

import inspect
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoConfig, AutoModel, AutoModelForAudioClassification, AutoModelForPreTraining

import ecg_hf
from ecg_hf.errors import ConfigurationError, EcgError, LeadError, SignalError
from ecg_hf.models.auto import AutoModelForEcgClassification, AutoModelForZeroShotEcgClassification
from ecg_hf.models.registry import METHODS, ROLES, get_method
from ecg_hf.signal import STANDARD_LEADS
from ecg_hf.signal.synthetic import simulate

from .conftest import MULTIMODAL, PRETRAINED, WITH_ATTENTION, WITHOUT_NOISE, MicroCase, make_case


def pretraining_output(case: MicroCase, model: torch.nn.Module, seed: int = 0, **extra: torch.Tensor):
    noise = model.draw_noise(case.batch, torch.Generator().manual_seed(seed))
    return model(**case.batch, **noise, **extra)


def test_names_are_exported(case: MicroCase):
    for role in ROLES:
        name = case.spec.class_name(role)
        if role in case.spec.roles:
            assert getattr(ecg_hf, name) is case.spec.load(role)
        else:
            with pytest.raises(
                ConfigurationError, match=f"{case.spec.name} is not pretrained here: .*list models"
            ):
                case.spec.load(role)
        assert (name in dir(ecg_hf)) == (role in case.spec.roles)


def test_unknown_method_lists_the_known():
    with pytest.raises(EcgError, match="cg-dmer"):
        get_method("no-such-model")


def test_every_size_builds_a_config(case: MicroCase):
    for size in case.spec.sizes:
        config = case.spec.load("config").preset(size)
        assert type(config).from_dict(config.to_dict()).to_dict() == config.to_dict()
    with pytest.raises(EcgError, match="unknown size"):
        case.spec.load("config").preset("gigantic")


def test_every_variant_sets_its_fields_over_the_preset(case: MicroCase):
    kind, smallest = case.spec.load("config"), case.spec.sizes[0]
    full = kind.preset(smallest).to_dict()
    assert kind.preset(smallest, variant="full").to_dict() == full
    for variant in kind.variants:
        fields = kind.variant_fields(variant)
        made = kind.preset(smallest, variant=variant).to_dict()
        assert all(made[name] == value for name, value in fields.items())
        # A variant without fields is another name of the default.
        assert not fields or any(full[name] != value for name, value in fields.items())
    with pytest.raises(EcgError, match=r"unknown variant 'other'; known: .*full"):
        kind.preset(smallest, variant="other")


def test_signal_contract(case: MicroCase):
    model = case.spec.load("model")(case.config).eval()
    output = model(**case.signal)
    batch = len(case.signal["input_values"])
    assert output.last_hidden_state.shape[0] == batch
    width = getattr(case.config, "pooled_size", case.config.hidden_size)
    assert output.pooler_output.shape == (batch, width)
    assert output.pooler_output.dtype == torch.float32


def test_records_do_not_see_each_other(case: MicroCase):
    model = case.spec.load("model")(case.config).eval()
    together = model(**case.signal).pooler_output
    alone = torch.cat(
        [
            model(**{name: value[i : i + 1] for name, value in case.signal.items()}).pooler_output
            for i in range(4)
        ]
    )
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_missing_lead_is_ignored(case: MicroCase):
    """What stands in a masked row must not matter; an unmasked change must."""
    model = case.spec.load("model")(case.config).eval()
    values = case.signal["input_values"]
    mask = torch.ones(values.shape[:2], dtype=torch.long)
    mask[:, 3] = 0
    changed = values.clone()
    changed[:, 3] = 100.0
    others = {name: value for name, value in case.signal.items() if name != "input_values"}
    a = model(values, lead_mask=mask, **others).pooler_output
    torch.testing.assert_close(model(changed, lead_mask=mask, **others).pooler_output, a)
    assert (model(changed, **others).pooler_output - model(values, **others).pooler_output).abs().max() > 1e-4


@pytest.mark.parametrize("case", PRETRAINED, indirect=True)
def test_pretraining_loss_is_the_weighted_sum_of_its_terms(case: MicroCase):
    model = case.spec.load("pretraining")(case.config).eval()
    output = pretraining_output(case, model)
    total = sum(
        getattr(case.config, f"{name}_weight", 1.0) * term for name, term in output.loss_terms.items()
    )
    torch.testing.assert_close(output.loss.detach(), total)
    assert torch.isfinite(output.loss)


@pytest.mark.parametrize("case", PRETRAINED, indirect=True)
def test_same_noise_same_loss(case: MicroCase):
    model = case.spec.load("pretraining")(case.config).eval()
    first, again, other = (pretraining_output(case, model, seed).loss for seed in (1, 1, 2))
    assert torch.equal(first, again)
    # Views of CLOCS are the halves of a record.
    assert torch.equal(first, other) == (case.spec.name in (*WITHOUT_NOISE, "clocs"))


@pytest.mark.parametrize("case", PRETRAINED, indirect=True)
def test_noise_is_drawn_for_as_many_rows_as_asked(case: MicroCase):
    model = case.spec.load("pretraining")(case.config)
    generator = torch.Generator().manual_seed(0)
    noise = model.draw_noise(case.batch, generator, rows=11)
    assert bool(noise) == (case.spec.name not in WITHOUT_NOISE)
    assert all(len(value) == 11 for value in noise.values())


@pytest.mark.parametrize("case", PRETRAINED, indirect=True)
def test_every_trainable_parameter_gets_a_gradient(case: MicroCase):
    """DistributedDataParallel stops at the first parameter that does not."""
    model = case.spec.load("pretraining")(case.config).train()
    pretraining_output(case, model).loss.backward()
    assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []


@pytest.mark.parametrize("case", PRETRAINED, indirect=True)
def test_training_reduces_the_loss(case: MicroCase):
    torch.manual_seed(0)
    model = case.spec.load("pretraining")(case.config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    losses = []
    for _ in range(case.learning_steps):
        loss = pretraining_output(case, model).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("case", PRETRAINED, indirect=True)
def test_save_and_load_everything(case: MicroCase, tmp_path: Path):
    model = case.spec.load("pretraining")(case.config).eval()
    expected = pretraining_output(case, model).loss
    model.save_pretrained(tmp_path)
    assert {p.suffix for p in tmp_path.iterdir()} == {".json", ".safetensors", ".py"}
    assert [p.name for p in tmp_path.glob("*.py")] == ["ecg_hf_shim.py"]
    loaded, info = AutoModelForPreTraining.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert torch.equal(pretraining_output(case, loaded.eval()).loss, expected)
    AutoConfig.from_pretrained(tmp_path).save_pretrained(tmp_path / "again")
    assert (tmp_path / "again" / "config.json").read_text() == (tmp_path / "config.json").read_text()


@pytest.mark.parametrize("case", PRETRAINED, indirect=True)
def test_base_model_loads_from_the_pretraining_checkpoint(case: MicroCase, tmp_path: Path):
    pretraining = case.spec.load("pretraining")(case.config).eval()
    pretraining.save_pretrained(tmp_path)
    loaded, info = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    expected = pretraining.base_model(**case.signal).pooler_output
    assert torch.equal(loaded.eval()(**case.signal).pooler_output, expected)


@pytest.mark.parametrize("pooling", ["mean", "attention"])
def test_classifier_loads_the_encoder_and_learns(case: MicroCase, tmp_path: Path, pooling: str):
    case.spec.load(case.spec.whole)(case.config).save_pretrained(tmp_path)
    options = {"num_labels": 3, "classifier_pooling": pooling, "output_loading_info": True}
    for auto in (AutoModelForEcgClassification, AutoModelForAudioClassification):
        model, info = auto.from_pretrained(tmp_path, **options)
        assert info["missing_keys"]
        assert all(key.startswith("classifier") for key in info["missing_keys"])
    labels = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [1.0, 1.0, 1.0], [0.0, 0.0, float("nan")]])
    output = model.train()(**case.signal, labels=labels)
    assert output.logits.shape == (4, 3)
    known = ~labels.isnan()
    expected = torch.nn.functional.binary_cross_entropy_with_logits(output.logits[known], labels[known])
    torch.testing.assert_close(output.loss, expected)
    output.loss.backward()
    assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
    single = model(**case.signal, labels=torch.tensor([0, 1, 2, 0]))
    torch.testing.assert_close(
        single.loss, torch.nn.functional.cross_entropy(single.logits, torch.tensor([0, 1, 2, 0]))
    )


@pytest.mark.parametrize("case", WITH_ATTENTION, indirect=True)
def test_attention_implementations_agree(case: MicroCase):
    model = case.spec.load("model")(case.config).eval()
    mask = torch.ones(case.signal["input_values"].shape[:2], dtype=torch.long)
    mask[1, 2:7] = 0
    results = []
    for implementation in ("sdpa", "eager"):
        model.set_attn_implementation(implementation)
        results.append(model(**case.signal, lead_mask=mask).pooler_output)
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)


def test_hidden_states_and_attentions_can_be_asked_for(case: MicroCase):
    model = case.spec.load("model")(case.config).eval()
    output = model(**case.signal, output_hidden_states=True)
    assert len(output.hidden_states) >= case.config.num_hidden_layers
    if case.has_attention:
        model.set_attn_implementation("eager")
        output = model(**case.signal, output_attentions=True)
        assert len(output.attentions) == case.config.num_hidden_layers


def test_token_mask_fits_the_tokens(case: MicroCase):
    """Attention probes pool over tokens by this mask; a missing lead must not be able to matter there either."""
    model = case.spec.load("model")(case.config).eval()
    values = case.signal["input_values"]
    tokens = model(**case.signal).last_hidden_state.shape[:2]
    assert model.token_mask(values) is None
    lead_mask = torch.ones(values.shape[:2], dtype=torch.long)
    lead_mask[:, 3] = 0
    mask = model.token_mask(values, lead_mask)
    assert mask is None or (mask.dtype == torch.bool and mask.shape == tokens and mask.any(1).all())
    halved = torch.ones(len(values), values.shape[2], dtype=torch.long)
    halved[0, values.shape[2] // 2 :] = 0
    mask = model.token_mask(values, None, halved)
    if tokens[1] == 1:
        assert mask is None  # the only token is the record's
        return
    assert mask.shape == tokens
    assert 0 < mask[0].sum() < mask[1].sum()


@pytest.mark.parametrize("case", PRETRAINED, indirect=True)
def test_frozen_parameters_stay_frozen_after_loading(case: MicroCase, tmp_path: Path):
    """``from_pretrained`` hands every parameter back trainable: a teacher must not be among them."""
    model = case.spec.load("pretraining")(case.config)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForPreTraining.from_pretrained(tmp_path)
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert frozen == {name for name, parameter in loaded.named_parameters() if not parameter.requires_grad}


@pytest.mark.parametrize("case", PRETRAINED, indirect=True)
def test_gradient_checkpointing_changes_nothing(case: MicroCase):
    torch.manual_seed(0)
    model = case.spec.load("pretraining")(case.config).train()
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
            assert model.is_gradient_checkpointing
        model.zero_grad()
        pretraining_output(case, model).loss.backward()
        gradients.append({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize("case", PRETRAINED, indirect=True)
def test_bfloat16_stays_finite(case: MicroCase):
    model = case.spec.load("pretraining")(case.config).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = pretraining_output(case, model)
    output.loss.backward()
    assert output.loss.dtype == torch.float32
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


class ProductsOfLosses(TorchDispatchMode):
    """Types of the matrix products computed inside the functions of ``ecg_hf.nn.losses``."""

    def __init__(self) -> None:
        super().__init__()
        self.types: set[torch.dtype] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket.__name__ in ("mm", "bmm", "addmm", "baddbmm"):
            frame = sys._getframe()
            while frame is not None and "/nn/losses/" not in frame.f_code.co_filename:
                frame = frame.f_back
            if frame is not None:
                self.types.add(args[0].dtype)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("case", PRETRAINED, indirect=True)
def test_similarities_of_losses_are_float32_under_autocast(case: MicroCase):
    model = case.spec.load("pretraining")(case.config).train()
    with torch.autocast("cpu", dtype=torch.bfloat16), ProductsOfLosses() as products:
        pretraining_output(case, model)
    assert products.types <= {torch.float32}


def test_exports(case: MicroCase):
    """To a graph that takes any number of records."""
    model = case.spec.load("model")(case.config).eval()
    # What an extractor returns for pretraining alone, the model does not name.
    named = inspect.signature(model.forward).parameters
    signal = {name: value for name, value in case.signal.items() if name in named}
    sizes = {name: {0: torch.export.Dim("batch")} for name in signal}
    exported = torch.export.export(model, args=(), kwargs=signal, dynamic_shapes=sizes).module()
    for rows in (1, 4):
        batch = {name: value[:rows] for name, value in signal.items()}
        torch.testing.assert_close(
            exported(**batch).pooler_output, model(**batch).pooler_output, rtol=1e-4, atol=1e-5
        )


@pytest.mark.slow
def test_compiles_to_one_graph(case: MicroCase):
    model = case.spec.load("model")(case.config).eval()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(**case.signal).pooler_output, model(**case.signal).pooler_output)


def test_wrong_shapes_are_typed_errors(case: MicroCase):
    model = case.spec.load("model")(case.config).eval()
    leads, samples = case.config.num_leads, case.config.num_samples
    for shape in [(2, 5, samples), (leads, samples), (2, leads + 1, samples)]:
        with pytest.raises(EcgError):
            model(torch.zeros(shape))


@pytest.mark.parametrize("case", MULTIMODAL, indirect=True)
def test_dual_encoders_align(case: MicroCase, tmp_path: Path):
    case.spec.load("pretraining")(case.config).save_pretrained(tmp_path)
    model = AutoModelForZeroShotEcgClassification.from_pretrained(tmp_path).eval()
    output = model(**case.batch)
    ecg, text = model.get_ecg_features(**case.signal), model.get_text_features(**case.text)
    assert torch.equal(output.ecg_embeds, ecg)
    torch.testing.assert_close(ecg.norm(dim=1), torch.ones(len(ecg)))
    torch.testing.assert_close(text.norm(dim=1), torch.ones(len(text)))
    torch.testing.assert_close(output.logits_per_ecg, ecg @ text.T / case.config.temperature)


def test_feature_extractor_feeds_the_model(case: MicroCase):
    config = case.config
    extractor = case.spec.load("feature_extractor")(
        sampling_rate=config.sampling_rate,
        lead_names=config.lead_names,
        duration_s=config.num_samples / config.sampling_rate,
    )
    signal = np.random.default_rng(0).normal(size=(12, 5000)).astype(np.float32)
    names = ["I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6"]
    features = extractor(signal, sampling_rate=500, lead_names=names, return_tensors="pt")
    assert features["input_values"].shape == (1, config.num_leads, config.num_samples)
    assert case.spec.load("model")(config).eval()(**features).pooler_output.isfinite().all()


def test_registry_is_keyed_by_name():
    assert all(name == spec.name for name, spec in METHODS.items())
    assert make_case("cg-dmer").spec.title


def test_a_preset_gives_its_feature_extractor(case: MicroCase):
    for size in case.spec.sizes:
        config = case.spec.load("config").preset(size)
        extractor = config.feature_extractor(padding_side="left")
        assert type(extractor) is case.spec.load("feature_extractor")
        assert (extractor.sampling_rate, extractor.n_samples) == (config.sampling_rate, config.num_samples)
        assert (list(extractor.lead_names), extractor.padding_side) == (config.lead_names, "left")


def test_a_rate_or_length_that_does_not_fit_is_an_error(case: MicroCase):
    config = case.config
    rate, seconds = float(config.sampling_rate), config.num_samples / config.sampling_rate
    for wrong, text in (
        ({"sampling_rate": 2 * rate}, f"gives {2 * rate:g} Hz, the model takes {rate:g} Hz"),
        ({"duration_s": 2 * seconds}, f"samples, the model takes {config.num_samples}"),
        ({"lead_names": config.lead_names[::-1]}, "gives leads"),
    ):
        with pytest.raises(ConfigurationError, match=text):
            config.feature_extractor(**wrong)
    model = case.spec.load("model")(config).eval()
    # The extractor's own defaults beside a smaller preset: 10 s all the same, at another rate.
    default = case.spec.load("feature_extractor")(lead_names=config.lead_names)
    ecg = simulate(1, seed=1, sampling_rate=250.0)
    inputs = default(ecg.signal, 250.0, STANDARD_LEADS, return_tensors="pt")
    if inputs["input_values"].shape[-1] > config.num_samples:
        with pytest.raises(ConfigurationError, match="samples"):
            model(**inputs)


def test_every_lead_alone_is_used_or_refused(case: MicroCase):
    """Never the same embedding for every record: what a model can't do with is an error that names what it needs."""
    model = case.spec.load("model")(case.config).eval()
    extractor = case.config.feature_extractor()
    assert case.spec.leads == tuple(extractor.lead_names)
    ecgs = simulate(2, seed=4, sampling_rate=100.0).signal
    for row, lead in enumerate(STANDARD_LEADS):
        alone = ecgs[:, row : row + 1]
        if lead not in case.spec.leads:
            with pytest.raises(LeadError, match=", ".join(case.spec.leads)):
                extractor(alone, 100.0, [lead])
            continue
        inputs = extractor(alone, 100.0, [lead], return_tensors="pt")
        with torch.inference_mode():
            first, second = model(**inputs).pooler_output
        assert not torch.allclose(first, second, atol=1e-6), lead
    # Two limb leads are enough for the other four.
    inputs = extractor(ecgs[:, 2:4], 100.0, ["III", "aVR"], return_tensors="pt")
    limb = [name in STANDARD_LEADS[:6] for name in case.spec.leads]
    assert inputs["lead_mask"].tolist() == [[int(there) for there in limb]] * 2
    with pytest.raises(
        SignalError, match="flat in every lead used; this model needs a signal in at least one of"
    ):
        extractor(np.zeros((12, 1000)), 100.0, STANDARD_LEADS)


def test_readme_says_which_leads_each_method_takes():
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    texts = {12: "any of the 12", 8: "any of I, II, V1-V6", "acl-ecg": "any of II, III, V1-V6"}
    for name, spec in METHODS.items():
        row = next(line for line in readme.splitlines() if line.startswith("| **") and f"(`{name}`)" in line)
        assert texts.get(name, texts[len(spec.leads)]) in row
