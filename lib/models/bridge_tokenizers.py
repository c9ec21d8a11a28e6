"""The two tokenizers of the trained pair; they differ on purpose, as those of a real pair do.

The source reads words: a word, a whole number or a mark is one token, with the space in front of it, so `14` is one
token. The target reads pieces: byte-level BPE split as Qwen splits text, where every digit is a token of its own. So
neither the number of tokens of a question nor their borders agree, and no token id means the same to both.
"""

import json
from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Tokenizer

NUMBERS = range(100)  # all that the generated questions and answers can hold, and more
WORDS = r" ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s"
PIECES = 640  # an upper bound: the merges of so few words run out at about 520 entries


def words(texts: Iterable[str], context: int) -> PreTrainedTokenizerFast:
    """The source's tokenizer: the words of `texts` and all NUMBERS; any other word is `<unk>`.

    Decoding joins tokens as they are, which restores a text of known words exactly. `context` is the longest input in
    tokens of the model behind it.
    """
    tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(WORDS), "isolated")
    tokenizer.decoder = decoders.Fuse()
    specials = ["<s>", "</s>", "<pad>", "<unk>"]
    known = [*texts, *(f"{number} {number}" for number in NUMBERS)]
    tokenizer.train_from_iterator(known, trainers.WordLevelTrainer(special_tokens=specials, show_progress=False))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        model_max_length=context,
        clean_up_tokenization_spaces=False,
    )


def pieces(texts: Iterable[str], context: int) -> Qwen2Tokenizer:
    """The target's tokenizer: merges learned from `texts`, any text can be written (see `lib.data.tokenizer`)."""
    bpe = Tokenizer(models.BPE())
    like = Qwen2Tokenizer().backend_tokenizer
    bpe.normalizer, bpe.pre_tokenizer = like.normalizer, like.pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=PIECES,
        special_tokens=["<|endoftext|>", "<|pad|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    learned = json.loads(bpe.to_str())["model"]
    return Qwen2Tokenizer(
        vocab=learned["vocab"],
        merges=[tuple(merge) for merge in learned["merges"]],
        unk_token=None,
        bos_token="<|endoftext|>",
        eos_token="<|im_end|>",
        pad_token="<|pad|>",
        model_max_length=context,
        clean_up_tokenization_spaces=False,
    )
