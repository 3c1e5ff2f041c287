"""What is kept from training where no folder of held-out sound is given: by name, and of every folder that can."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import tiny

from segue.data.held_out import held_out, splits
from segue.parts import SoundData, _clips
from segue.train.loop import TrainConfig


def folder(place, names):
    place.mkdir()
    source = tiny.corpus(place.parent / f"{place.name}-source", 1, 0.5) / "clip000.wav"
    for name in names:
        (place / name).write_bytes(source.read_bytes())
    return place


def names(count, kept):
    """So many names of files that are held out, or are not."""
    found = (f"x{number}.wav" for number in range(10_000))
    return list(islice((name for name in found if held_out(Path(name)) == kept), count))


def test_a_folder_that_can_hold_nothing_out_is_trained_on_whole(tmp_path):
    large = folder(tmp_path / "large", names(20, False) + names(2, True))
    small, odd = folder(tmp_path / "small", names(3, False)), folder(tmp_path / "odd", names(1, True))
    ours, apart = splits([large, small, odd])
    assert apart == [large]
    assert sorted(path.name for path in large.iterdir() if not ours(path)) == sorted(names(2, True))
    assert all(ours(path) for place in (small, odd) for path in place.iterdir())
    config = TrainConfig(steps=1, batch_size=2, crop_seconds=0.3, learning_rate=1e-3)
    for weights in (None, (1.0, 2.0, 3.0)):
        train, held = _clips(SoundData((large, small, odd), weights=weights), config, tiny.RATE)
        assert len(train.paths) == 24 and len(held.paths) == 2


def test_fewer_than_twenty_files_are_all_trained_on(tmp_path):
    small = folder(tmp_path / "small", names(15, False) + names(2, True))
    ours, apart = splits([small])
    assert apart == [] and all(map(ours, small.iterdir()))
