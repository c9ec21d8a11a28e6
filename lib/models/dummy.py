"""A registered architecture with random weights, and a tokenizer to go with it: for measuring cost without a hub.

Time, memory and token counts of a forward pass depend on shapes and dtype, not on the values of the weights, so a cost
measurement needs no download. What such a model says is noise: whoever uses it must say so in every output
(`LoadedModel.dummy`). The weights are drawn on the target device in the target dtype, in one pass over memory.
"""

from typing import TYPE_CHECKING

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
from transformers.initialization import no_init_weights

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from lib.models.registry import Entry

STD = 0.02  # the usual initial standard deviation of these architectures
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def model(entry: "Entry", dtype: torch.dtype, device: torch.device, seed: int = 0) -> "PreTrainedModel":
    """The entry's architecture with seeded random weights in `dtype` on `device`, in eval mode with sdpa attention.

    Norm weights are one and biases zero, as at the start of training, so activations stay finite in float16.
    """
    with no_init_weights(), device:
        net = AutoModelForCausalLM.from_config(entry.config(), dtype=dtype, attn_implementation="sdpa")
    net.tie_weights()  # part of the initialisation that was skipped
    generator = torch.Generator(device).manual_seed(seed)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
            elif parameter.dim() == 1:
                parameter.fill_(1.0)
            else:
                parameter.normal_(0.0, STD, generator=generator)
    return net.eval()


def tokenizer(vocab: int) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer with `vocab` entries: one id per byte, three special tokens, and fillers.

    Encoding yields one token per UTF-8 byte, so a prompt of n ASCII characters has n tokens. The fillers are never
    produced by encoding; they give every id that the model can emit a text, `<id>`. `vocab` must be at least 259.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [*alphabet, *SPECIAL]
    pieces += [f"<{i}>" for i in range(len(pieces), vocab)]
    core = Tokenizer(models.BPE(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    return PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="<|im_end|>", pad_token="<|endoftext|>", chat_template=CHAT_TEMPLATE
    )
