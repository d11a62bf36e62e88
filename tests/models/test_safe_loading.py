"""Hostile and broken model folders through the Auto classes, for every registered method."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoImageProcessor,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForPreTraining,
    AutoProcessor,
    AutoTokenizer,
    AutoVideoProcessor,
    pipeline,
)

import ecg_hf  # noqa: F401  (registers the methods)
from ecg_hf.cli.loading import load_model
from ecg_hf.errors import ConfigurationError, EcgError, ModelFolderError
from ecg_hf.models.auto import AutoModelForEcgClassification
from ecg_hf.models.registry import METHODS, get_method
from ecg_hf.models.safe_loading import check_config_values

from .conftest import make_case
from .hostile import IGNORED, REFUSED, canary_of, edit_json, rewrite


@pytest.fixture(scope="module", params=sorted(METHODS))
def good(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole folder of a method's base model."""
    torch.manual_seed(0)
    case = make_case(request.param)
    folder = tmp_path_factory.mktemp(request.param) / "good"
    case.spec.load("model")(case.config).save_pretrained(folder)
    case.spec.feature_extractor_for(case.config).save_pretrained(folder)
    return folder


@pytest.fixture
def folder(good: Path, tmp_path: Path) -> Path:
    """A copy to be spoilt."""
    return Path(shutil.copytree(good, tmp_path / "model"))


@pytest.mark.parametrize("name", REFUSED)
def test_row_71_refused_without_running_anything(folder: Path, name: str):
    """By the commands' own door: its errors are typed where the library refuses a folder before our classes, too."""
    REFUSED[name](folder)
    with pytest.raises(EcgError):
        load_model(str(folder))
    assert not canary_of(folder).exists()


@pytest.mark.parametrize("name", IGNORED)
def test_row_72_additions_are_ignored(folder: Path, good: Path, name: str):
    IGNORED[name](folder)
    model = AutoModel.from_pretrained(folder, trust_remote_code=False)
    AutoFeatureExtractor.from_pretrained(folder, trust_remote_code=False)
    expected = AutoModel.from_pretrained(good).state_dict()
    for key, value in model.state_dict().items():
        assert torch.equal(value, expected[key]), key
    assert not canary_of(folder).exists()


def test_heads_start_fresh_on_a_whole_encoder_only(folder: Path):
    """Fine-tuning needs weights that are not there; those of the encoder always have to be."""
    pretrainable = get_method(AutoConfig.from_pretrained(folder).model_type).pretrainable
    heads = (AutoModelForEcgClassification, *((AutoModelForPreTraining,) if pretrainable else ()))
    for auto in heads:
        auto.from_pretrained(folder)
    rewrite(folder, lambda weights: weights.__delitem__(min(weights)))
    for auto in heads:
        with pytest.raises(ModelFolderError, match="missing"):
            auto.from_pretrained(folder)


def test_whole_folder_of_a_head(good: Path, tmp_path: Path):
    """Saved from a class and loaded as it: nothing may be missing, nothing may be over."""
    case = make_case(AutoConfig.from_pretrained(good).model_type)
    for role, auto in (
        ("pretraining", AutoModelForPreTraining),
        ("classification", AutoModelForEcgClassification),
    ):
        if role not in case.spec.roles:
            continue
        folder = tmp_path / role
        model = case.spec.load(role)(case.config)
        model.save_pretrained(folder)
        auto.from_pretrained(folder)
        optional = case.spec.load("model")._optional_parts
        if role == "classification" and case.spec.multimodal and not optional:
            # A classifier keeps no text tower: the dual encoder would get a random one.
            with pytest.raises(ModelFolderError, match="missing"):
                AutoModel.from_pretrained(folder)
        else:
            AutoModel.from_pretrained(folder)
        rewrite(folder, lambda weights: weights.update(stray=torch.ones(2)))
        for other in (auto, AutoModel, AutoModelForEcgClassification):
            with pytest.raises(ModelFolderError):
                other.from_pretrained(folder)


