"""Makers of the tiny model and tokenizer, importable by tests and by the processes they kill."""

from __future__ import annotations

import json
import string
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from uphold.core.records import Exchange, Message

TEMPLATE = (
    "{% for m in messages %}<{{ m['role'][0] }}>{{ m['content'] }}{% if m['role'] == 'assistant' %}<eos>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<a>{% endif %}"
)
SPECIALS = ["<pad>", "<eos>", "<unk>", "<s>", "<u>", "<a>", "<t>"]


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """One token per printable character, plus role marks: ids can be read off by eye."""
    vocabulary = {t: i for i, t in enumerate([*SPECIALS, *string.printable])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex("."), behavior="isolated")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="<pad>",
        eos_token="<eos>",
        unk_token="<unk>",
        additional_special_tokens=["<s>", "<u>", "<a>", "<t>"],
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def tiny_model(seed: int = 0, *, context: int = 128, width: int = 16, **extra: object) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(SPECIALS) + len(string.printable),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=context,
        tie_word_embeddings=True,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
        **extra,
    )
    return LlamaForCausalLM(config).eval()


def read_lines(path: Path) -> list[dict]:
    """The objects of a JSONL file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def user(text: str) -> tuple[Message, ...]:
    return (Message(role="user", content=text),)


def exchange(prompt: str, reply: str, **extra: object) -> Exchange:
    return Exchange(messages=user(prompt), completion=reply, **extra)


def capitals(n: int = 12) -> list[Exchange]:
    """Exchanges a tiny model can learn by heart: a letter is answered with its capital."""
    return [exchange(c, c.upper()) for c in string.ascii_lowercase[:n]]
