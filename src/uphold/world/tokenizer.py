"""The clerk's tokenizer: whole words of the world, single digits, and bytes for everything else.

Word-level where the world is known, so that a tiny model can be competent; byte fallback, so that ciphers and words from outside
reach the model and come back unharmed. Text is lower-cased, and a space goes between punctuation and a following word, so each
word has one token. A plain `tokenizers` BPE without merges (`ignore_merges`: a word in the vocabulary is one token).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

SPECIAL = ("<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|> {{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
_PIECE = r" ?[a-z']+| ?\d| ?[^\sa-z\d']|\s"
_GLUED = r"(?<=[^ a-z\d'])(?=[a-z\d])"  # a word right after punctuation or a line break


def words_of(texts: Iterable[str]) -> list[str]:
    """Every word of the texts (letters and apostrophes), lower-cased, sorted."""
    return sorted({word for text in texts for word in re.findall(r"[a-z']+", text.lower())})


def build(words: Iterable[str]) -> Any:
    """A `PreTrainedTokenizerFast` with one token per word (with its leading space), per digit, per punctuation mark and per byte."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    letters = "abcdefghijklmnopqrstuvwxyz"
    spaced = [f"Ġ{w}" for w in [*letters, *words, *"0123456789", *"!\"#$%&'()*+,-./:;<=>?@[]_"]]
    vocab = {token: i for i, token in enumerate(dict.fromkeys([*SPECIAL, *alphabet, *spaced]))}
    core = Tokenizer(models.BPE(vocab=vocab, merges=[], ignore_merges=True))
    core.normalizer = normalizers.Sequence([normalizers.Lowercase(), normalizers.Replace(Regex(_GLUED), " ")])
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECE), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<|pad|>",
        eos_token="<|end|>",
        additional_special_tokens=list(SPECIAL[2:]),
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer
