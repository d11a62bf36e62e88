"""The library's tests of pipelines, for every method and each of our tasks."""

from __future__ import annotations

import unittest
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

from ecg_hf.models.registry import METHODS, ClassRole

pytestmark = pytest.mark.slow

_CASES: dict[str, tuple[ClassRole, str]] = {
    "ecg-classification": ("classification", "Classification"),
    "ecg-feature-extraction": ("model", "FeatureExtraction"),
    "zero-shot-ecg-classification": ("model", "ZeroShot"),
}
_WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "atrial", "fibrillation", "normal"]


@pytest.fixture(scope="module")
def mixin(library_suite: Callable[[str], ModuleType], tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """The suite's module, with our tasks in its tables and a folder of our models in place of the Hub's."""
    import transformers.utils
    from transformers import BertTokenizerFast

    folder = tmp_path_factory.mktemp("models")
    (folder / "reports").mkdir()
    (folder / "reports" / "tiny_model_summary.json").write_text("{}")
    classes = {
        spec.class_name("feature_extractor"): spec.load("feature_extractor") for spec in METHODS.values()
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRANSFORMERS_TINY_MODEL_PATH", str(folder))
        # The suite would import a second copy of the library, to find classes by name.
        library = SimpleNamespace(BertTokenizerFast=BertTokenizerFast, **classes)
        patch.setattr(transformers.utils, "direct_transformers_import", lambda path: library)
        module = library_suite("test_pipeline_mixin")
    for task, (_, case) in _CASES.items():
        module.pipeline_test_mapping[task] = {"test": f"tests.external.pipeline_cases.{case}"}
    return module


def _save(folder: Path, method: str, role: ClassRole) -> None:
    spec = METHODS[method]
    torch.manual_seed(0)
    config = spec.load("config").preset(spec.sizes[0], num_labels=3)
    spec.load(role)(config).save_pretrained(folder)
    spec.feature_extractor_for(config).save_pretrained(folder)
    if spec.multimodal:
        from transformers import BertTokenizerFast

        (folder / "vocab.txt").write_text("\n".join(_WORDS))
        BertTokenizerFast.from_pretrained(folder).save_pretrained(folder)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(
    ("method", "task"),
    [
        (name, task)
        for name, spec in METHODS.items()
        for task in _CASES
        if spec.multimodal or "zero" not in task
    ],
)
def test_pipelines(method: str, task: str, dtype: str, mixin: ModuleType) -> None:
    role, _ = _CASES[task]
    spec = METHODS[method]
    model_class = spec.load(role)
    _save(Path(mixin.TRANSFORMERS_TINY_MODEL_PATH) / method / model_class.__name__, method, role)
    mixin.tiny_model_summary[model_class.__name__] = {
        "tokenizer_classes": ["BertTokenizerFast"] if spec.multimodal else [],
        "processor_classes": [spec.class_name("feature_extractor")],
    }
    suite = type(
        "PipelineSuiteTest",
        (mixin.PipelineTesterMixin, unittest.TestCase),
        {"pipeline_model_mapping": {task: model_class}},
    )
    suite("test_pipeline_feature_extraction").run_task_tests(task, dtype=dtype)
