"""Model folders as an enemy or an accident leaves them: each spoiler changes a good folder in one way."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
CANARY = "canary"

Spoiler = Callable[[Path], None]


class Payload:
    """Touches the canary when it is unpickled by something careless."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, ...]:
        return (os.system, (f"touch {self.canary}",))


def canary_of(folder: Path) -> Path:
    """Beside the folder, so that finding it means code ran."""
    return folder.parent / CANARY


def edit_json(folder: Path, name: str, **changes: object) -> None:
    path = folder / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    weights = load_file(folder / WEIGHTS)
    change(weights)
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})


def plant_code(folder: Path, name: str = "evil.py") -> None:
    text = f"import os\nos.system('touch {canary_of(folder)}')\n"
    (folder / name).write_text(text + "class EvilConfig: pass\nclass Evil: pass\n")


def _pickle_instead(name: str) -> Spoiler:
    def spoil(folder: Path) -> None:
        (folder / WEIGHTS).unlink()
        torch.save({"weight": Payload(canary_of(folder))}, folder / name)

    return spoil


def _pickle_named_safetensors(folder: Path) -> None:
    with (folder / WEIGHTS).open("wb") as file:
        pickle.dump(Payload(canary_of(folder)), file)


def _honest_pickle(folder: Path) -> None:
    torch.save(load_file(folder / WEIGHTS), folder / "pytorch_model.bin")
    (folder / WEIGHTS).unlink()


def _cut(share: float) -> Spoiler:
    def spoil(folder: Path) -> None:
        content = (folder / WEIGHTS).read_bytes()
        (folder / WEIGHTS).write_bytes(content[: int(len(content) * share)])

    return spoil


