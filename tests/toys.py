"""Tiny random models for tests: real architectures, made in milliseconds."""

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, Qwen2Config, Qwen2ForCausalLM

ARCHITECTURES = {"qwen2": (Qwen2Config, Qwen2ForCausalLM), "llama": (LlamaConfig, LlamaForCausalLM)}


def tiny_model(architecture: str = "qwen2", vocab: int = 24, spread: float = 0.4, seed: int = 0) -> PreTrainedModel:
    """Two layers, grouped-query attention; a larger `spread` of the weights makes the next-token laws less uniform."""
    config_class, model_class = ARCHITECTURES[architecture]
    torch.manual_seed(seed)
    config = config_class(
        vocab_size=vocab,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=48,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        initializer_range=spread,
    )
    return model_class(config).eval()


def prompt(length: int, vocab: int = 24, seed: int = 1) -> torch.LongTensor:
    """Random token ids [length]."""
    return torch.randint(vocab, (length,), generator=torch.Generator().manual_seed(seed))
