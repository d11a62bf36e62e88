"""MiniRocket, by sktime: random dilated convolutions and the share of values above random thresholds."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.baselines.base import FrozenBaseline, Rows, row_numbers
from ecg_hf.progress import progress_bar
from ecg_hf.signal.gaps import bridge_gaps
from ecg_hf.signal.leads import STANDARD_LEADS

if TYPE_CHECKING:
    from datasets import Dataset

    from ecg_hf.data.decoding import BatchDecoder

__all__ = ["MiniRocket"]

_RECORDS_AT_ONCE = 128
# One record per threshold is drawn: more of them cannot matter, and all of PTB-XL is a gigabyte.
_FIT_RECORDS = 2048
_KERNELS_PER_SET = 84


class MiniRocket(FrozenBaseline):
    """Multivariate MiniRocket (Dempster et al. 2021) of recordings at one rate and length.

    The library is sktime's ``MiniRocketMultivariate``, which needs numba: ``pip install 'ecg-hf[baselines]'``. Twelve
    leads in the standard order, in millivolts; absent leads are zeros. The first use compiles, which takes about half
    a minute on a free core.

    Args:
        num_kernels: Features; rounded down to a multiple of 84.
        duration_s: Length of the recordings, seconds: longer ones are cut, shorter ones followed by zeros.
        sampling_rate: Hertz the recordings are brought to.
        seed: Of leads, dilations and thresholds.
        num_proc: Threads of the library.
        column: Name of the ECG column.

    Raises:
        ConfigurationError: for settings out of range.

    Differs from the library's default: thresholds are drawn from at most 2,048 of the training records.
    """

    name = "minirocket"
    description = "MiniRocket (sktime)"
    version = 1

    def __init__(
        self,
        *,
        num_kernels: int = 10_000,
        duration_s: float = 10.0,
        sampling_rate: float = 100.0,
        seed: int = 0,
        num_proc: int = 1,
        column: str = "ecg",
    ) -> None:
        if num_kernels < _KERNELS_PER_SET:
            raise ConfigurationError(f"num_kernels must be at least 84, got {num_kernels}", value=num_kernels)
        if num_proc < 1 or not sampling_rate > 0.0:
            raise ConfigurationError(
                f"num_proc and sampling_rate must be positive, got {num_proc}, {sampling_rate}"
            )
        if duration_s * sampling_rate < 9:
            raise ConfigurationError(
                f"a kernel has nine samples: {duration_s:g} s at {sampling_rate:g} Hz are too short",
                value=duration_s,
            )
        self.num_kernels, self.seed, self.num_proc, self.column = num_kernels, seed, num_proc, column
        self.duration_s, self.sampling_rate = duration_s, sampling_rate
        self._rocket: Any = None

    @property
    def dim(self) -> int:
        """Number of features: 9,996 by default."""
        return self.num_kernels // _KERNELS_PER_SET * _KERNELS_PER_SET

    def settings(self) -> Mapping[str, Any]:
        """Kernels, length, rate, seed, and the version of the library."""
        try:
            library = version("sktime")
        except PackageNotFoundError:
            library = "absent"
        return {
            "num_kernels": self.num_kernels,
            "duration_s": self.duration_s,
            "sampling_rate": self.sampling_rate,
            "seed": self.seed,
            "sktime": library,
        }

    def fit(self, dataset: Dataset, train_rows: Rows, *, progress: bool = True) -> None:
        """Draw the thresholds from training records.

        Raises:
            ConfigurationError: if the library is not installed, or a row is out of range.
        """
        rocket_class = _library()
        rows = np.unique(row_numbers(dataset, train_rows))
        chosen = np.sort(np.random.default_rng(self.seed).permutation(rows)[:_FIT_RECORDS])
        rocket = rocket_class(num_kernels=self.num_kernels, random_state=self.seed, n_jobs=self.num_proc)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._rocket = rocket.fit(self._signals(self._decoder(dataset), chosen).astype(np.float64))

    def transform(
        self, dataset: Dataset, rows: Rows | None = None, *, progress: bool = True
    ) -> npt.NDArray[np.float32]:
        """Shares of positive values float32 ``(rows, dim)``, 0 to 1.

        Raises:
            ConfigurationError: if the baseline was not fitted, or a row is out of range.
        """
        if self._rocket is None:
            raise ConfigurationError(
                "MiniRocket needs fit() first: it draws thresholds from training records"
            )
        numbers = row_numbers(dataset, rows)
        decoder = self._decoder(dataset)
        features = np.empty((len(numbers), self.dim), np.float32)
        with progress_bar(len(numbers), self.name, "record", show=progress) as bar:
            for part in _parts(len(numbers)):
                signals = self._signals(decoder, numbers[part]).astype(np.float64)
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    features[part] = np.asarray(self._rocket.transform(signals), dtype=np.float32)
                bar.update(len(signals))
        return features

    def _decoder(self, dataset: Dataset) -> BatchDecoder:
        from ecg_hf.data.decoding import BatchDecoder

        return BatchDecoder(dataset, self.column, sampling_rate=self.sampling_rate, lead_names=STANDARD_LEADS)

    def _signals(self, decoder: BatchDecoder, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """float32 ``(rows, 12, samples)`` of one length, finite."""
        samples = round(self.duration_s * self.sampling_rate)
        result = np.zeros((len(rows), len(STANDARD_LEADS), samples), np.float32)
        for part in _parts(len(rows)):
            signal = np.nan_to_num(bridge_gaps(decoder(rows[part]).signal[:, :, :samples])[0])
            result[part, :, : signal.shape[2]] = signal
        return result


def _parts(n: int) -> Iterator[slice]:
    for start in range(0, n, _RECORDS_AT_ONCE):
        yield slice(start, min(n, start + _RECORDS_AT_ONCE))


def _library() -> Any:
    try:
        import numba  # noqa: F401
        from sktime.transformations.panel.rocket import MiniRocketMultivariate
    except ImportError as error:
        raise ConfigurationError(
            f"MiniRocket needs sktime and numba ({error}): pip install 'ecg-hf[baselines]'"
        ) from None
    return MiniRocketMultivariate
