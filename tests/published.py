"""Small published codecs that tests share: random models of transformers, saved as their makers would."""

from __future__ import annotations

import json
from pathlib import Path

import tiny
import torch

SIZE = 16
CONFIGS = {
    "encodec": {"num_filters": 2, "hidden_size": 8, "codebook_size": SIZE, "target_bandwidths": [0.6, 1.8]},
    "dac": {"downsampling_ratios": [2, 4, 5, 8], "n_codebooks": 5, "codebook_dim": 4},  # odd: it decodes too little
    "mimi": {"num_filters": 2, "hidden_size": 16, "num_quantizers": 5, "codebook_dim": 8, "codebook_size": SIZE},
}
CONFIGS["dac"] |= {"encoder_hidden_size": 2, "decoder_hidden_size": 32, "codebook_size": SIZE, "sampling_rate": 16_000}
CONFIGS["mimi"] |= {"vector_quantization_hidden_dimension": 8, "num_hidden_layers": 1, "intermediate_size": 16}
CONFIGS["mimi"] |= {"num_attention_heads": 2, "num_key_value_heads": 2, "upsample_groups": 16}
KINDS = list(CONFIGS)


def classes(kind: str):
    import transformers

    name = {"encodec": "Encodec", "dac": "Dac", "mimi": "Mimi"}[kind]
    return getattr(transformers, f"{name}Config"), getattr(transformers, f"{name}Model")


def save_model(kind: str, folder: Path, **changed) -> Path:
    """A small model of random weights, whose codebooks lie among what its encoder says."""
    make_config, make_model = classes(kind)
    config = make_config(**{**CONFIGS[kind], **changed})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = make_model(config).eval()
        for name, values in model.named_buffers():
            if name.endswith(("embed", "embed_sum")):
                values.normal_(std=0.05)
    model.save_pretrained(folder)
    return folder


def save_models(place: Path) -> dict[str, Path]:
    """One model of each kind."""
    return {kind: save_model(kind, place / kind) for kind in KINDS}


_SMALL = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 16}
_WAVE = {
    **_SMALL,
    **{"conv_dim": (8,) * 7, "num_feat_extract_layers": 7},
    **{"num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2},
}
_LARGE = {"do_stable_layer_norm": True, "feat_extract_norm": "layer"}  # how the large models are built
ENCODERS = {
    "hubert": ("Hubert", _WAVE, {"do_normalize": True, "sampling_rate": 16_000}),
    "wavlm": ("WavLM", _WAVE | _LARGE, {"do_normalize": False, "sampling_rate": 16_000}),
    "wav2vec2": ("Wav2Vec2", _WAVE | _LARGE, {"do_normalize": True, "sampling_rate": 16_000}),
    "wav2vec2-bert": (
        "Wav2Vec2Bert",
        _SMALL | {"feature_projection_input_dim": 32, "output_hidden_size": 16, "conv_depthwise_kernel_size": 5},
        {"sampling_rate": 16_000},
    ),
    "mert_model": ("Hubert", _WAVE, {"do_normalize": True, "sampling_rate": 24_000}),
}


def save_encoder(kind: str, folder: Path, **changed) -> Path:
    """A small encoder of random weights, saved as its makers would."""
    import transformers

    name, values, sound = ENCODERS[kind]
    config = getattr(transformers, f"{name}Config")(**{**values, **changed})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = getattr(transformers, f"{name}Model")(config).eval()
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.data.mul_(4)  # blocks that change little would hide which one is taken
    model.save_pretrained(folder)
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "model_type": kind}))
    (folder / "preprocessor_config.json").write_text(json.dumps(sound))
    return folder


def make_tokenizer(kind: str, folder: Path, clusters: int = 16):
    """A tokenizer on the second block of a small encoder; its centroids are among what the encoder says."""
    from segue.semantic.kmeans import fit
    from segue.semantic.pretrained import PretrainedEncoder, PretrainedTokenizer, tokenizer_part

    encoder = PretrainedEncoder(f"hf:{save_encoder(kind, folder)}@2")
    sounds = torch.from_numpy(tiny.sound(4.0, 3, encoder.sample_rate))
    part = tokenizer_part(encoder, fit(lambda k: encoder.activations(sounds)[-1], 1, clusters, seed=0), {})
    return PretrainedTokenizer.from_part(part)
