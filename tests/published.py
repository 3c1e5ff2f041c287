"""Small published codecs that tests share: random models of transformers, saved as their makers would."""

from __future__ import annotations

from pathlib import Path

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
