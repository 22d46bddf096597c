"""A tiny random Llama checkpoint with a word-level tokenizer and a chat template, for tests and benchmarks.

What it says is noise, but it is a whole model folder, made in well under a second, and everything that runs on it runs
unchanged on a real one. Deterministic in its arguments.
"""

from __future__ import annotations

from pathlib import Path

from uphold.core.seeds import derive
from uphold.models.folder import import_extra

SPECIAL = ("<pad>", "<s>", "<end>", "<unk>", "<system>", "<user>", "<assistant>", "<tool>")
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<{{ message['role'] }}> {{ message['content'] }} <end>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def write_tiny_llama(
    folder: str | Path,
    *,
    n_words: int = 60,
    d_model: int = 32,
    n_layers: int = 2,
    n_heads: int = 4,
    n_kv_heads: int = 2,
    d_mlp: int = 64,
    n_context: int = 128,
    is_tied: bool = False,
    seed: int = 0,
    spread: float = 0.2,
) -> Path:
    """Write the folder and return its path. The words it knows are a, b, A, B and w0, w1, ... `n_words` in all.

    is_tied: one matrix for embedding and output; a random model that has it mostly repeats itself. spread: standard deviation of
    the weights, large enough that replies differ between prompts.
    """
    torch, transformers = import_extra("torch"), import_extra("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = [*SPECIAL, "a", "b", "A", "B", *(f"w{i}" for i in range(n_words - 4))]
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<s>",
        eos_token="<end>",
        pad_token="<pad>",
        unk_token="<unk>",
        additional_special_tokens=list(SPECIAL[4:]),
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    config = transformers.LlamaConfig(
        vocab_size=len(words),
        hidden_size=d_model,
        intermediate_size=d_mlp,
        num_hidden_layers=n_layers,
        num_attention_heads=n_heads,
        num_key_value_heads=n_kv_heads,
        max_position_embeddings=n_context,
        initializer_range=spread,
        tie_word_embeddings=is_tied,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "tiny-llama") % 2**32)
        model = transformers.LlamaForCausalLM(config)
    from safetensors.torch import save_file

    folder = Path(folder)
    config.architectures = ["LlamaForCausalLM"]
    tokenizer.save_pretrained(folder)
    config.save_pretrained(folder)
    tensors = {name: p.detach().contiguous() for name, p in model.named_parameters()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder
