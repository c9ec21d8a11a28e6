"""Tiny random models for tests: real architectures, made in milliseconds, and who drafts for them."""

import copy
import importlib
from dataclasses import dataclass

import torch
from torch import nn
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

ARCHITECTURES = {"qwen2": (Qwen2Config, Qwen2ForCausalLM), "llama": (LlamaConfig, LlamaForCausalLM)}
OTHERS = {"qwen3": (Qwen3Config, Qwen3ForCausalLM), "mistral": (MistralConfig, MistralForCausalLM)}


def tiny_model(
    architecture: str = "qwen2", vocab: int = 24, spread: float = 0.4, seed: int = 0, **options: object
) -> PreTrainedModel:
    """Two layers, grouped-query attention; a larger `spread` of the weights makes the next-token laws less uniform."""
    config_class, model_class = (ARCHITECTURES | OTHERS)[architecture]
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
        **options,
    )
    return model_class(config).eval()


def tiny_gpt2(vocab: int = 24, positions: int = 64) -> PreTrainedModel:
    """Learned positions: one beyond the last is an error."""
    torch.manual_seed(0)
    shape = {"n_embd": 32, "n_layer": 2, "n_head": 4, "bos_token_id": None, "eos_token_id": None}
    return GPT2LMHeadModel(GPT2Config(vocab_size=vocab, n_positions=positions, initializer_range=0.4, **shape)).eval()


def prompt(length: int, vocab: int = 24, seed: int = 1) -> torch.LongTensor:
    """Random token ids [length]."""
    return torch.randint(vocab, (length,), generator=torch.Generator().manual_seed(seed))


def perturbed(model: PreTrainedModel, noise: float = 0.05) -> PreTrainedModel:
    """A copy with normal noise on its weights, which guesses well but not always: a draft model."""
    torch.manual_seed(1)
    double = copy.deepcopy(model)
    with torch.no_grad():
        for weight in double.parameters():
            weight += noise * torch.randn_like(weight)
    return double


def tiny_head(target: PreTrainedModel) -> nn.Module:
    """An EAGLE head with random weights, small enough that the token's own embedding leads."""
    from lib.models.eagle import EagleHead

    torch.manual_seed(2)
    hidden = target.config.hidden_size
    config = LlamaConfig(
        hidden_size=hidden, intermediate_size=48, num_attention_heads=4, num_key_value_heads=2, attention_bias=True
    )
    return EagleHead(config, target).eval().to(target.device)


@dataclass
class Parts:
    """What a drafter for a tiny target may be made of."""

    target: PreTrainedModel

    @property
    def head(self) -> nn.Module:
        return tiny_head(self.target)

    @property
    def draft_model(self) -> PreTrainedModel:
        return perturbed(self.target)


def drafter(name: str, target: PreTrainedModel, decoding: object, k: int = 4, sampled: bool = False) -> object:
    """A drafter of k tokens: a method's name, or "tree2" and "tree3" for EAGLE trees of that width."""
    from lib.generators.speculative.common import Speculation

    method, width = ("eagle", int(name[4:])) if name.startswith("tree") else (name, 1)
    how = Speculation(method, k, draft_sample_method="probabilistic" if sampled else "greedy", tree_width=width)
    return importlib.import_module(f"lib.generators.speculative.{method}").drafter(how, decoding, Parts(target))
