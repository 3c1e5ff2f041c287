"""Published models, as transformers has them: where their files are, and networks built of them.

`hf:facebook/encodec_24khz` is a model of the hub, fetched once; `hf:/path/to/folder` one that save_pretrained wrote.
`@8` at the end keeps a codec's first 8 codebooks, or takes the output of an encoder's 8th block. Only JSON and
model.safetensors are read, by Segue itself: no pickle is opened and no code fetched; transformers builds the network.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from segue.artifact import full, load_tensors, read_json
from segue.errors import SegueError

PREFIX = "hf:"
CONFIG = "config.json"
MISSING = 'published models need transformers, which is not installed; pip install "segue[pretrained]"'
_WEIGHTS = "model.safetensors"
_FREE_OF_EFFECT = {"transformers_version", "_name_or_path", "_commit_hash", "architectures", "dtype", "torch_dtype"}
_TIMEOUT_SECONDS = 10.0
_READ = "config.json and model.safetensors are read, as save_pretrained writes them, and never pickles"
_GIVE_A_FOLDER = f"or give a folder with its files, {PREFIX}/path/to/folder"


def is_reference(name: str | Path) -> bool:
    """Whether this names a published model, and not a folder of Segue's."""
    return str(name).startswith(PREFIX)


@dataclass(frozen=True)
class Reference:
    """A reference, taken apart.

    Attributes:
        place: id on the hub, or a folder.
        number: codebooks to keep, or the block whose output is taken; None if it is not told.
    """

    place: str
    number: int | None = None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """`hf:PLACE` or `hf:PLACE@NUMBER`.

        Raises:
            SegueError: if it is neither.
        """
        found = re.fullmatch(rf"{PREFIX}(.+?)(?:@(\d+))?", text)
        if not found:
            raise SegueError(f"{text!r}: write hf:NAME, hf:FOLDER or hf:NAME@NUMBER (of codebooks, or of a block)")
        return cls(found[1], int(found[2]) if found[2] else None)

    def __str__(self) -> str:
        """The reference as it is kept: a folder by its full path."""
        place = self.place if self.folder is None else self.folder.resolve().as_posix()
        return f"{PREFIX}{place}" + ("" if self.number is None else f"@{self.number}")

    @property
    def folder(self) -> Path | None:
        """Where the files lie; None for a model of the hub."""
        folder = Path(self.place).expanduser()
        return folder if folder.is_dir() or self.place.startswith(("/", ".", "~")) else None

    def find(self, name: str) -> Path | None:
        """One of the model's files, fetched from the hub unless it was fetched before; None if it has none such.

        Raises:
            SegueError: if there is no such model, or it can't be fetched.
        """
        if self.folder is None:
            return _from_hub(self.place, name)
        if not self.folder.is_dir():
            raise SegueError(f"{PREFIX}{self.place}: no such folder; give one that save_pretrained wrote")
        return self.folder / name if (self.folder / name).is_file() else None

    def file(self, name: str) -> Path:
        """One of the model's files that it must have.

        Raises:
            SegueError: if there is none, or it can't be fetched.
        """
        found = self.find(name)
        if found is None:
            raise SegueError(f"{PREFIX}{self.place}: no {name} in it; {_READ}")
        return found


def read_model(named: Reference, what: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Config and weights of a model as they are on disk, less what has no effect.

    Args:
        named: the model.
        what: it is, for messages.

    Raises:
        SegueError: if a file can't be found, fetched or read.
    """
    values = read_json(named.file(CONFIG), what)
    return {key: value for key, value in values.items() if key not in _FREE_OF_EFFECT}, weights(named)


def weights(named: Reference) -> dict[str, Tensor]:
    """The model's tensors by name.

    Raises:
        SegueError: if they can't be found, fetched or read.
    """
    return load_tensors(named.file(_WEIGHTS))


def make_config(family: str, values: dict[str, Any], name: str) -> Any:
    """The config of transformers' class FAMILYConfig.

    Raises:
        SegueError: if transformers is not installed, or the values are none of such a model.
    """
    try:
        return getattr(transformers(), f"{family}Config").from_dict(values)
    except SegueError:
        raise
    except Exception as error:  # each version of transformers checks its configs in its own way
        known = values.get("model_type", family)
        raise SegueError(f"{name}: {CONFIG} describes no {known} model ({first_line(error)})") from error


def make_model(family: str, config: Any, tensors: dict[str, Tensor], name: str) -> nn.Module:
    """The network of transformers' class FAMILYModel: float32, no gradients.

    Raises:
        SegueError: if transformers is not installed, or config and weights do not fit each other.
    """
    try:
        with _quiet(), torch.random.fork_rng(devices=[]):
            model, found = getattr(transformers(), f"{family}Model").from_pretrained(
                None, config=config, state_dict=full(tensors), dtype=torch.float32, output_loading_info=True
            )
    except SegueError:
        raise
    except Exception as error:  # what transformers raises for weights that don't fit has no common class
        raise SegueError(f"{name}: weights and config do not fit ({first_line(error)})") from error
    lacking = sorted(found["missing_keys"]) + sorted(map(str, found["mismatched_keys"]))
    if lacking:
        raise SegueError(f"{name}: weights and config do not fit ({len(lacking)} lacking, such as {lacking[0]})")
    return model.requires_grad_(False).eval()


def transformers() -> Any:
    """The package.

    Raises:
        SegueError: if it is not installed.
    """
    try:
        import transformers
    except ImportError as error:
        raise SegueError(MISSING) from error
    return transformers


@contextmanager
def _quiet() -> Iterator[None]:
    """Within, transformers shows no bars and tells of no lacking weights: `make_model` does."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _from_hub(model_id: str, name: str) -> Path | None:
    """A file of the hub's main revision, None if it has none such; what was fetched once is not asked for again."""
    try:
        from huggingface_hub import HfApi, hf_hub_download, try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError
    except ImportError as error:
        raise SegueError(MISSING) from error
    try:
        known = try_to_load_from_cache(model_id, name)
        if isinstance(known, str):
            return Path(known)
        # Asked first because it fails at once where the download itself would try for half a minute.
        files = HfApi().model_info(model_id, timeout=_TIMEOUT_SECONDS).siblings or ()
        if any(file.rfilename == name for file in files):
            return Path(hf_hub_download(model_id, name))
        return None
    except (HFValidationError, RepositoryNotFoundError) as error:
        raise SegueError(f"{PREFIX}{model_id}: no public model of the hub; check the name, {_GIVE_A_FOLDER}") from error
    except Exception as error:  # the hub's client raises those of its HTTP library, and changes that
        raise SegueError(
            f"{PREFIX}{model_id}: can't be fetched ({first_line(error)}); check the network, {_GIVE_A_FOLDER}"
        ) from error


def first_line(error: Exception) -> str:
    """What an error of another package says, fit for a message of one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:200]
