"""Wave to semantic tokens: features, w2v-BERT encoder, its objectives, k-means, and the tokenizer that is shipped."""

from segue.semantic.conformer import EncoderConfig
from segue.semantic.objective import ObjectiveConfig
from segue.semantic.repeats import deduplicate, restore
from segue.semantic.tokenizer import SemanticTokenizer, TokenizerConfig

__all__ = ["EncoderConfig", "ObjectiveConfig", "SemanticTokenizer", "TokenizerConfig", "deduplicate", "restore"]