def _huge_header(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes((1 << 62).to_bytes(8, "little") + b"{}")


def _huge_tensor(folder: Path) -> None:
    name = next(iter(load_file(folder / WEIGHTS)))
    header = {name: {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}
    text = json.dumps(header).encode()
    (folder / WEIGHTS).write_bytes(len(text).to_bytes(8, "little") + text + b"\0" * 64)


def _first(weights: dict[str, torch.Tensor]) -> str:
    return min(name for name, value in weights.items() if value.is_floating_point())


def _drop(weights: dict[str, torch.Tensor]) -> None:
    del weights[_first(weights)]


def _reshape(weights: dict[str, torch.Tensor]) -> None:
    weights[_first(weights)] = torch.zeros(3, 5, 7)


def _rename(weights: dict[str, torch.Tensor]) -> None:
    for name in list(weights):
        weights[f"other.{name}"] = weights.pop(name)


def _nothing(weights: dict[str, torch.Tensor]) -> None:
    weights.clear()


def _fill(value: float) -> Spoiler:
    def change(weights: dict[str, torch.Tensor]) -> None:
        weights[_first(weights)].view(-1)[-1] = value

    return lambda folder: rewrite(folder, change)


def _config(**changes: object) -> Spoiler:
    return lambda folder: edit_json(folder, "config.json", **changes)


def _unknown_type_with_code(folder: Path) -> None:
    plant_code(folder)
    auto_map = {"AutoConfig": "evil.EvilConfig", "AutoModel": "evil.Evil"}
    edit_json(folder, "config.json", model_type="nope", trust_remote_code=True, auto_map=auto_map)


def _index(target: str) -> Spoiler:
    def spoil(folder: Path) -> None:
        outside = folder.parent / "outside.safetensors"
        os.replace(folder / WEIGHTS, outside)
        where = target.format(outside=outside)
        names = dict.fromkeys(load_file(outside), where)
        (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": names}))

    return spoil


def _weights_outside(folder: Path) -> None:
    os.replace(folder / WEIGHTS, folder.parent / "outside.safetensors")
    edit_json(folder, "config.json", transformers_weights="../outside.safetensors")


REFUSED: dict[str, Spoiler] = {
    "pytorch_model.bin": _pickle_instead("pytorch_model.bin"),
    "pytorch_model.bin-of-tensors": _honest_pickle,
    "model.pt": _pickle_instead("model.pt"),
    "pickle-named-safetensors": _pickle_named_safetensors,
    "weights-empty": _cut(0.0),
    "weights-cut-in-header": _cut(0.001),
    "weights-cut-in-half": _cut(0.5),
    "weights-one-byte-short": _cut(1 - 1e-9),
    "weights-header-of-exabytes": _huge_header,
    "weights-tensor-of-terabytes": _huge_tensor,
    "key-missing": lambda folder: rewrite(folder, _drop),
    "key-extra": lambda folder: rewrite(folder, lambda w: w.update({"stray.weight": torch.ones(3)})),
    "keys-renamed": lambda folder: rewrite(folder, _rename),
    "no-keys": lambda folder: rewrite(folder, _nothing),
    "shape-wrong": lambda folder: rewrite(folder, _reshape),
    "nan": _fill(float("nan")),
    "infinity": _fill(float("inf")),
    "hidden-size-1e9": _config(hidden_size=10**9),
    "hidden-size-2**20": _config(hidden_size=1 << 20),
    "layers-1e9": _config(num_hidden_layers=10**9),
    "layers-more": _config(num_hidden_layers=60),
    "samples-1e12": _config(num_samples=10**12),
    "labels-1e9": _config(num_labels=10**9),
    "size-nested": _config(text_config={"model_type": "bert", "vocab_size": 10**11}),
    "size-text": _config(hidden_size="big"),
    "size-negative": _config(hidden_size=-8),
    "config-shadows-method": _config(to_dict="x"),
    "config-no-object": lambda folder: (folder / "config.json").write_text("[]") and None,
    "config-garbage": lambda folder: (folder / "config.json").write_bytes(os.urandom(64)) and None,
    "config-deep": lambda folder: (
        (folder / "config.json").write_text('{"a":' * 5000 + "1" + "}" * 5000) and None
    ),
    "kernel-of-the-hub": _config(attn_implementation="org/kernel"),
    "kernel-of-the-hub-underscore": _config(_attn_implementation="org/kernel"),
    "type-unknown-with-code": _unknown_type_with_code,
    "index-climbs": _index("../outside.safetensors"),
    "index-absolute": _index("{outside}"),
    "weights-path-climbs": _weights_outside,
}
"""Folders no loading path may accept."""


def _code_for_config(folder: Path) -> None:
    plant_code(folder)
    edit_json(folder, "config.json", auto_map={"AutoConfig": "evil.EvilConfig", "AutoModel": "evil.Evil"})


def _code_for_extractor(folder: Path) -> None:
    plant_code(folder)
    edit_json(folder, "preprocessor_config.json", auto_map={"AutoFeatureExtractor": "evil.Evil"})


def _trust_in_config(folder: Path) -> None:
    plant_code(folder)
    auto_map = {"AutoConfig": "evil.EvilConfig", "AutoModel": "evil.Evil"}
    edit_json(folder, "config.json", trust_remote_code=True, auto_map=auto_map)


def _code_named_like_ours(folder: Path) -> None:
    for name in ("ecg_hf.py", "torch.py", "conftest.py", "sitecustomize.py", "modeling_evil.py"):
        plant_code(folder, name)


def _pickles_beside(folder: Path) -> None:
    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt", "model.pkl"):
        torch.save({"weight": Payload(canary_of(folder))}, folder / name)


IGNORED: dict[str, Spoiler] = {
    "auto-map-of-config": _code_for_config,
    "auto-map-of-extractor": _code_for_extractor,
    "trust-in-config": _trust_in_config,
    "code-named-like-ours": _code_named_like_ours,
    "pickles-beside-the-weights": _pickles_beside,
    "field-unknown": _config(frobnicate=7),
}
"""Folders that load as if the addition were not there."""
