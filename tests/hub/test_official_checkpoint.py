"""Reading authors' files: every layout that occurs, and nothing that could run code."""

import argparse
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ecg_hf.errors import ConversionError
from ecg_hf.hub.official_checkpoint import read_official_checkpoint


class Trap:
    """Unpickling this without care would leave a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.path,))


WEIGHTS = {"a.weight": torch.ones(2, 3), "a.bias": torch.zeros(2)}


@pytest.mark.parametrize(
    ("content", "keys", "facts"),
    [
        (WEIGHTS, {"a.weight", "a.bias"}, {}),
        ({"encoder": WEIGHTS, "epoch": 100}, {"encoder.a.weight", "encoder.a.bias"}, {"epoch": 100}),
        ({"state_dict": WEIGHTS, "global_step": 7}, {"a.weight", "a.bias"}, {"global_step": 7}),
        ({"model": {f"module.{k}": v for k, v in WEIGHTS.items()}}, {"a.weight", "a.bias"}, {}),
        ({f"_orig_mod.{k}": v for k, v in WEIGHTS.items()}, {"a.weight", "a.bias"}, {}),
    ],
)
def test_weights_are_taken_out_of_their_containers(tmp_path: Path, content, keys, facts):
    torch.save(content, tmp_path / "x.pth")
    checkpoint = read_official_checkpoint(tmp_path / "x.pth")
    assert checkpoint.tensors.keys() == keys
    assert checkpoint.facts == facts
    assert checkpoint.ignored == ()
    assert len(checkpoint.sha256) == 64


def test_optimiser_states_are_named_and_left_out(tmp_path: Path):
    moments = {"state": {0: {"exp_avg": torch.ones(2, 3)}}}
    torch.save({"state_dict": WEIGHTS, "optimizer": moments, "callbacks": [1]}, tmp_path / "x.ckpt")
    checkpoint = read_official_checkpoint(tmp_path / "x.ckpt")
    assert checkpoint.tensors.keys() == WEIGHTS.keys()
    assert set(checkpoint.ignored) == {"optimizer", "callbacks"}


def test_safetensors(tmp_path: Path):
    save_file(WEIGHTS, tmp_path / "x.safetensors")
    assert torch.equal(
        read_official_checkpoint(tmp_path / "x.safetensors").tensors["a.weight"], torch.ones(2, 3)
    )


def test_code_is_refused_and_not_run(tmp_path: Path):
    bait = tmp_path / "bait"
    torch.save({"state_dict": WEIGHTS, "hyper_parameters": Trap(bait)}, tmp_path / "x.ckpt")
    with pytest.raises(ConversionError, match=r"refused.*could run code"):
        read_official_checkpoint(tmp_path / "x.ckpt")
    (tmp_path / "bare.pkl").write_bytes(pickle.dumps(Trap(bait)))
    with pytest.raises(ConversionError):
        read_official_checkpoint(tmp_path / "bare.pkl")
    assert not bait.exists()


def test_a_tensor_larger_than_its_storage_is_refused(tmp_path: Path):
    """A stride of 0 makes terabytes of one number."""
    torch.save({"a.weight": torch.zeros(1).expand(1 << 40)}, tmp_path / "x.pth")
    with pytest.raises(ConversionError, match=r"a\.weight claims the shape \(1099511627776,\)"):
        read_official_checkpoint(tmp_path / "x.pth")


def test_sizes_beside_the_weights(tmp_path: Path):
    for content, expected in (
        ({"config": {"stride": 2}}, {"stride": 2}),
        ({"cfg": {"model": {"heads": 4}, "task": {"name": "x"}}}, {"heads": 4}),
        ({"args": argparse.Namespace(depth=3)}, {"depth": 3}),
        ({"epoch": 1}, {}),
    ):
        torch.save({"model": WEIGHTS, **content}, tmp_path / "x.pt")
        checkpoint = read_official_checkpoint(tmp_path / "x.pt", (argparse.Namespace,))
        assert checkpoint.config == expected
        assert checkpoint.tensors.keys() == WEIGHTS.keys()


def test_allow_list_lets_in_what_it_names_and_no_more(tmp_path: Path):
    torch.save({"model": WEIGHTS, "args": argparse.Namespace(lr=0.1)}, tmp_path / "x.pth")
    with pytest.raises(ConversionError, match=r"argparse\.Namespace"):
        read_official_checkpoint(tmp_path / "x.pth")
    checkpoint = read_official_checkpoint(tmp_path / "x.pth", (argparse.Namespace,))
    assert checkpoint.tensors.keys() == WEIGHTS.keys()
    assert checkpoint.ignored == ("args",)
    with pytest.raises(ConversionError):  # the allowance ended with the call
        read_official_checkpoint(tmp_path / "x.pth")


@pytest.mark.parametrize(
    "name", ["absent.pth", "empty.pth", "text.pth", "cut.pth", "cut.safetensors", "list.pth"]
)
def test_what_is_no_checkpoint_is_a_typed_error(tmp_path: Path, name: str):
    path = tmp_path / name
    if name == "empty.pth":
        path.write_bytes(b"")
    elif name == "text.pth":
        path.write_text("not a checkpoint")
    elif name == "cut.pth":
        torch.save(WEIGHTS, path)
        path.write_bytes(path.read_bytes()[:-200])
    elif name == "cut.safetensors":
        save_file(WEIGHTS, path)
        path.write_bytes(path.read_bytes()[:-4])
    elif name == "list.pth":
        torch.save([1, 2], path)
    with pytest.raises(ConversionError) as error:
        read_official_checkpoint(path)
    assert name in str(error.value)
    assert "\n" not in str(error.value)
