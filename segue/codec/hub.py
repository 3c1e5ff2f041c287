"""Where the files of a published codec are: a folder, or a model of the hub that is fetched once.

`hf:facebook/encodec_24khz` is a model of the hub, `hf:/path/to/folder` one that save_pretrained wrote, and `@8` at the
end keeps its first 8 codebooks.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from segue.errors import SegueError

PREFIX = "hf:"
MISSING = 'published codecs need transformers, which is not installed; pip install "segue[pretrained]"'
_TIMEOUT_SECONDS = 10.0
_READ = "config.json and model.safetensors are read, as save_pretrained writes them, and never pickles"
_GIVE_A_FOLDER = f"or give a folder with its files, {PREFIX}/path/to/folder"


def is_reference(name: str | Path) -> bool:
    """Whether this names a published codec, and not a folder of Segue's."""
    return str(name).startswith(PREFIX)


@dataclass(frozen=True)
class Reference:
    """A reference, taken apart.

    Attributes:
        place: id on the hub, or a folder.
        num_codebooks: to keep; None for all.
    """

    place: str
    num_codebooks: int | None = None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """`hf:PLACE` or `hf:PLACE@COUNT`.

        Raises:
            SegueError: if it is neither.
        """
        found = re.fullmatch(rf"{PREFIX}(.+?)(?:@(\d+))?", text)
        if not found:
            raise SegueError(f"codec {text!r}: write hf:NAME, hf:FOLDER or hf:NAME@CODEBOOKS")
        return cls(found[1], int(found[2]) if found[2] else None)

    def __str__(self) -> str:
        """The reference as it is kept: a folder by its full path."""
        place = self.place if self.folder is None else self.folder.resolve().as_posix()
        return f"{PREFIX}{place}" + ("" if self.num_codebooks is None else f"@{self.num_codebooks}")

    @property
    def folder(self) -> Path | None:
        """Where the files lie; None for a model of the hub."""
        folder = Path(self.place).expanduser()
        return folder if folder.is_dir() or self.place.startswith(("/", ".", "~")) else None

    def file(self, name: str) -> Path:
        """One of the model's files, fetched from the hub unless it was fetched before.

        Raises:
            SegueError: if there is none, or it can't be fetched.
        """
        if self.folder is None:
            return _from_hub(self.place, name)
        if not self.folder.is_dir():
            raise SegueError(f"{PREFIX}{self.place}: no such folder; give one that save_pretrained wrote")
        if not (self.folder / name).is_file():
            raise SegueError(f"{PREFIX}{self.place}: no {name} in it; {_READ}")
        return self.folder / name


def _from_hub(model_id: str, name: str) -> Path:
    """A file of the hub's main revision. What was fetched once is used again without asking the hub."""
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
    except (HFValidationError, RepositoryNotFoundError) as error:
        raise SegueError(f"{PREFIX}{model_id}: no public model of the hub; check the name, {_GIVE_A_FOLDER}") from error
    except Exception as error:  # the hub's client raises those of its HTTP library, and changes that
        raise SegueError(
            f"{PREFIX}{model_id}: can't be fetched ({first_line(error)}); check the network, {_GIVE_A_FOLDER}"
        ) from error
    raise SegueError(f"{PREFIX}{model_id}: no {name} in it; {_READ}")


def first_line(error: Exception) -> str:
    """What an error of another package says, fit for a message of one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:200]
