"""Batches of a stream of rows for the trainer."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from torch.utils.data import DataLoader, IterableDataset
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ecg_hf.data.decoding import BatchDecoder
from ecg_hf.data.streaming import RowStream
from ecg_hf.errors import ConfigurationError
from ecg_hf.training.collators import EcgBatch, TokenisedTexts, patient_ids

__all__ = ["StreamEpochs", "StreamedEcgDataset", "batches_per_epoch", "stream_loader"]


def batches_per_epoch(rows: int, batch_size: int, world_size: int) -> int:
    """Batches of each process in an epoch of a stream.

    Args:
        rows: Rows of an epoch, over all processes.
        batch_size: Rows of a batch of one process.
        world_size: Number of processes.

    Raises:
        ConfigurationError: if there are fewer rows than one batch of all processes takes.
    """
    if rows < batch_size * world_size:
        raise ConfigurationError(
            f"{rows} training records are fewer than one batch of all processes: {batch_size} x {world_size}",
            value=rows,
        )
    return rows // (batch_size * world_size)


class StreamedEcgDataset(IterableDataset[EcgBatch]):
    """This process' batches of an epoch of a :class:`~ecg_hf.data.streaming.RowStream`.

    All processes have equally many. Which rows they hold depends on the epoch and on nothing else, so a resumed run
    passes over those it has seen and goes on as if it had never stopped.

    Args:
        stream: The rows.
        batch_size: Rows of a batch of this process.
        tokenizer: Tokenises ``report``, for multimodal training.
        max_text_length: Longest report in tokens.
        with_patients: Deliver ``patient_ids``, see :func:`ecg_hf.training.collators.patient_ids`.

    Raises:
        ConfigurationError: if there are fewer rows than one batch of all processes takes.
    """

    def __init__(
        self,
        stream: RowStream,
        batch_size: int,
        *,
        tokenizer: Any = None,
        max_text_length: int = 256,
        with_patients: bool = False,
    ) -> None:
        self.stream = stream
        self.batch_size = batch_size
        self.tokenizer = tokenizer
        self.max_text_length = max_text_length
        self.with_patients = with_patients
        self.epoch = 0
        self._length = batches_per_epoch(len(stream), batch_size, stream.world_size)

    def __len__(self) -> int:
        return self._length

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next pass."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[EcgBatch]:
        for rows in islice(self.stream.batches(self.epoch, self.batch_size), len(self)):
            decoder = BatchDecoder(rows)
            texts = None
            if self.tokenizer is not None:
                texts = TokenisedTexts(self.tokenizer, decoder.reports(), self.max_text_length)
            indices = list(range(len(rows)))
            # Never as one array: a record must not take another path because of its neighbours.
            features = {"patient_ids": patient_ids(decoder, indices)} if self.with_patients else {}
            yield EcgBatch(decoder.by_layout(indices), features, indices, texts)


def stream_loader(
    dataset: StreamedEcgDataset, collator: Any, arguments: TrainingArguments
) -> DataLoader[Any]:
    """The loader of a stream. It is divided among the processes already, so accelerate does not see it.

    Args:
        dataset: The batches.
        collator: Makes tensors of a batch.
        arguments: ``dataloader_num_workers`` above 0 reads ahead in one process beside the training; several would
            have to divide the rows once more.
    """
    workers = min(arguments.dataloader_num_workers, 1)
    return DataLoader(
        dataset,
        batch_size=None,
        collate_fn=collator,
        num_workers=workers,
        pin_memory=arguments.dataloader_pin_memory,
        prefetch_factor=arguments.dataloader_prefetch_factor if workers else None,
    )


class StreamEpochs(TrainerCallback):
    """Tells a streamed training set which epoch begins: that of the optimiser step, also when a run is resumed."""

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Set the epoch."""
        dataset = kwargs["train_dataloader"].dataset
        if isinstance(dataset, StreamedEcgDataset):
            steps = -(-len(dataset) // args.gradient_accumulation_steps)
            dataset.set_epoch(state.global_step // steps)
