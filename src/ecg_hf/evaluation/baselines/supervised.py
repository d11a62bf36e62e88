"""A network trained from scratch on the labels: what the same labels give without any pretraining."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.baselines.base import Rows, SupervisedBaseline, row_numbers
from ecg_hf.evaluation.heads.base import checked_labels, learnable_classes, macro_quality
from ecg_hf.files import temporary_name
from ecg_hf.metrics.ranking import BoolArray, FloatArray
from ecg_hf.progress import progress_bar
from ecg_hf.signal.gaps import bridge_gaps
from ecg_hf.signal.leads import STANDARD_LEADS

if TYPE_CHECKING:
    import torch
    from datasets import Dataset

    from ecg_hf.data.decoding import BatchDecoder
    from ecg_hf.nn.backbones.xresnet1d import Xresnet1d

__all__ = ["SupervisedXresnet"]

_SCALE_RECORDS = 1024
_WARMUP_SHARE = 0.05


class SupervisedXresnet(SupervisedBaseline):
    """:class:`ecg_hf.nn.backbones.xresnet1d.Xresnet1d` on random crops, chosen by validation macro AUROC.

    Twelve leads at :attr:`sampling_rate`, divided by one standard deviation of the training records; absent leads are
    zeros. AdamW with a cosine schedule after a short warm-up; each training record shows one random crop per epoch,
    its gain drawn from a log-normal distribution and white noise added. The epoch with the best validation macro
    AUROC is kept, and training ends when :attr:`patience` epochs brought none better. A score is the mean probability
    of evenly spaced windows.

    Everything random follows from ``seed`` and the number of the epoch, so that a run continued after a kill ends
    like one that was not killed.

    Args:
        width: Channels of the first stage: 64 as published, 8 for a test.
        epochs: Passes over the training records, at most.
        learning_rate: Peak of the schedule.
        weight_decay: Of AdamW.
        batch_size: Records per step; a last batch of a single record is left out.
        patience: Epochs without improvement before training ends.
        crop_s: Length of crops and windows, seconds.
        windows: Windows per record in validation and test.
        gain_sd: Standard deviation of the logarithm of the random gain.
        noise_sd: Standard deviation of the added noise, in units of the scaled signal.
        sampling_rate: Hertz the recordings are brought to.
        output_dir: Folder of the checkpoints, one file per combination of data, labels, rows, seed and settings;
            None keeps nothing.
        device: Where to train.
        column: Name of the ECG column.
        progress: Show a progress bar.

    Attributes:
        epoch: The chosen epoch, from 1 (after fitting).
        validation_auroc: Validation macro AUROC after every epoch (after fitting).
        unfitted: Class name -> why it could not be learnt (after fitting).

    Raises:
        ConfigurationError: for settings that are not positive.
    """

    name = "xresnet1d"
    description = "xresnet1d, 2.45 M parameters, trained from scratch"
    version = 1

    def __init__(
        self,
        *,
        width: int = 64,
        epochs: int = 30,
        learning_rate: float = 2e-3,
        weight_decay: float = 1e-2,
        batch_size: int = 48,
        patience: int = 8,
        crop_s: float = 5.0,
        windows: int = 3,
        gain_sd: float = 0.1,
        noise_sd: float = 0.05,
        sampling_rate: float = 100.0,
        output_dir: str | os.PathLike[str] | None = None,
        device: str = "cpu",
        column: str = "ecg",
        progress: bool = True,
    ) -> None:
        self.width, self.epochs, self.batch_size, self.patience = width, epochs, batch_size, patience
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.crop_s, self.windows, self.sampling_rate = crop_s, windows, sampling_rate
        self.gain_sd, self.noise_sd = gain_sd, noise_sd
        self.output_dir = None if output_dir is None else Path(output_dir)
        self.device, self.column, self.progress = device, column, progress
        for setting in ("width", "epochs", "patience", "windows", "learning_rate", "crop_s", "sampling_rate"):
            if not getattr(self, setting) > 0:
                raise ConfigurationError(
                    f"{setting} must be positive, got {getattr(self, setting)}", value=getattr(self, setting)
                )
        if batch_size < 2:
            raise ConfigurationError(
                f"batch_size must be at least 2 for batch norm, got {batch_size}", value=batch_size
            )
        self.epoch = 0
        self.validation_auroc: tuple[float, ...] = ()
        self.unfitted: dict[str, str] = {}

    def settings(self) -> Mapping[str, Any]:
        """Every argument but where checkpoints lie, the device and the progress bar."""
        names = (
            "width", "epochs", "learning_rate", "weight_decay", "batch_size", "patience", "crop_s", "windows",
            "gain_sd", "noise_sd", "sampling_rate",
        )  # fmt: skip
        return {name: getattr(self, name) for name in names}

    def fit_predict(
        self,
        dataset: Dataset,
        labels: npt.ArrayLike,
        train_rows: Rows,
        validation_rows: Rows,
        test_rows: Rows,
        class_names: Sequence[str],
        seed: int = 0,
    ) -> FloatArray:
        """Probabilities of the test rows; 0 throughout for the classes in :attr:`unfitted`.

        Raises:
            ConfigurationError: if labels do not fit, no class can be learnt or chosen by, or the loss is not finite.
        """
        import torch

        from ecg_hf.data.decoding import BatchDecoder
        from ecg_hf.nn.backbones.xresnet1d import Xresnet1d

        train, validation, test = (
            row_numbers(dataset, rows) for rows in (train_rows, validation_rows, test_rows)
        )
        truth = np.asarray(labels, dtype=np.float32)
        if truth.shape != (len(dataset), len(class_names)):
            raise ConfigurationError(
                f"labels must be ({len(dataset)}, {len(class_names)}), got {truth.shape}", value=truth.shape
            )
        learnable, self.unfitted = learnable_classes(*checked_labels(truth[train]), class_names)
        if len(train) < 2:
            raise ConfigurationError("batch norm needs at least two training records")
        decoder = BatchDecoder(
            dataset, self.column, sampling_rate=self.sampling_rate, lead_names=STANDARD_LEADS
        )
        scale = self._scale(decoder, train)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = Xresnet1d(len(STANDARD_LEADS), len(class_names), width=self.width).to(self.device)
            optimizer = torch.optim.AdamW(
                model.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay
            )
            file = self._checkpoint(dataset, truth, train, validation, seed)
            state = self._resume(file, model, optimizer)
            batches = -(-len(train) // self.batch_size)
            with progress_bar(
                self.epochs * batches,
                self.name,
                "batch",
                initial=len(state["history"]) * batches,
                show=self.progress,
            ) as bar:
                while not self._finished(state["history"]):
                    number = len(state["history"]) + 1
                    self._train_epoch(
                        model, optimizer, decoder, truth, train, scale, learnable, bar, seed, number
                    )
                    scores = self._predict(model, decoder, validation, scale)
                    quality = macro_quality(
                        truth[validation][:, learnable], scores[:, learnable], "the epoch"
                    )
                    if quality > max(state["history"], default=-math.inf):
                        state["best"] = {k: v.detach().cpu().clone() for k, v in model.state_dict().items()}
                    state["history"].append(quality)
                    _save(file, model, optimizer, state)
        self.validation_auroc = tuple(state["history"])
        self.epoch = int(np.argmax(self.validation_auroc)) + 1
        model.load_state_dict(state["best"])
        scores = self._predict(model, decoder, test, scale)
        scores[:, ~learnable] = 0.0
        return scores

    def _scale(self, decoder: BatchDecoder, train: npt.NDArray[np.int64]) -> float:
        """Standard deviation of the training records (evenly spread ones, where there are many)."""
        chosen = np.sort(train)[:: max(1, len(train) // _SCALE_RECORDS)]
        batch = decoder(chosen)
        values = batch.signal[batch.lead_mask]
        spread = float(np.nanstd(values)) if values.size else 0.0
        if not spread > 0.0:
            raise ConfigurationError("the training records are flat")
        return spread

    def _windows(
        self, decoder: BatchDecoder, rows: npt.NDArray[np.int64], share: npt.NDArray[np.float64], scale: float
    ) -> npt.NDArray[np.float32]:
        """One window per row, float32 ``(rows, 12, samples)``: it begins at ``share`` of the room there is."""
        batch = decoder(rows)
        length = round(self.crop_s * self.sampling_rate)
        signal = np.nan_to_num(bridge_gaps(batch.signal)[0]) / np.float32(scale)
        if signal.shape[2] < length:
            signal = np.pad(signal, [(0, 0), (0, 0), (0, length - signal.shape[2])])
        starts = np.floor(share * (np.maximum(batch.lengths - length, 0) + 1)).astype(np.int64)
        places = starts[:, None] + np.arange(length)
        return np.take_along_axis(signal, places[:, None, :], axis=2)

    def _train_epoch(
        self,
        model: Xresnet1d,
        optimizer: torch.optim.Optimizer,
        decoder: BatchDecoder,
        truth: npt.NDArray[np.float32],
        train: npt.NDArray[np.int64],
        scale: float,
        learnable: BoolArray,
        bar: Any,
        seed: int,
        epoch: int,
    ) -> None:
        import torch

        from ecg_hf.nn.losses.classification import classification_loss

        random = np.random.default_rng([seed, epoch])
        torch.manual_seed(int(random.integers(2**31)))
        model.train()
        batches = [rows for rows in _batches(random.permutation(train), self.batch_size) if len(rows) > 1]
        total = torch.zeros((), device=self.device)
        for step, rows in enumerate(batches):
            signal = self._windows(decoder, rows, random.random(len(rows)), scale)
            signal *= np.exp(random.normal(0.0, self.gain_sd, (len(rows), 1, 1))).astype(np.float32)
            signal += self.noise_sd * random.standard_normal(signal.shape, dtype=np.float32)
            target = torch.from_numpy(np.where(learnable, truth[rows], np.nan)).to(self.device)
            for group in optimizer.param_groups:
                group["lr"] = self._learning_rate(
                    (epoch - 1) * len(batches) + step, self.epochs * len(batches)
                )
            loss = classification_loss(
                model(torch.from_numpy(signal).to(self.device)), target, "multi_label_classification"
            )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total += loss.detach()
            bar.update()
        if not bool(torch.isfinite(total)):
            raise ConfigurationError(f"the loss is not finite in epoch {epoch}", value=epoch)

    def _learning_rate(self, step: int, total: int) -> float:
        warmup = max(1, round(_WARMUP_SHARE * total))
        if step < warmup:
            return self.learning_rate * (step + 1) / warmup
        return self.learning_rate * 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))

    def _predict(
        self, model: Xresnet1d, decoder: BatchDecoder, rows: npt.NDArray[np.int64], scale: float
    ) -> FloatArray:
        import torch

        # Just below one: the last window ends with the recording.
        shares = np.linspace(0.0, np.nextafter(1.0, 0.0), self.windows) if self.windows > 1 else [0.5]
        scores = []
        model.eval()
        with torch.inference_mode():
            for part in _batches(rows, 2 * self.batch_size):
                mean = np.zeros(())
                for share in shares:
                    signal = self._windows(decoder, part, np.full(len(part), share), scale)
                    logits = model(torch.from_numpy(signal).to(self.device))
                    mean = mean + logits.float().sigmoid().cpu().numpy().astype(np.float64) / len(shares)
                scores.append(mean)
        return np.concatenate(scores)

    def _finished(self, history: Sequence[float]) -> bool:
        if not history:
            return False
        best = int(np.argmax(history)) + 1
        return len(history) >= self.epochs or len(history) - best >= self.patience

    def _checkpoint(
        self,
        dataset: Dataset,
        truth: npt.NDArray[np.float32],
        train: npt.NDArray[np.int64],
        validation: npt.NDArray[np.int64],
        seed: int,
    ) -> Path | None:
        if self.output_dir is None:
            return None
        from ecg_hf.evaluation.cache import fingerprint_dataset

        digest = hashlib.sha256(json.dumps([self.fingerprint(), seed]).encode())
        digest.update(fingerprint_dataset(dataset, self.column).encode())
        for rows in (train, validation):
            digest.update(rows.tobytes() + b"|")
            digest.update(np.ascontiguousarray(truth[rows]).tobytes())
        self.output_dir.mkdir(parents=True, exist_ok=True)
        return self.output_dir / f"{self.name}-{digest.hexdigest()[:24]}.pt"

    def _resume(
        self, file: Path | None, model: Xresnet1d, optimizer: torch.optim.Optimizer
    ) -> dict[str, Any]:
        import torch

        fresh: dict[str, Any] = {"history": [], "best": {}}
        if file is None or not file.is_file():
            return fresh
        try:
            stored = torch.load(file, map_location=self.device, weights_only=True)
            model.load_state_dict(stored["model"])
            optimizer.load_state_dict(stored["optimizer"])
        except (RuntimeError, KeyError, ValueError, OSError, EOFError) as error:
            raise ConfigurationError("not a checkpoint of this baseline: remove it", path=file) from error
        return {"history": list(stored["history"]), "best": stored["best"]}


def _save(
    file: Path | None, model: Xresnet1d, optimizer: torch.optim.Optimizer, state: Mapping[str, Any]
) -> None:
    """Write a checkpoint that is never seen half-written."""
    import torch

    if file is None:
        return
    partial = temporary_name(file)
    try:
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), **state}, partial)
        os.replace(partial, file)
    finally:
        partial.unlink(missing_ok=True)


def _batches(rows: npt.NDArray[np.int64], size: int) -> Iterator[npt.NDArray[np.int64]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
