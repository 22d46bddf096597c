"""One step is one step: packed or padded, at once or in parts, in one process or in two."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from train_launch import end, preload, start
from train_tiny import capitals, exchange, read_lines, tiny_model, tiny_tokenizer, user
from transformers import AutoModelForCausalLM, BloomConfig, BloomForCausalLM

from uphold.cli.main import run
from uphold.core.errors import ConfigError
from uphold.core.records import Preference, Rating
from uphold.train.batches import check_vocabulary, encode
from uphold.train.dpo import DPOConfig, dpo
from uphold.train.kto import KTOConfig, kto
from uphold.train.losses.logprobs import check_packing, reply_logprobs
from uphold.train.sft import SFTConfig, sft

SHARED = {"max_steps": 3, "epochs": 3.0, "batch_tokens": 200, "lr": 1e-2, "precision": "float32", "warmup": 0}
LONGER = [exchange(c * (1 + i % 5), c.upper() * (1 + i % 3)) for i, c in enumerate("abcdefghijkl")]


def train(method, out, **settings):
    """Three steps of a method on the same data; the log."""
    model, tokenizer = tiny_model(), tiny_tokenizer()
    settings = {**SHARED, **settings}
    if method == "sft":
        done = sft(model, tokenizer, LONGER, out, SFTConfig(**settings))
    elif method == "kto":
        ratings = [Rating(messages=e.messages, completion=e.completion, label=i % 3 > 0) for i, e in enumerate(LONGER)]
        done = kto(model, tokenizer, ratings, out, KTOConfig(**settings))
    else:
        pairs = [Preference(messages=e.messages, chosen=e.completion, rejected="no") for e in LONGER]
        done = dpo(model, tokenizer, pairs, out, DPOConfig(loss=method, sft_weight=0.3, **settings))
    return SimpleNamespace(lines=read_lines(out / "log.jsonl"), weights=weights(done.path))


def weights(path):
    return AutoModelForCausalLM.from_pretrained(path).state_dict()


def assert_same(one, other, atol=1e-5):
    for first, second in zip(one.lines, other.lines, strict=True):
        apart = {"tokens_per_s", "grad_norm"}
        assert {k: v for k, v in first.items() if k not in apart} == pytest.approx(
            {k: v for k, v in second.items() if k not in apart}, abs=atol, rel=1e-4
        )
    for name, value in one.weights.items():
        torch.testing.assert_close(other.weights[name], value, atol=3 * atol, rtol=0)


@pytest.mark.parametrize("method", ["sft", "sigmoid", "beta", "simpo", "orpo", "kto"])
def test_a_step_in_parts_is_the_step_at_once(tmp_path, method):
    whole = train(method, tmp_path / "whole")
    parts = train(method, tmp_path / "parts", micro_tokens=40)
    assert_same(whole, parts)


def test_packed_items_have_the_log_probs_they_have_alone():
    model, data = tiny_model(), encode(tiny_tokenizer(), LONGER)
    rows = list(range(len(LONGER)))
    packed = data.batch(rows, packed=True)
    assert packed.ids_BT.numel() < data.batch(rows).ids_BT.numel()  # one line, no padding
    assert packed.ids_BT.shape[0] == 1
    with torch.no_grad():
        alone = torch.cat([reply_logprobs(model, data.batch([r])) for r in rows])
        together = reply_logprobs(model, packed)
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_long_items_are_packed_into_several_lines_and_still_do_not_see_each_other():
    model = tiny_model(context=512)
    data = encode(tiny_tokenizer(), [exchange("a" * n, "b" * 9) for n in (300, 200, 290, 10, 250)])
    packed = data.batch([4, 1, 2, 3, 0], packed=True)
    assert packed.ids_BT.shape == (3, 512)  # 312 + 212 do not fit in 512, 302 + 212 neither
    with torch.no_grad():
        alone = torch.cat([reply_logprobs(model, data.batch([r])) for r in (4, 1, 2, 3, 0)])
        torch.testing.assert_close(reply_logprobs(model, packed), alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("method", ["sft", "sigmoid", "kto"])
def test_a_packed_step_on_the_same_rows_is_the_padded_one(tmp_path, method):
    padded = train(
        method, tmp_path / "padded", batch_tokens=10**6
    )  # one step holds all rows, however they are laid out
    packed = train(method, tmp_path / "packed", batch_tokens=10**6, packed=True)
    assert_same(padded, packed, atol=3e-5)


def test_a_model_whose_packed_items_see_each_other_is_refused():
    config = BloomConfig(vocab_size=107, hidden_size=16, n_layer=1, n_head=2)
    model = BloomForCausalLM(config).eval()  # its positions are distances: it takes no position ids
    model.forward = without_positions(model.forward)
    with pytest.raises(ConfigError) as caught:
        check_packing(model)
    assert str(caught.value) == "items packed into one row would see each other in this model. Set packed to false."


def without_positions(forward):
    return lambda position_ids=None, **rest: forward(**rest)


def test_a_tokenizer_that_knows_more_tokens_than_the_model_is_refused(model, tokenizer):
    tokenizer.add_tokens(["new", "newer"])
    with pytest.raises(
        ConfigError, match=r"^the tokenizer knows 109 tokens, the model 107\. Use the model's own tokenizer"
    ):
        check_vocabulary(model, tokenizer)


def test_a_reference_with_another_vocabulary_is_refused(tmp_path, model, tokenizer):
    other = tiny_tokenizer()
    other.add_tokens(["new"])
    reference = SimpleNamespace(model=tiny_model(1), tokenizer=other)
    pairs = [Preference(messages=user("a"), chosen="A", rejected="b")]
    with pytest.raises(ConfigError) as caught:
        dpo(model, tokenizer, pairs, tmp_path, reference=reference)
    assert str(caught.value) == (
        "the reference has another vocabulary: 1 tokens differ (first: 'new'; 107 tokens here, 108 there), so their log-probs cannot "
        "be compared. Take a reference with the same tokenizer."
    )


def test_another_reference_is_used_and_its_hash_recorded(tmp_path, model, tokenizer):
    reference = SimpleNamespace(model=tiny_model(1), tokenizer=tokenizer)
    pairs = [Preference(messages=e.messages, chosen=e.completion, rejected="no") for e in capitals(4)]
    done = dpo(model, tokenizer, pairs, tmp_path, DPOConfig(max_steps=1), reference=reference)
    first = read_lines(tmp_path / "log.jsonl")[0]
    assert first["margin"] != 0.0  # the policy starts elsewhere, and is told so by its margin
    settings = done.summary["settings"]
    assert settings["reference"] != settings["policy"]


def train_all(methods, out):
    for method in methods:
        train(method, out / method)


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(tmp_path):
    methods = ["sft", "beta", "kto"]
    preload("test_train_engine")
    assert end(start(train_all, methods, tmp_path / "two")) == [0, 0]
    for method in methods:
        one = train(method, tmp_path / "one" / method)
        folder = tmp_path / "two" / method
        two = SimpleNamespace(lines=read_lines(folder / "log.jsonl"), weights=weights(folder / "model"))
        assert_same(one, two)
        assert json.loads((folder / "train.json").read_text())["n_steps"] == 3


def test_a_chain_of_stages_refuses_several_processes(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert run(["train", "cai", "builtin:clerk", "--constitution", "storefront", "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "runs in one process, and 2 were launched" in said
    assert (
        "Several processes are taken by: sft, dpo, kto, reward, grpo, ppo, safe, rlaif, rlhf, and uphold.train.cai"
        in said
    )
    assert not (tmp_path / "out").exists()
