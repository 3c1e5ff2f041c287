"""The peers of decode.py: published models that make tokens of the same kind, at the same size, with random weights.

Beside them, what all subjects have in common.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from segue.errors import SegueError
from segue.lm.sequence import Layout
from segue.lm.stage import coarse_stage
from segue.lm.transformer import Transformer

SEMANTIC, CODES, BOOKS, PROMPT = 512, 1024, 4, 25
IDS = SEMANTIC + BOOKS * CODES


@dataclass(frozen=True)
class Subject:
    """A model that makes tokens.

    Attributes:
        name: as shown.
        heads: query and key/value heads.
        parameters: in number.
        generate: makes so many tokens.
        most: tokens that it is asked for at most.
        model: ours.
        engine: ours, with its weights.
    """

    name: str
    heads: str
    parameters: int
    generate: Callable[[int], Any]
    most: int | None = None
    model: Transformer | None = None
    engine: tuple[str, str] | None = None

    @property
    def label(self) -> str:
        """Name and heads."""
        return f"{self.name}, {self.heads} heads"


@dataclass(frozen=True)
class Size:
    """Of the models that are compared.

    Attributes:
        width: of the residual stream.
        depth: number of blocks.
        heads: query heads.
        feedforward: hidden width of a SwiGLU where each head has keys and values of its own.
        feedforward_shared: where all heads share them, so that the number of parameters stays.
    """

    width: int
    depth: int
    heads: int
    feedforward: int
    feedforward_shared: int


def times(count: int) -> Tensor:
    """Positions (1, count) of a coarse stage's tokens: half as many semantic frames as frames of codes, then these."""
    frames = -(-count // (1 + 2 * BOOKS))
    known = torch.zeros(1, frames, dtype=torch.long), torch.zeros(BOOKS, 2 * frames, dtype=torch.long)
    _, positions = Layout(coarse_stage(SEMANTIC, BOOKS, CODES)).read(known[:1], known[1])
    return positions[None, :count]


def parameters(model: nn.Module) -> int:
    """In number."""
    return sum(weight.numel() for weight in model.parameters())


def llama(size: Size) -> Subject:
    """LlamaForCausalLM.generate of `transformers`.

    Raises:
        SegueError: if that is missing.
    """
    try:
        import transformers
    except ImportError as error:
        raise SegueError(f"transformers is missing ({error}); pip install -e '.[pretrained]'") from error
    config = transformers.LlamaConfig(
        vocab_size=IDS,
        hidden_size=size.width,
        num_hidden_layers=size.depth,
        num_attention_heads=size.heads,
        intermediate_size=size.feedforward,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
        eos_token_id=None,
        pad_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.LlamaForCausalLM(config).eval()
    prompt = torch.randint(1, SEMANTIC, (1, PROMPT), generator=torch.Generator().manual_seed(0))

    def generate(count: int) -> None:
        made = model.generate(prompt, do_sample=True, top_k=0, max_new_tokens=count, min_new_tokens=count)
        assert made.shape[1] == PROMPT + count

    return Subject("Llama", f"{size.heads}/{size.heads}", parameters(model), generate, most=1000)


def audiolm(size: Size, folder: Path | None) -> Subject:
    """Cached coarse generation of audiolm-pytorch.

    Raises:
        SegueError: if it can't be imported.
    """
    if folder is not None and str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    try:
        from audiolm_pytorch import audiolm_pytorch as theirs
    except ImportError as error:
        raise SegueError(
            f"audiolm-pytorch can't be imported ({error}); pip install --no-deps --target FOLDER audiolm-pytorch, the "
            "small packages that it imports, and stand-ins for torchaudio, fairseq and wandb; then --audiolm FOLDER"
        ) from error
    theirs.get_encoded_dim = lambda name: size.width  # asks the network otherwise

    class Codec(theirs.SoundStream):
        """Stands in for the codec, which generation doesn't use."""

        def __init__(self) -> None:
            nn.Module.__init__(self)
            self.rq_groups = 1

    theirs.tqdm = lambda steps, **_: steps
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = theirs.CoarseTransformer(
            codebook_size=CODES,
            num_coarse_quantizers=BOOKS,
            dim=size.width,
            depth=size.depth,
            num_semantic_tokens=SEMANTIC,
            heads=8,
        ).eval()
        wrapper = theirs.CoarseTransformerWrapper(transformer=model, codec=Codec(), unique_consecutive=False).eval()
    prompt = torch.randint(0, SEMANTIC, (1, PROMPT), generator=torch.Generator().manual_seed(0))

    def generate(count: int) -> None:
        wrapper.generate(semantic_token_ids=prompt, max_time_steps=max(1, count // BOOKS))

    return Subject("audiolm-pytorch", "8/1", parameters(model), generate, most=400)
