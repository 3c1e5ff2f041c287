"""Recipes: whole frozen configs, from a laptop's to the paper's. Change one value with `--set a.b=c`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from segue.codec.seanet import SeanetConfig
from segue.codec.soundstream import CodecConfig
from segue.codec.spectral import SpectralConfig
from segue.config import later
from segue.errors import SegueError
from segue.lm.parallel import ParallelConfig
from segue.lm.stage import StreamName
from segue.lm.transformer import TransformerConfig
from segue.semantic.conformer import EncoderConfig
from segue.semantic.tokenizer import TokenizerConfig
from segue.train.codec import CodecObjective
from segue.train.loop import TrainConfig
from segue.train.optimiser import OptimiserName
from segue.train.semantic import SemanticConfig


@dataclass(frozen=True)
class CodecRecipe:
    """A codec and its training."""

    model: CodecConfig
    objective: CodecObjective
    train: TrainConfig


@dataclass(frozen=True)
class SemanticRecipe:
    """A semantic tokenizer and its training.

    Attributes:
        model: encoder, objective, layer and number of clusters.
        cluster_batches: batches of sound that k-means sees.
        train: how long and how fast.
        rounds: times that the encoder goes on with the tokenizer made of it so far as its teacher; after a recurrent
            encoder it is a Conformer that is taught.
        round_share: steps of a round as a share of the first training's.
        teacher_layer: block that is clustered after the first training; later ones cluster the model's own.
        optimiser: of the training: Muon for the matrices of the blocks and of predictions, or AdamW for everything.
    """

    model: SemanticConfig
    cluster_batches: int
    train: TrainConfig
    rounds: int = later(0)
    round_share: float = later(0.5)
    teacher_layer: int = later(2)
    optimiser: OptimiserName = later("adamw")  # noqa: RUF009

    def __post_init__(self) -> None:
        if self.rounds < 0 or not 0 < self.round_share < float("inf"):
            raise SegueError(f"semantic: rounds {self.rounds}, round_share {self.round_share}: from 0 on, and above 0")
        if self.rounds:
            self.round(1)[0].tokenizer.checked()

    def round(self, number: int) -> tuple[SemanticConfig, TrainConfig]:
        """Model and training of the first training, 0, or of a round with a teacher."""
        if number == 0:
            layer = self.model.tokenizer.layer if self.rounds == 0 else self.teacher_layer
            return replace(self.model, tokenizer=replace(self.model.tokenizer, layer=layer)), self.train
        taught = replace(
            self.model,
            objective=replace(self.model.objective, kind="teacher"),
            tokenizer=replace(self.model.tokenizer, recurrent=None),
        )
        return taught, replace(self.train, steps=max(1, round(self.round_share * self.train.steps)))


@dataclass(frozen=True)
class StageRecipe:
    """One stage's language model and its training; `train.crop_seconds` is the stage's crop.

    Attributes:
        model: size of the transformer.
        train: how long and how fast.
        deduplicate_semantic: remove repeated semantic tokens, as the paper does in its first two stages.
        prefix: what the fine stage is conditioned on; the other stages have no choice.
        optimiser: of the training: Muon for the blocks' matrices, or AdamW for everything.
        without_semantic: share of the crops whose semantic prefix is left empty, so that the stage can also do
            without it; 0 where it never has to.

    Raises:
        SegueError: if that share isn't from 0 to 1.
    """

    model: TransformerConfig
    train: TrainConfig
    deduplicate_semantic: bool = False
    prefix: tuple[StreamName, ...] = ("semantic", "coarse")
    optimiser: OptimiserName = later("adamw")  # noqa: RUF009
    without_semantic: float = later(0.0)

    def __post_init__(self) -> None:
        if not 0 <= self.without_semantic <= 1:
            raise SegueError(f"without_semantic {self.without_semantic}: a share, from 0 to 1")


@dataclass(frozen=True)
class ParallelRecipe:
    """The parallel acoustic decoder and its training; `train.crop_seconds` is the longest window it sees.

    Attributes:
        model: size of the Conformer.
        train: how long and how fast.
        level_skew: codebook q (from 0) is asked in proportion to (q + 1) ** -level_skew; the paper asks all alike.
        without_semantic: as of `StageRecipe`.
    """

    model: ParallelConfig
    train: TrainConfig
    level_skew: float = 0.0
    without_semantic: float = 0.0


@dataclass(frozen=True)
class Recipe:
    """Everything from raw audio to a bundle.

    Attributes:
        name: of the recipe.
        num_coarse: codebooks of the coarse stage; the fine stage has the rest.
        codec: SoundStream.
        semantic: w2v-BERT and k-means.
        semantic_stage: what comes next.
        coarse_stage: how it sounds.
        fine_stage: in detail.
        parallel: coarse and fine codes together, in place of both stages; `segue fit` leaves it out.
    """

    name: str
    num_coarse: int
    codec: CodecRecipe
    semantic: SemanticRecipe
    semantic_stage: StageRecipe
    coarse_stage: StageRecipe
    fine_stage: StageRecipe
    parallel: ParallelRecipe

    def stage(self, name: StreamName) -> StageRecipe:
        """The recipe of the stage that predicts `name`."""
        return {"semantic": self.semantic_stage, "coarse": self.coarse_stage, "fine": self.fine_stage}[name]


def tiny() -> Recipe:
    """What two CPU cores train in an afternoon: the recipe of the bundled models."""
    return Recipe(
        name="tiny",
        num_coarse=4,
        codec=CodecRecipe(
            CodecConfig(quantizer="plain", latent_width=64),
            CodecObjective(adversarial_start_step=-1),
            TrainConfig(
                steps=4400,
                batch_size=8,
                crop_seconds=1.28,
                learning_rate=8e-4,
                warmup_steps=200,
                cooldown_fraction=0.3,
                ema_decay=0.998,
                validate_batches=8,
                checkpoint_every=250,
            ),
        ),
        semantic=SemanticRecipe(
            SemanticConfig(),
            cluster_batches=100,
            train=TrainConfig(
                steps=1800,
                batch_size=12,
                crop_seconds=6.0,
                learning_rate=1.5e-3,
                warmup_steps=100,
                cooldown_fraction=0.3,
                ema_decay=0.99,
                validate_every=200,
                checkpoint_every=100,
            ),
        ),
        semantic_stage=StageRecipe(
            TransformerConfig(width=192, depth=4, heads=4, feedforward=512, kv_heads=2, dropout=0.1),
            TrainConfig(
                steps=300,
                batch_size=16,
                crop_seconds=12.0,
                learning_rate=2e-3,
                warmup_steps=50,
                cooldown_fraction=0.4,
                ema_decay=0.99,
                validate_every=100,
                checkpoint_every=100,
            ),
        ),
        coarse_stage=StageRecipe(
            TransformerConfig(width=192, depth=4, heads=4, feedforward=512, kv_heads=2),
            TrainConfig(
                steps=600,
                batch_size=8,
                crop_seconds=3.0,
                learning_rate=2e-3,
                warmup_steps=30,
                cooldown_fraction=0.4,
                ema_decay=0.98,
                validate_every=50,
                checkpoint_every=50,
            ),
            without_semantic=0.1,
        ),
        fine_stage=StageRecipe(
            TransformerConfig(width=192, depth=2, heads=4, feedforward=512, kv_heads=2),
            TrainConfig(
                steps=240,
                batch_size=8,
                crop_seconds=1.0,
                learning_rate=2e-3,
                warmup_steps=30,
                cooldown_fraction=0.4,
                ema_decay=0.98,
                validate_every=50,
                checkpoint_every=50,
            ),
            without_semantic=0.1,
        ),
        parallel=ParallelRecipe(
            ParallelConfig(width=192, depth=4, heads=4, feedforward=2),
            TrainConfig(
                steps=2000,
                batch_size=12,
                crop_seconds=4.0,
                learning_rate=2e-3,
                warmup_steps=50,
                cooldown_fraction=0.4,
                ema_decay=0.99,
                validate_every=100,
                validate_batches=8,
                checkpoint_every=100,
            ),
            level_skew=0.5,
            without_semantic=0.05,
        ),
    )


def small() -> Recipe:
    """For one GPU and a day: some hundred hours of audio."""
    stage = TransformerConfig(width=512, depth=8, heads=8, feedforward=1408, dropout=0.1, embedding_width=256)
    narrow = replace(stage, window_frames=50, global_every=8)  # all but the last block see a second to either side
    return Recipe(
        name="small",
        num_coarse=4,
        codec=CodecRecipe(
            CodecConfig(
                spectral=SpectralConfig(width=512, encoder_depth=6, decoder_depth=8), quantizer="plain", latent_width=64
            ),
            CodecObjective(adversarial_start_step=20_000),
            TrainConfig(
                steps=200_000, batch_size=32, crop_seconds=1.28, learning_rate=3e-4, warmup_steps=1000, ema_decay=0.999
            ),
        ),
        semantic=SemanticRecipe(
            SemanticConfig(
                tokenizer=TokenizerConfig(
                    encoder=EncoderConfig(width=384, contrastive_depth=4, masked_depth=6, heads=6, feedforward=4),
                    layer=6,
                    vocab_size=1024,
                )
            ),
            cluster_batches=400,
            train=TrainConfig(
                steps=100_000, batch_size=32, crop_seconds=12.0, learning_rate=5e-4, warmup_steps=5000, ema_decay=0.999
            ),
        ),
        semantic_stage=StageRecipe(
            stage,
            TrainConfig(
                steps=50_000, batch_size=32, crop_seconds=30.0, learning_rate=5e-4, warmup_steps=1000, ema_decay=0.999
            ),
        ),
        coarse_stage=StageRecipe(
            narrow,
            TrainConfig(
                steps=100_000, batch_size=16, crop_seconds=10.0, learning_rate=5e-4, warmup_steps=1000, ema_decay=0.999
            ),
            without_semantic=0.1,
        ),
        fine_stage=StageRecipe(
            stage,
            TrainConfig(
                steps=100_000, batch_size=32, crop_seconds=3.0, learning_rate=5e-4, warmup_steps=1000, ema_decay=0.999
            ),
            without_semantic=0.1,
        ),
        parallel=ParallelRecipe(
            ParallelConfig(width=512, depth=8, heads=8, feedforward=4, dropout=0.1, embedding_width=128),
            TrainConfig(
                steps=100_000, batch_size=32, crop_seconds=10.0, learning_rate=5e-4, warmup_steps=1000, ema_decay=0.999
            ),
            without_semantic=0.1,
        ),
    )


def paper() -> Recipe:
    """AudioLM's recipe (arXiv 2209.03143, IV.B): 12 layers, 16 heads, 1024 wide, dropout 0.1, T5's positions."""
    model = TransformerConfig(
        width=1024,
        depth=12,
        heads=16,
        feedforward=4096,
        dropout=0.1,
        embedding_width=1024,
        positions="index",
        encoding="t5",
        activation="relu",
    )

    def stage(crop_seconds: float, deduplicate: bool, prefix: tuple[StreamName, ...]) -> StageRecipe:
        train = TrainConfig(
            steps=1_000_000, batch_size=256, crop_seconds=crop_seconds, learning_rate=3e-4, warmup_steps=10_000
        )
        return StageRecipe(model, train, deduplicate, prefix)

    encoder = EncoderConfig(width=1024, contrastive_depth=12, masked_depth=12, heads=16, feedforward=4)
    return Recipe(
        name="paper",
        num_coarse=4,
        codec=CodecRecipe(
            CodecConfig(pair="seanet", seanet=SeanetConfig(channels=32, width=512), quantizer="plain"),
            CodecObjective(dropped_share=1.0),  # SoundStream's codes and dropout (arXiv 2107.03312, III.C)
            TrainConfig(steps=1_000_000, batch_size=128, crop_seconds=1.28, learning_rate=1e-4, ema_decay=0.999),
        ),
        semantic=SemanticRecipe(
            SemanticConfig(tokenizer=TokenizerConfig(encoder=encoder, layer=18, vocab_size=1024)),
            cluster_batches=1000,
            train=TrainConfig(
                steps=400_000, batch_size=256, crop_seconds=15.0, learning_rate=2e-4, warmup_steps=25_000
            ),
        ),
        semantic_stage=stage(30.0, True, ()),
        coarse_stage=stage(10.0, True, ("semantic",)),
        fine_stage=stage(3.0, False, ("coarse",)),
        parallel=ParallelRecipe(  # arXiv 2305.09636, section 4: 12 layers, 16 heads, kernel 5, windows of up to 30 s
            ParallelConfig(width=1024, depth=12, heads=16, feedforward=4, dropout=0.1, embedding_width=1024),
            TrainConfig(steps=1_000_000, batch_size=256, crop_seconds=30.0, learning_rate=3e-4, warmup_steps=10_000),
        ),
    )


RECIPES: dict[str, Callable[[], Recipe]] = {"tiny": tiny, "small": small, "paper": paper}


def recipe(name: str) -> Recipe:
    """A recipe by name.

    Raises:
        SegueError: if there is none of that name.
    """
    if name not in RECIPES:
        raise SegueError(f"recipe {name!r}: there are {', '.join(RECIPES)}")
    return RECIPES[name]()
