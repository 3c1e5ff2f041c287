"""Random crops from folders of sound files, for training the codec and the semantic encoder. Wave: (B, N).

Batch k is a pure function of (seed, k): a resumed run sees what an unbroken one would have seen, and there is
no loader state to save.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from segue import audio, units
from segue.errors import SegueError


class Clips:
    """Sound files that crops are drawn from, in proportion to their length.

    Args:
        folders: folders searched for sound files.
        sample_rate: of the waves given, in Hz.
        crop_seconds: length of a crop; shorter files give shorter crops, padded with zeros.
        batch_size: crops a batch.
        seed: of the draw.
        weights: share of the crops that each folder gets; None follows the hours in it.
        files: which of the files to take.

    Raises:
        SegueError: if a folder is missing or holds no sound that can be read, or a weight is not above 0.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        sample_rate: int,
        crop_seconds: float,
        batch_size: int,
        seed: int,
        weights: Sequence[float] | None = None,
        files: Callable[[Path], bool] = lambda path: True,
    ) -> None:
        if weights is not None and len(weights) != len(folders):
            raise SegueError(f"{len(weights)} weights for {len(folders)} folders; give one a folder")
        if weights is not None and not all(0 < weight < float("inf") for weight in weights):
            raise SegueError(f"weights {list(weights)}: each must be above 0; leave out a folder that is not wanted")
        self.sample_rate, self.crop_seconds, self.batch_size, self.seed = sample_rate, crop_seconds, batch_size, seed
        self.skipped: list[str] = []
        self.paths: list[Path] = []
        seconds: list[float] = []
        shares: list[np.ndarray] = []
        for index, folder in enumerate(folders):
            paths, lengths = self._scan(folder, files)
            share = np.asarray(lengths)
            shares.append(share if weights is None else share / share.sum() * weights[index])
            self.paths += paths
            seconds += lengths
        self.seconds = np.asarray(seconds)
        self.probabilities = np.concatenate(shares) / np.concatenate(shares).sum()

    def _scan(self, folder: Path, files: Callable[[Path], bool]) -> tuple[list[Path], list[float]]:
        paths, lengths = [], []
        for path in filter(files, audio.find(folder)):
            try:
                seconds = audio.duration_seconds(path)
            except SegueError as error:
                self.skipped.append(str(error))
                continue
            if seconds < audio.MINIMUM_SECONDS:
                self.skipped.append(f"{path}: {seconds:.3f} s, at least {audio.MINIMUM_SECONDS} s are needed")
                continue
            paths.append(path)
            lengths.append(seconds)
        if not paths:
            raise SegueError(f"{folder}: no sound files that can be read ({len(self.skipped)} skipped)")
        return paths, lengths

    @property
    def hours(self) -> float:
        """All sound that crops are drawn from."""
        return float(self.seconds.sum()) / 3600

    def batch(self, step: int, rows: slice = slice(None)) -> tuple[Tensor, Tensor]:
        """The crops of step `step`, or only those of some rows, which are read alone.

        Returns:
            wave (B, N) float32, zero beyond each row's end, and lengths (B,) in samples.
        """
        rng = np.random.default_rng((self.seed, step))
        length = units.seconds_to_samples(self.crop_seconds, self.sample_rate)
        files = rng.choice(len(self.paths), size=self.batch_size, p=self.probabilities)
        starts = [rng.uniform(0.0, max(0.0, self.seconds[index] - self.crop_seconds)) for index in files]
        crops = list(zip(files, starts, strict=True))[rows]
        wave = np.zeros((len(crops), length), dtype=np.float32)
        lengths = np.zeros(len(crops), dtype=np.int64)
        for row, (index, start) in enumerate(crops):
            crop = audio.read_crop(self.paths[index], start, self.crop_seconds, self.sample_rate)[:length]
            lengths[row] = max(1, crop.size)
            wave[row, : crop.size] = crop
        return torch.from_numpy(wave), torch.from_numpy(lengths)