def test_mismatch_is_allowed_when_asked_for(folder: Path):
    """``ignore_mismatched_sizes`` is how a classifier gets other classes."""
    head = AutoModelForEcgClassification.from_pretrained(folder, num_labels=3)
    head.save_pretrained(folder)
    other = AutoModelForEcgClassification.from_pretrained(folder, num_labels=5, ignore_mismatched_sizes=True)
    assert other.classifier.out_features == 5
    with pytest.raises(ModelFolderError, match="shape"):
        AutoModelForEcgClassification.from_pretrained(folder, num_labels=5)


@pytest.mark.slow
def test_sizes_are_refused_before_memory_is_taken(tmp_path: Path):
    """Every method under a limit of address space that an attempt to build the model would break."""
    spoilt = []
    for name in METHODS:
        case = make_case(name)
        good = tmp_path / name
        case.spec.load("model")(case.config).save_pretrained(good)
        for field, value in (("hidden_size", 10**9), ("hidden_size", 1 << 22), ("num_samples", 10**12)):
            copy = Path(shutil.copytree(good, tmp_path / f"{name}-{field}-{value}"))
            edit_json(copy, "config.json", **{field: value})
            spoilt.append(str(copy))
    code = f"""
import resource, torch
torch.set_num_threads(1)
import ecg_hf
from transformers import AutoModel
AutoModel.from_pretrained({str(good)!r})
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (256 << 20),) * 2)
for folder in {spoilt!r}:
    try:
        AutoModel.from_pretrained(folder)
    except MemoryError:
        raise
    except RuntimeError as error:
        assert "alloc" not in str(error), error
    except Exception as error:
        print(type(error).__name__)
    else:
        raise SystemExit("loaded")
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.split()) == len(spoilt)


@pytest.mark.parametrize("field", ["num_hidden_layers", "encoder_depth", "num_attention_heads", "state_size"])
def test_counts_have_a_limit_of_their_own(field: str):
    config = METHODS["ecg-jepa"].load("config")
    check_config_values({field: 1024, "hidden_size": 10**8, "flag": True, "rate": 1e300}, config)
    with pytest.raises(ModelFolderError, match=field):
        check_config_values({"text_config": {"inner": [{field: 1025}]}}, config)


@pytest.mark.parametrize("value", [10_001, 10**6, 10**9, -1, 1.5, "7", True])
def test_labels_are_counted_before_they_are_named(folder: Path, value: object):
    """The library makes up a name for each: a million cost seconds and hundreds of megabytes."""
    edit_json(folder, "config.json", num_labels=value)
    with pytest.raises(ModelFolderError, match="num_labels"):
        AutoModel.from_pretrained(folder)
    edit_json(folder, "config.json", num_labels=100, text_config={"model_type": "bert", "num_labels": value})
    with pytest.raises(ModelFolderError, match=r"text_config\.num_labels"):
        AutoModel.from_pretrained(folder)


def test_misspelt_options_are_errors_and_files_may_hold_more(folder: Path):
    """A later version may have written fields this one does not know; a caller means what is written there."""
    config = AutoModel.from_pretrained(folder).config
    kind = type(config)
    for attempt in (
        lambda: kind(samplingrate=250),
        lambda: kind.preset("micro", samplingrate=250),
        lambda: kind.from_pretrained(folder, samplingrate=250),
        lambda: AutoConfig.from_pretrained(folder, samplingrate=250),
        lambda: config.update({"samplingrate": 250}),
    ):
        with pytest.raises(ConfigurationError, match=r"'samplingrate'; did you mean sampling_rate\?"):
            attempt()
    with pytest.raises(ConfigurationError, match="num_leads"):
        kind(num_leads=3)
    edit_json(folder, "config.json", samplingrate=250, use_cache=False)
    loaded = AutoConfig.from_pretrained(folder, num_labels=7, attn_implementation="eager")
    assert (loaded.sampling_rate, loaded.samplingrate) == (config.sampling_rate, 250)
    assert (loaded.num_labels, loaded._attn_implementation) == (7, "eager")
    again = kind(**{**config.to_dict(), "output_attentions": True, "dtype": "bfloat16", "num_labels": 3})
    assert again.num_labels == 3
    loaded.update({"num_labels": 5, "initializer_range": 0.1})
    assert loaded.num_labels == 5
    with pytest.raises(ConfigurationError):
        loaded.update({"initializer_range": "large"})


def bring_code(folder: Path) -> None:
    (folder / "evil.py").write_text(f"import os\nos.system('touch {canary_of(folder)}')\nclass Evil: pass\n")


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}}),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["other/repo--evil.Evil", None]}}),
        ("tokenizer_config.json", {"auto_map": ["evil.Evil", "evil.Evil"]}),
        ("tokenizer_config.json", {"auto_map": {"AutoProcessor": "evil.Evil"}}),
        (
            "processor_config.json",
            {"auto_map": {"AutoProcessor": "evil.Evil"}, "processor_class": "CLIPProcessor"},
        ),
        ("video_preprocessor_config.json", {"auto_map": {"AutoVideoProcessor": "evil.Evil"}}),
        ("config.json", {"auto_map": {"AutoModelForCausalLM": "evil.Evil"}}),
    ],
)
def test_no_code_of_the_folder_runs_even_if_it_is_trusted(
    folder: Path, file: str, content: dict[str, object]
):
    bring_code(folder)
    if not (folder / file).is_file():
        (folder / file).write_text("{}")
    edit_json(folder, file, **content)
    classes = (
        AutoTokenizer,
        AutoProcessor,
        AutoVideoProcessor,
        AutoImageProcessor,
        AutoModelForCausalLM,
        AutoModel,
    )
    for loader in classes:
        with contextlib.suppress(Exception):
            loader.from_pretrained(folder, trust_remote_code=True)
        assert not canary_of(folder).exists(), loader.__name__


@pytest.mark.parametrize(
    "task", [None, "zero-shot-ecg-classification", "ecg-classification", "feature-extraction"]
)
def test_no_pipeline_of_the_folder_runs_even_if_it_is_trusted(folder: Path, task: str | None):
    bring_code(folder)
    custom = {
        name: {"impl": "evil.Evil", "pt": ["AutoModel"], "type": "multimodal"} for name in (task or "own",)
    }
    edit_json(folder, "config.json", custom_pipelines=custom)
    with contextlib.suppress(Exception):
        pipeline(task, model=str(folder), trust_remote_code=True)
    assert not canary_of(folder).exists()


def test_code_of_a_tokenizer_is_refused_in_words(folder: Path):
    (folder / "tokenizer_config.json").write_text(
        '{"auto_map": {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}}'
    )
    with pytest.raises(ModelFolderError, match=r"asks to run its own code, evil\.Evil"):
        AutoTokenizer.from_pretrained(folder, trust_remote_code=True)


def test_a_folder_may_be_named_by_the_way_up(folder: Path, monkeypatch: pytest.MonkeyPatch):
    (folder / "sub").mkdir()
    monkeypatch.chdir(folder / "sub")
    for name in ("..", "../../model", str(folder / "sub" / ".."), "../sub/.."):
        AutoModel.from_pretrained(name)
        AutoFeatureExtractor.from_pretrained(name)


@pytest.mark.parametrize(
    "values",
    [{"lead_names": 3}, {"num_samples": "x"}, {"sampling_rate": [1]}, {"lead_names": [{}]}, {"dtype": 7}],
)
def test_values_of_a_wrong_type_are_typed_errors(folder: Path, values: dict[str, object]):
    edit_json(folder, "config.json", **values)
    with pytest.raises(EcgError):
        AutoModel.from_pretrained(folder)
