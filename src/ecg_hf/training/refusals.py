"""Errors of the libraries about training options, as errors of this package.

``TrainingArguments`` has over a hundred fields. Many of their values are checked late and anywhere: by an optimiser,
a scheduler, a sampler, an integration that is not installed. Each says what is wrong in an exception of its own.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from ecg_hf.errors import ConfigurationError, EcgError

__all__ = ["library_refusals"]

_PACKAGE = Path(__file__).resolve().parents[1]
# Files that only pass options on. An error on the way through any other file of this package is a fault of ours.
_PASSING_ON = {
    f"training/{name}.py"
    for name in (*("run", "finetuning_run", "finetuning", "base", "trainer", "arguments", "refusals"),)
}
# Called from inside a model, yet about options alone.
_ABOUT_OPTIONS = ("transformers/integrations/", "torch/_dynamo/", "torch/_inductor/")

_ORDINARY = ("use_cpu", "disable_tqdm", "max_steps", "num_train_epochs", "per_device_train_batch_size")


@contextmanager
def library_refusals(given: Mapping[str, Any]) -> Iterator[None]:
    """Turn a library's refusal to train with some options into one typed line.

    What a library raises while it runs a model or reads data of this package is a fault of ours and passes as it is,
    and so does what the operating system says.

    Args:
        given: Training options that were set, for the message.

    Raises:
        ConfigurationError: A library can't train with these options, or memory does not suffice for them.
    """
    try:
        yield
    except (EcgError, OSError):
        raise
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise ConfigurationError(
            "out of memory: lower per_device_train_batch_size, take a smaller size, or try gradient_checkpointing"
        ) from error
    except Exception as error:
        if not _is_about_options(error.__traceback__):
            raise
        reason = str(error).strip().splitlines() or [type(error).__name__]
        named = [f"{name}={value!r}" for name, value in given.items() if _mentioned(name, value, str(error))]
        unusual = [f"{name}={value!r}" for name, value in given.items() if name not in _ORDINARY]
        shown = ", ".join(named or unusual) or "these options"
        raise ConfigurationError(f"can't train with {shown}: {reason[0]}", value=dict(given)) from error


def _is_about_options(trace: TracebackType | None) -> bool:
    files = [Path(frame.filename) for frame in traceback.extract_tb(trace)]
    if any(part in file.as_posix() for file in files for part in _ABOUT_OPTIONS):
        return True
    inside = {file.relative_to(_PACKAGE).as_posix() for file in files if file.is_relative_to(_PACKAGE)}
    raised_here = bool(files) and files[-1].is_relative_to(_PACKAGE)
    return not raised_here and inside <= _PASSING_ON


def _mentioned(name: str, value: object, message: str) -> bool:
    text = str(getattr(value, "value", value))
    return name in message or (isinstance(value, str) and len(text) > 2 and text.lower() in message.lower())
