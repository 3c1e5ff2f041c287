"""What a step of a recipe's part costs, counted without doing it: on tensors that have shapes and no values.

One crop goes through the part's networks and back, under a counter of matrix products, convolutions and attention and
of what is kept for the way back; both grow with the crops of a batch. Left out, as small: the rounding to codes, the
losses' spectra, the contrastive objective's scores, the optimiser.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.utils import flop_counter

from segue.codec.discriminators import Discriminators
from segue.codec.soundstream import SoundStream
from segue.lm.model import StageModel
from segue.lm.stage import Stage, StreamName, coarse_stage, fine_stage, semantic_stage
from segue.recipes import Recipe
from segue.semantic.conformer import Encoder
from segue.semantic.features import SAMPLE_RATE, STACK
from segue.semantic.objective import Objective
from segue.semantic.recurrent import RecurrentEncoder
from segue.semantic.tokenizer import SemanticTokenizer, encoder_of
from segue.train.loop import TrainConfig
from segue.train.throughput import cpu_attention

BYTES_A_WEIGHT = 20
"""In float32: the weight, its gradient, two moments of Adam and the moving average."""
PARTS = ("codec", "semantic", "semantic stage", "coarse stage", "fine stage")


@dataclass(frozen=True)
class Cost:
    """Of one step of a whole batch, in float32.

    Attributes:
        gflop: multiplications and additions, forward and back.
        weights: parameters in training.
        kept_bytes: activations kept for the way back.
        batch_size: crops that those are of.
    """

    gflop: float
    weights: int
    kept_bytes: float
    batch_size: int

    def bytes(self, accumulate: int = 1) -> float:
        """Memory of a step that is worked through in so many parts; a fifth more for what is passing."""
        return BYTES_A_WEIGHT * self.weights + 1.2 * self.kept_bytes / accumulate


def cost_of(part: str, recipe: Recipe) -> Cost:
    """What a step of one of `PARTS` costs."""
    if part == "codec":
        return _codec(recipe)
    if part == "semantic":
        return _semantic(recipe)
    name: StreamName = "semantic" if part.startswith("semantic") else "coarse" if part.startswith("coarse") else "fine"
    return _stage(name, recipe)


def stage_of(name: StreamName, recipe: Recipe) -> Stage:
    """The stage of a recipe whose tokenizers are the recipe's own."""
    codec, vocab_size, one = recipe.codec.model, recipe.semantic.model.tokenizer.vocab_size, recipe.stage(name)
    rates = (SemanticTokenizer.frame_rate, codec.sample_rate / codec.hop_length)
    rest = (*rates, one.train.crop_seconds, one.deduplicate_semantic)
    if name == "semantic":
        return semantic_stage(vocab_size, *rest)
    if name == "coarse":
        return coarse_stage(vocab_size, recipe.num_coarse, codec.codebook_size, *rest)
    return fine_stage(vocab_size, codec.num_codebooks, recipe.num_coarse, codec.codebook_size, *rest, one.prefix)


def _codec(recipe: Recipe) -> Cost:
    config, objective, train = recipe.codec.model, recipe.codec.objective, recipe.codec.train
    adversarial = objective.adversarial_start_step >= 0

    def build() -> nn.Module:
        modules: list[nn.Module] = [SoundStream(config)]
        return nn.ModuleList([*modules, Discriminators(objective.discriminators)] if adversarial else modules)

    def through(modules: nn.Module) -> Tensor:
        codec, *rest = modules.children()
        assert isinstance(codec, SoundStream)
        hop = config.hop_length
        wave = torch.zeros(1, round(train.crop_seconds * config.sample_rate / hop) * hop)
        made = codec.decoder(codec.features(wave))
        total = made.square().sum()
        for judge in rest:  # its own step on both, then once more on what was made, through which the gradient flows
            seen = [judge(wave), judge(made.detach()), judge(made)]
            total = total + sum(layer.square().sum() for one in seen for layers in one for layer in layers)
            with torch.no_grad():
                judge(wave)
        return total

    return _counted(build, through, train)


def _semantic(recipe: Recipe) -> Cost:
    config, train = recipe.semantic.model, recipe.semantic.train
    sizes = config.tokenizer.sizes

    def build() -> nn.Module:
        return nn.ModuleList([encoder_of(sizes), Objective(sizes, config.objective)])

    def through(modules: nn.Module) -> Tensor:
        network, objective = modules.children()
        assert isinstance(network, Encoder | RecurrentEncoder) and isinstance(objective, Objective)
        frames = round(train.crop_seconds * SAMPLE_RATE / SemanticTokenizer.hop_length)
        subsampled = network.subsampling(torch.zeros(1, STACK * frames, sizes.mel_bands))
        hidden = network(subsampled)[-1]
        if objective.predictive is not None:
            return objective.predictive(subsampled, hidden, torch.ones(hidden.shape[:2], dtype=torch.bool))[0]
        return objective.prediction.head(hidden).square().sum()

    return _counted(build, through, train)


def _stage(name: StreamName, recipe: Recipe) -> Cost:
    stage, chosen = stage_of(name, recipe), recipe.stage(name)
    ticks = stage.crop_frames
    length = sum(1 + stream.frames(ticks) * stream.num_codebooks for stream in stage.streams)
    frames = stage.target.frames(ticks)

    def through(model: nn.Module) -> Tensor:
        assert isinstance(model, StageModel)
        hidden = model.transformer(torch.zeros(1, length, dtype=torch.int64), torch.zeros(1, length))
        total = hidden.sum() * 0
        for slot in range(stage.target.num_codebooks):
            logits = model.transformer.logits(hidden[0, :frames], *model.layout.slot(slot))
            total = total + F.cross_entropy(logits, torch.zeros(frames, dtype=torch.int64))
        return total

    return _counted(lambda: StageModel(stage, chosen.model), through, chosen.train)


def _counted(build: Callable[[], nn.Module], through: Callable[[nn.Module], Tensor], train: TrainConfig) -> Cost:
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.is_leaf and tensor.requires_grad:
            return tensor  # a weight
        storage = tensor.untyped_storage()
        kept[storage._cdata] = max(kept.get(storage._cdata, 0), storage.nbytes())
        return tensor

    with torch.random.fork_rng(devices=[]), FakeTensorMode():
        module = build()
        with flop_counter.FlopCounterMode(display=False, custom_mapping=cpu_attention()) as counter:
            with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                total = through(module)
            total.backward()
        weights = sum(weight.numel() for weight in module.parameters())
    crops = train.batch_size
    return Cost(counter.get_total_flops() * crops / 1e9, weights, float(sum(kept.values())) * crops, crops)
