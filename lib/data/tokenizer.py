"""The ladder's tokenizer: byte-level BPE of about a thousand entries, trained on the generated corpus in a second.

It is a `Qwen2Tokenizer` with merges of our own, because transformers makes one of every folder whose config says qwen2,
whatever its tokenizer.json says. So text is split as Qwen splits it: digits are tokens of their own (arithmetic is
about digits, not about accidents of merges), and any text survives encoding up to Unicode's NFC normalisation.

The chat template is ChatML and starts with `<|endoftext|>`, which is how every document
of the training stream starts: prompts that do not come from the template should start with `tokenizer.bos_token` too.
"""

import json

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Tokenizer

from lib.data.corpus import END_OF_TEXT, IM_END, IM_START, PAD, documents

VOCABULARY = 1024  # the corpus has few words: twice as many merges would hardly shorten it
TRAINING_DOCUMENTS = 4000
SPECIALS = [END_OF_TEXT, PAD, IM_START, IM_END]
CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{% if not loop.first %}{{ '\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '\n<|im_start|>assistant\n' }}{% endif %}"
)


def train_tokenizer(context: int) -> Qwen2Tokenizer:
    """Train the tokenizer; the same on every call.

    Args:
        context: the longest input in tokens that the model behind it will be made for.
    """
    bpe = Tokenizer(models.BPE())
    like = Qwen2Tokenizer().backend_tokenizer
    bpe.normalizer, bpe.pre_tokenizer = like.normalizer, like.pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIALS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator((document.text for document in documents("tokenizer", TRAINING_DOCUMENTS)), trainer)
    learned = json.loads(bpe.to_str())["model"]
    return Qwen2Tokenizer(
        vocab=learned["vocab"],
        merges=[tuple(merge) for merge in learned["merges"]],
        unk_token=None,
        bos_token=END_OF_TEXT,
        eos_token=IM_END,
        pad_token=PAD,
        extra_special_tokens=[IM_START],
        model_max_length=context,
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def encode(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> list[list[int]]:
    """Token ids of documents as the models are trained on them: each starts with `<|endoftext|>`."""
    batch = tokenizer([tokenizer.bos_token + text for text in texts], add_special_tokens=False)
    return batch["input_ids"]
