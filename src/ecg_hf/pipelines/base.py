"""What the ECG pipelines share: inputs, batching, unreadable records, and which tensors reach the model."""

from __future__ import annotations

import inspect
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from functools import partial
from itertools import groupby, islice
from types import GeneratorType
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset
from transformers.pipelines.base import Pipeline
from transformers.pipelines.pt_utils import PipelineIterator
from transformers.utils import logging

from ecg_hf.errors import ConfigurationError, EcgError
from ecg_hf.pipelines.batching import BatchCollator
from ecg_hf.pipelines.inputs import EcgRows, EcgStream, as_pipeline_input, load_ecg, load_windows
from ecg_hf.signal.io.windows import check_seconds
from ecg_hf.signal.record import EcgRecord

__all__ = ["EcgPipeline", "SkippedEcg", "accepted_inputs", "check_choice", "check_count", "top_entries"]

logger = logging.get_logger(__name__)

_INPUT_OPTIONS = ("data_root", "sampling_rate", "lead_names", "unit", "layout")
_WINDOW_OPTIONS = ("window_s", "stride_s")
_BATCH = 32


class SkippedEcg(list[Any]):
    """The result of an ECG that could not be read: an empty list with the error.

    Args:
        error: What was wrong with it.
    """

    def __init__(self, error: EcgError) -> None:
        super().__init__()
        self.error = error

    def __repr__(self) -> str:
        return f"SkippedEcg({str(self.error)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return (SkippedEcg, (self.error,))


