"""What pretraining and fine-tuning share: optimiser groups, logs, and checkpoints known to be whole."""

from __future__ import annotations

import atexit
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import DistributedType, parse_flag_from_env
from huggingface_hub import HfApi
from torch import Tensor, nn
from transformers import PrinterCallback, ProgressCallback, Trainer, TrainerState
from transformers.trainer_utils import HubStrategy, TrainOutput
from transformers.utils.hub import PushInProgress

from ecg_hf.errors import ConfigurationError
from ecg_hf.files import write_whole
from ecg_hf.models.shared_files import CARD_FILE, model_files
from ecg_hf.progress import without_progress_bars
from ecg_hf.training.checkpoints import STATE_FILE, discard_incomplete_checkpoints, newest_complete_checkpoint
from ecg_hf.training.distributed import as_scalars, scalars_to_vectors
from ecg_hf.training.progress import Progress
from ecg_hf.training.training_log import MeasuringCallback, TrainingLog

__all__ = ["EcgTrainer"]

Batch = dict[str, Any]


def _leave_process_group() -> None:
    # A process that exits with its group open is now and then aborted by gloo after all its work is done.
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


class EcgTrainer(Trainer):
    """``transformers.Trainer`` with optimiser groups of its own, a log file, and safe resuming.

    * :meth:`parameter_groups` is the one place that decides learning rates and weight decay.
    * Every logged value also goes to ``training_log.jsonl``; what is shown is the step, the time left and the losses.
    * ``train(resume_from_checkpoint=True)`` takes the newest complete checkpoint and removes incomplete ones.
    * Model folders hold no pickles.
    * What is pushed to the Hub are the files that make the model, as with ``ecg-hf push``.
    * With FSDP2, parameters without dimensions are divided too; a request for it that can't be met is refused.
    """

    # Losses are means over the micro-batch: the trainer divides by the number of micro-batches (read by
    # transformers >= 5.23; before, ``accepts_loss_kwargs = False`` on the model says the same).
    loss_is_scaled_for_ga = False
    push_in_progress: PushInProgress | None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.args.n_gpu > 1:
            raise ConfigurationError(
                "several GPUs in one process are not supported: start one process per GPU with torchrun",
                value=self.args.n_gpu,
            )
        if self.args.push_to_hub and self.args.hub_strategy not in (HubStrategy.END, HubStrategy.EVERY_SAVE):
            raise ConfigurationError(
                f"hub_strategy {self.args.hub_strategy.value!r} would share checkpoints: choose end or every_save",
                value=self.args.hub_strategy.value,
            )
        self._vectors = frozenset[str]()
        asked = self.is_fsdp_enabled or parse_flag_from_env("ACCELERATE_USE_FSDP")
        if asked and self.accelerator.distributed_type != DistributedType.FSDP:
            # accelerate would go on without sharding, and say nothing.
            raise ConfigurationError(
                "FSDP was asked for, but there are no accelerators to divide the model among: use torchrun alone"
            )
        if asked:
            self._vectors = scalars_to_vectors(self.model)
        self.add_callback(TrainingLog())
        # Those of the library print every log as a dictionary. Its table in notebooks stays.
        shown = {type(callback) for callback in self.callback_handler.callbacks}
        for kind in (PrinterCallback, ProgressCallback):
            if kind in shown:
                self.remove_callback(kind)
                self.add_callback(Progress())
        if self.args.world_size > 1:
            atexit.register(_leave_process_group)

    def parameter_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """Optimiser groups: weight decay on matrices, none on biases, norms and scalars. Override for more.

        Args:
            model: Model to train.
        """
        decaying = set(self.get_decay_parameter_names(model))
        groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                groups[name in decaying and parameter.ndim > 1].append(parameter)
        return [
            {"params": groups[True], "weight_decay": self.args.weight_decay},
            {"params": groups[False], "weight_decay": 0.0},
        ]

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """The optimiser of ``args.optim`` over :meth:`parameter_groups`."""
        if getattr(self, "optimizer", None) is None:
            target = self.model if model is None else model
            kind, options = self.optimizer_cls_and_kwargs or self.get_optimizer_cls_and_kwargs(
                self.args, target
            )
            groups = [group for group in self.parameter_groups(target) if group["params"]]
            self.optimizer: torch.optim.Optimizer = kind(groups, **options)
        return self.optimizer

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """As the library's, which knows neither data nor method; a card that is there is left as it is."""
        if not (Path(self.args.output_dir) / CARD_FILE).is_file():
            super().create_model_card(*args, **kwargs)

    def push_to_hub(
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """As the library's, but of the same files as ``ecg-hf push``: the library sends the whole output folder.

        Args:
            commit_message: Message of the commit.
            blocking: Wait until the files are there.
            token: Instead of ``args.hub_token``.
            revision: Branch; ``args.hub_revision`` if not given.
            private: Make a private repository, if there is none yet.
            kwargs: For :meth:`create_model_card`.

        Returns:
            The commit, or a future of it; None on other processes than the first.
        """
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        if self.hub_model_id is None:
            self.init_hf_repo(token=token, private=private)
        self.save_model(_internal_call=True)
        if not self.is_world_process_zero():
            return None
        self.create_model_card(**kwargs)
        self._finish_current_push()
        folder = str(self.args.output_dir)
        return self._upload(folder, str(commit_message), blocking, token, revision)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        if not self.is_world_process_zero() or self.args.hub_strategy == HubStrategy.END:
            return
        waiting = self.push_in_progress is not None and not self.push_in_progress.is_done()
        if waiting and not self.args.hub_always_push:
            return
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        message = f"Training in progress, step {self.state.global_step}"
        job = self._upload(checkpoint_folder, message, blocking=False)
        if waiting and self.push_in_progress is not None:
            self.push_in_progress.jobs.append(job)
        else:
            self.push_in_progress = PushInProgress([job])

    def _upload(
        self, folder: str, message: str, blocking: bool, token: str | None = None, revision: str | None = None
    ) -> Any:
        options: dict[str, Any] = {
            "repo_id": self.hub_model_id,
            "folder_path": folder,
            "allow_patterns": [file.name for file in model_files(folder)],
            "commit_message": message,
            "token": self.args.hub_token if token is None else token,
            "revision": self.args.hub_revision if revision is None else revision,
            "run_as_future": not blocking,
        }
        return HfApi().upload_folder(**options)

    def floating_point_ops(self, inputs: Batch) -> int:
        """Not counted: the library's formula takes each sample of the signal for a token."""
        return 0

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, without the count of operations that is not kept."""
        logs.pop("total_flos", None)
        super().log(logs, start_time)

    def _log_measured(self, values: dict[str, float]) -> None:
        """Log a callback's values between steps, without taking the place of the step's own log."""
        due = self.control.should_log
        self.log(values)
        # The library takes any log for the one that was due; processes would then disagree about what to gather.
        self.control.should_log = due

    def train(
        self,
        resume_from_checkpoint: str | bool | None = None,
        trial: Any = None,
        ignore_keys_for_eval: list[str] | None = None,
    ) -> TrainOutput:
        """Train; with ``resume_from_checkpoint=True``, from the newest complete checkpoint.

        Raises:
            ConfigurationError: There is no complete checkpoint to resume from.
        """
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, MeasuringCallback):
                callback.log = self._log_measured
        if isinstance(resume_from_checkpoint, bool) and resume_from_checkpoint:
            if self.is_world_process_zero():
                discard_incomplete_checkpoints(self.args.output_dir)
            self.accelerator.wait_for_everyone()
            newest = newest_complete_checkpoint(self.args.output_dir)
            if newest is None:
                raise ConfigurationError("no complete checkpoint to resume from", value=self.args.output_dir)
            try:
                state = TrainerState.load_from_json(str(newest / STATE_FILE))
            except (TypeError, ValueError, AttributeError, KeyError) as error:
                raise ConfigurationError(f"can't be used: {error}", path=newest / STATE_FILE) from error
            if self.is_finished(state):
                return self._restore_finished(newest, state)
            resume_from_checkpoint = str(newest)
        return super().train(resume_from_checkpoint, trial, ignore_keys_for_eval)

    def is_finished(self, state: TrainerState) -> bool:
        """Whether the run that left ``state`` was at its end."""
        return bool(state.global_step >= state.max_steps)

    def _restore_finished(self, checkpoint: Path, state: TrainerState) -> TrainOutput:
        """Leave a finished run as it ended: the library's loop looks at ``max_steps`` after a step, one too late."""
        self.state = state
        best = state.best_model_checkpoint if self.args.load_best_model_at_end else None
        self._load_from_checkpoint(best or str(checkpoint))
        return TrainOutput(state.global_step, 0.0, {})

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        # Writing over a checkpoint left by an earlier run must not look complete half-way.
        folder = Path(self._get_output_dir(trial)) / f"checkpoint-{self.state.global_step}"
        if self.args.should_save:
            (folder / STATE_FILE).unlink(missing_ok=True)
        super()._save_checkpoint(model, trial)

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        # Process 0 goes on to write the file that marks the checkpoint complete: not before all are here.
        self.accelerator.wait_for_everyone()

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        if state_dict is not None and self._vectors:
            state_dict = as_scalars(state_dict, self._vectors)
        with without_progress_bars():
            super()._save(output_dir, state_dict)
        if not self.args.should_save:
            return
        folder = Path(self.args.output_dir if output_dir is None else output_dir)
        # The library pickles the arguments. Nothing reads them back, and a model folder holds no pickles.
        (folder / "training_args.bin").unlink(missing_ok=True)
        write_whole(folder / "training_args.json", self.args.to_json_string() + "\n")