class EcgPipeline(Pipeline):
    """Reads ECGs one by one, prepares those of a batch together, and collates batches from finished tensors.

    Options of every ECG pipeline, in the constructor or the call:

    - ``data_root``: folder that paths are relative to and must not leave;
    - ``sampling_rate``, ``lead_names``, ``unit``, ``layout``: of arrays and files that do not carry them;
    - ``on_error``: ``"raise"`` (default) stops at the first ECG that can't be read or prepared; ``"skip"`` goes on
      with the others and gives a :class:`SkippedEcg` for it, an empty list with the ``error``, so that results
      and inputs stay aligned. Each skipped ECG is logged as a warning;
    - ``window_s``, ``stride_s``: look at windows of so many seconds, one every ``stride_s`` (``window_s`` if not
      given). The result of an ECG is then a list with ``{"start_s", "result"}`` for each window. Long files are read
      block by block (:func:`ecg_hf.iter_windows`), and only the results are kept;
    - ``batch_size``: ECGs of a forward pass: 32 of what has a length, 1 of a stream, which may be live.

    A list gives a list of results. A dataset, its ECG column, a streamed dataset and an iterator give an iterator
    that reads on demand.
    """

    _load_processor = False
    _load_image_processor = False
    _load_video_processor = False
    _load_feature_extractor = True
    _load_tokenizer = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        check = getattr(self.model.config, "check_feature_extractor", None)
        if check is not None and self.feature_extractor is not None:
            check(self.feature_extractor)

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        """Run on one ECG, or on a list, array, iterator or dataset of them."""
        for name, least in (("batch_size", 1), ("num_workers", 0)):
            check_count(name, kwargs.get(name), least)
        inputs = as_pipeline_input(inputs)
        if isinstance(inputs, list) and not inputs:
            return []
        if isinstance(inputs, list | EcgRows) and kwargs.get("batch_size") is None:
            kwargs["batch_size"] = self._batch_size or _BATCH
        has_windows = kwargs.get("window_s", self._preprocess_params.get("window_s")) is not None
        if has_windows and not isinstance(inputs, list | EcgRows | EcgStream | GeneratorType):
            # As a list of one, because the library runs a single input without a batch size.
            return super().__call__([inputs], **kwargs)[0]
        return super().__call__(inputs, **kwargs)

    def run_single(
        self,
        inputs: Any,
        preprocess_params: dict[str, Any],
        forward_params: dict[str, Any],
        postprocess_params: dict[str, Any],
    ) -> Any:
        """One ECG is handled like many, so that ``on_error`` applies to it too."""
        return next(
            iter(self.get_iterator([inputs], 0, 1, preprocess_params, forward_params, postprocess_params))
        )

    def get_iterator(
        self,
        inputs: Any,
        num_workers: int,
        batch_size: int,
        preprocess_params: dict[str, Any],
        forward_params: dict[str, Any],
        postprocess_params: dict[str, Any],
    ) -> PipelineIterator | Iterator[Any]:
        """Results one by one.

        Like the library's, with batches that may hold records of different lengths and records that could not be
        prepared, see :class:`~ecg_hf.pipelines.batching.BatchCollator`.
        """
        window_s, stride_s = (preprocess_params.pop(name, None) for name in _WINDOW_OPTIONS)
        if window_s is not None:
            cut = partial(load_windows, window_s=window_s, stride_s=stride_s, **preprocess_params)
            return self._results_by_window(inputs, cut, batch_size, forward_params, postprocess_params)
        if stride_s is not None:
            raise ConfigurationError("stride_s needs window_s", value=stride_s)
        return self._iterate(
            inputs,
            num_workers,
            batch_size,
            preprocess_params,
            forward_params,
            postprocess_params,
            self._logged,
        )

    def _iterate(
        self,
        inputs: Any,
        num_workers: int,
        batch_size: int,
        preprocess_params: dict[str, Any],
        forward_params: dict[str, Any],
        postprocess_params: dict[str, Any],
        finish: Callable[..., Any],
    ) -> PipelineIterator:
        prepare = partial(self._prepare, options=preprocess_params)
        if isinstance(inputs, Sized):
            prepared: Dataset[Any] = _PreparedRows(inputs, prepare)
        else:
            if num_workers > 1:
                logger.warning_once("A stream is read by one worker: each of several would read all of it.")
            num_workers = min(num_workers, 1)
            prepared = _PreparedStream(inputs, prepare, batch_size)
        loader = DataLoader(
            prepared,
            num_workers=num_workers,
            batch_size=batch_size,
            collate_fn=BatchCollator(
                self.feature_extractor.padding_value, self.feature_extractor.padding_side
            ),
        )
        outputs = PipelineIterator(loader, self._run, forward_params, loader_batch_size=batch_size)
        return PipelineIterator(outputs, finish, postprocess_params)

    def _results_by_window(
        self,
        ecgs: Any,
        cut: Callable[..., Iterator[tuple[float, EcgRecord]]],
        batch_size: int,
        forward_params: dict[str, Any],
        postprocess_params: dict[str, Any],
    ) -> Iterator[list[dict[str, Any]]]:
        """For each ECG the results of its windows. A batch may hold windows of several."""
        extractor = self.feature_extractor
        expected = {
            "expected_rate": float(extractor.sampling_rate),
            "expected_leads": tuple(extractor.lead_names),
        }
        places: deque[tuple[int, float]] = deque()
        has_rows = isinstance(ecgs, Sized)
        reads: Iterable[Callable[[], Any]] = (
            (partial(ecgs.__getitem__, index) for index in range(len(ecgs)))
            if has_rows
            else (partial(_given, ecg) for ecg in ecgs)
        )

        def windows() -> Iterator[EcgRecord | EcgError]:
            for number, read in enumerate(reads):
                try:
                    for start_s, window in cut(read(), **expected):
                        places.append((number, start_s))
                        yield window
                except EcgError as error:
                    places.append((number, math.nan))
                    yield error

        # Without worker processes: one would fill a list of places of its own.
        results = self._iterate(
            windows(), 0, batch_size, {}, forward_params, postprocess_params, self._finish
        )
        located = ((*places.popleft(), result) for result in results)
        for _, group in groupby(located, key=lambda entry: entry[0]):
            found = [{"start_s": start_s, "result": result} for _, start_s, result in group]
            skipped = [window["result"] for window in found if isinstance(window["result"], SkippedEcg)]
            if math.isnan(found[-1]["start_s"]):
                # What can't be read to its end is skipped as a whole, as it is without windows.
                logger.warning(f"skipped an ECG: {skipped[-1].error}")
                yield skipped[-1]
                continue
            if skipped:
                logger.warning(
                    f"skipped {len(skipped)} of {len(found)} windows of an ECG: {skipped[0].error}"
                )
            yield found

    def _input_parameters(self, options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Split the keyword arguments of the call into those of preprocessing and of the forward pass."""
        forward = {}
        if "on_error" in options:
            check_choice("on_error", options["on_error"], ("raise", "skip"))
            forward["on_error"] = options.pop("on_error")
        for name in _WINDOW_OPTIONS:
            if options.get(name) is not None:
                check_seconds(name, options[name])
        names = (*_INPUT_OPTIONS, *_WINDOW_OPTIONS)
        return {name: options.pop(name) for name in names if name in options}, forward

    def _refuse_unknown(self, options: dict[str, Any]) -> None:
        if options:
            names = ", ".join(sorted(options))
            raise ConfigurationError(f"{type(self).__name__} has no option {names}", value=names)

    def preprocess(self, input_: Any, **options: Any) -> dict[str, Tensor]:
        """One ECG as tensors with a batch axis of 1."""
        ecg, extractor_options = load_ecg(input_, **options)
        return self._features(ecg, extractor_options)

    def _features(self, ecg: Any, extractor_options: dict[str, Any]) -> dict[str, Tensor]:
        # Always asked for: batches are collated by key, and padding must not decide which keys exist.
        features = self.feature_extractor(
            ecg, return_tensors="pt", return_sample_mask=True, **extractor_options
        )
        return dict(features.to(self.dtype))

    def _prepare(self, reads: Sequence[Callable[[], Any]], options: dict[str, Any]) -> list[dict[str, Any]]:
        """Tensors of each ECG, or its error: raised in a worker process it would lose its fields.

        They are prepared together, which takes a fraction of the time, and one by one if one of them can't be, or if
        the length of the output would then depend on the others.
        """
        loaded: list[tuple[Any, dict[str, Any]] | EcgError] = []
        for read in reads:
            try:
                loaded.append(load_ecg(read(), **options))
            except EcgError as error:
                loaded.append(error)
        readable = [one for one in loaded if not isinstance(one, EcgError)]
        fixed = getattr(self.feature_extractor, "duration_s", None) is not None
        if len(readable) > 1 and fixed and all(told == readable[0][1] for _, told in readable):
            try:
                together = iter(_rows(self._features([ecg for ecg, _ in readable], readable[0][1])))
            except EcgError:
                pass
            else:
                return [{"error": one} if isinstance(one, EcgError) else next(together) for one in loaded]
        return [self._prepare_one(one) for one in loaded]

    def _prepare_one(self, loaded: tuple[Any, dict[str, Any]] | EcgError) -> dict[str, Any]:
        if isinstance(loaded, EcgError):
            return {"error": loaded}
        try:
            return dict(self._features(*loaded))
        except EcgError as error:
            return {"error": error}

    def _run(self, batch: dict[str, Any], on_error: str = "raise", **options: Any) -> dict[str, Any]:
        """Outputs for the records of a batch that could be prepared, and the errors of the others."""
        errors: list[EcgError | None] = batch.pop("error")
        failed = [error for error in errors if error is not None]
        if failed and on_error == "raise":
            raise failed[0]
        outputs = dict(self.forward(batch, **options)) if batch else {}
        if not failed:
            return outputs
        places = [index for index, error in enumerate(errors) if error is None]
        spread = {name: values.new_zeros(len(errors), *values.shape[1:]) for name, values in outputs.items()}
        for name, values in outputs.items():
            spread[name][places] = values
        return {"error": errors, **spread}

    def _finish(self, outputs: dict[str, Any], **options: Any) -> Any:
        error = outputs.pop("error", None)
        if isinstance(error, list):
            # A batch of one is passed on whole.
            error = error[0]
        return self.postprocess(outputs, **options) if error is None else SkippedEcg(error)

    def _logged(self, outputs: dict[str, Any], **options: Any) -> Any:
        result = self._finish(outputs, **options)
        if isinstance(result, SkippedEcg):
            logger.warning(f"skipped an ECG: {result.error}")
        return result


Prepare = Callable[[Sequence[Callable[[], Any]]], list[dict[str, Any]]]


class _PreparedRows(Dataset[Any]):
    """Prepared ECGs of something that can be indexed; reading a row counts as part of preparing it."""

    def __init__(self, rows: Any, prepare: Prepare) -> None:
        self._rows, self._prepare = rows, prepare

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> list[dict[str, Any]]:
        """The ECGs of a batch, as torch's loaders ask for them."""
        return self._prepare([partial(self._rows.__getitem__, index) for index in indices])


class _PreparedStream(IterableDataset[Any]):
    """Prepared ECGs of something that can only be iterated over."""

    def __init__(self, items: Iterable[Any], prepare: Prepare, batch_size: int) -> None:
        self._items, self._prepare, self._batch_size = items, prepare, batch_size

    def __iter__(self) -> Iterator[dict[str, Any]]:
        items = iter(self._items)
        while batch := [partial(_given, item) for item in islice(items, self._batch_size)]:
            yield from self._prepare(batch)


def _rows(features: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """Tensors of a batch as those of each record, with a batch axis of 1."""
    records = zip(*(values.split(1) for values in features.values()), strict=True)
    return [dict(zip(features, tensors, strict=True)) for tensors in records]


def _given(item: Any) -> Any:
    """An item of a stream, which may be why there is none."""
    if isinstance(item, EcgError):
        raise item
    return item


def accepted_inputs(function: Callable[..., Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The prepared tensors a model's function takes; a sample mask without padding is left out."""
    parameters = inspect.signature(function).parameters
    kept = {name: value for name, value in inputs.items() if name in parameters}
    mask = kept.get("sample_mask")
    if mask is not None and bool(mask.all()):
        del kept["sample_mask"]
    return kept


def check_choice(name: str, value: Any, choices: Iterable[str]) -> None:
    """Raise a ``ConfigurationError`` unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise ConfigurationError(f"{name} must be one of {', '.join(choices)}, got {value!r}", value=value)


def check_count(name: str, value: Any, least: int) -> None:
    """Raise a ``ConfigurationError`` unless ``value`` is ``None`` or a whole number of at least ``least``."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
        raise ConfigurationError(f"{name} must be a number of at least {least}, got {value!r}", value=value)


def top_entries(entries: list[dict[str, Any]], top_k: int | None) -> list[dict[str, Any]]:
    """Entries by descending score, at most ``top_k``."""
    return sorted(entries, key=lambda entry: -entry["score"])[:top_k]
