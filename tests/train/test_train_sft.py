"""Supervised fine-tuning: what is learnt, what is left on disk, what is refused."""

from __future__ import annotations

import json

import pytest
import torch
from train_tiny import capitals, exchange, tiny_model, user
from transformers import AutoModelForCausalLM, AutoTokenizer

from uphold.core.errors import DataError, StoreError
from uphold.train.batches import encode
from uphold.train.loop import Diverged
from uphold.train.policy import LoRA, weights_digest
from uphold.train.sft import SFTConfig, mean_loss, sft

QUICK = SFTConfig(epochs=100, lr=2e-2, batch_tokens=32, seed=1)


def answer(path, prompt):
    model, tokenizer = AutoModelForCausalLM.from_pretrained(path), AutoTokenizer.from_pretrained(path)
    text = tokenizer.apply_chat_template(
        [m.model_dump() for m in user(prompt)], add_generation_prompt=True, tokenize=False
    )
    ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")
    out = model.generate(**ids, max_new_tokens=4, do_sample=False)
    return "".join(tokenizer.convert_ids_to_tokens(out[0, ids["input_ids"].shape[1] :]))


def test_a_model_learns_its_exchanges_by_heart_and_stops_and_loads_in_plain_transformers(tmp_path, model, tokenizer):
    done = sft(model, tokenizer, capitals(6), tmp_path, QUICK)
    assert [answer(done.path, c) for c in "abcdef"] == [c + "<eos>" for c in "ABCDEF"]
    assert done.summary["last_loss_nats"] < 0.1 < done.summary["first_loss_nats"]


def test_the_loss_falls_on_one_repeated_batch(tmp_path, model, tokenizer):
    data = encode(tokenizer, capitals(4))
    before = mean_loss(model, data)
    done = sft(model, tokenizer, capitals(4), tmp_path, SFTConfig(max_steps=2, lr=1e-2, warmup=0))
    assert done.summary["first_loss_nats"] == pytest.approx(before, abs=0.02)  # bfloat16 where there is some
    assert mean_loss(AutoModelForCausalLM.from_pretrained(done.path), data) < before


def test_the_callers_model_is_not_touched(tmp_path, model, tokenizer):
    before = weights_digest(model)
    done = sft(model, tokenizer, capitals(4), tmp_path, SFTConfig(max_steps=2))
    assert weights_digest(model) == before
    assert done.summary["weights"] != before
    assert done.summary["settings"]["policy"] == before


def test_in_place_trains_the_callers_model_itself(tmp_path, model, tokenizer):
    done = sft(model, tokenizer, capitals(4), tmp_path, SFTConfig(max_steps=2), in_place=True)
    assert weights_digest(model) == done.summary["weights"]


def test_a_finished_run_is_returned_without_training(tmp_path, model, tokenizer):
    first = sft(model, tokenizer, capitals(4), tmp_path, SFTConfig(max_steps=2))
    lines = []
    again = sft(model, tokenizer, capitals(4), tmp_path, SFTConfig(max_steps=2), on_log=lines.append)
    assert (again.reused, again.summary, lines) == (True, first.summary, [])


@pytest.mark.parametrize("changed", ["data", "policy", "lr"])
def test_the_folder_of_another_run_is_refused(tmp_path, model, tokenizer, changed):
    sft(model, tokenizer, capitals(4), tmp_path, SFTConfig(max_steps=2))
    with pytest.raises(StoreError, match=rf"holds a run with other settings \({changed} was .*\)\. Use another folder"):
        sft(
            tiny_model(1) if changed == "policy" else model,
            tokenizer,
            capitals(5 if changed == "data" else 4),
            tmp_path,
            SFTConfig(max_steps=2, lr=0.5 if changed == "lr" else 1e-3),
        )


def test_a_finished_folder_holds_model_log_and_summary_and_no_checkpoints(tmp_path, model, tokenizer):
    sft(model, tokenizer, capitals(4), tmp_path, SFTConfig(max_steps=2))
    assert {p.name for p in tmp_path.iterdir()} == {".lock", "log.jsonl", "model", "train.json"}


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_lora_leaves_an_adapter_and_merged_weights_that_agree(tmp_path, model, tokenizer):
    from peft import PeftModel

    done = sft(
        model, tokenizer, capitals(6), tmp_path, SFTConfig(epochs=20, lr=3e-2, batch_tokens=32, lora=LoRA(rank=4))
    )
    data = encode(tokenizer, capitals(6))
    merged = mean_loss(AutoModelForCausalLM.from_pretrained(done.path), data)
    adapted = mean_loss(PeftModel.from_pretrained(tiny_model(), tmp_path / "adapter").eval(), data)
    assert merged == pytest.approx(adapted, abs=1e-4)
    assert merged < mean_loss(model, data) - 0.1


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_lora_trains_the_adapter_alone(tmp_path, model, tokenizer):
    sft(model, tokenizer, capitals(4), tmp_path, SFTConfig(max_steps=1, lora=LoRA(rank=2)))
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "model").state_dict()
    for name, before in model.state_dict().items():
        is_linear = name.endswith("proj.weight")
        assert torch.equal(merged[name], before) is not is_linear, name


def test_a_half_precision_model_is_trained_in_float32(tmp_path, model, tokenizer):
    done = sft(model.to(torch.bfloat16), tokenizer, capitals(4), tmp_path, SFTConfig(max_steps=1))
    assert AutoModelForCausalLM.from_pretrained(done.path).dtype == torch.float32


def test_exchanges_longer_than_the_models_context_are_refused(tmp_path, tokenizer):
    with pytest.raises(DataError, match=r"^1 of 1 exchanges are longer than the context of 16 tokens"):
        sft(tiny_model(context=16), tokenizer, [exchange("a" * 20, "b")], tmp_path)


def test_dropped_exchanges_are_counted(tmp_path, tokenizer):
    exchanges = [exchange("a" * 20, "b"), exchange("a", "b")]
    done = sft(tiny_model(context=16), tokenizer, exchanges, tmp_path, SFTConfig(too_long="drop"))
    assert (done.summary["n_exchanges"], done.summary["n_dropped"]) == (1, 1)


def test_a_diverging_run_names_its_exchanges(tmp_path, model, tokenizer):
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))
    with pytest.raises(Diverged, match=r"the loss is nan on the batch of epoch 1, exchanges \d, \d"):
        sft(model, tokenizer, capitals(3), tmp_path, SFTConfig(max_steps=1))


def test_the_summary_names_everything_the_run_came_from(tmp_path, model, tokenizer):
    sft(model, tokenizer, capitals(4), tmp_path, SFTConfig(max_steps=2, seed=5))
    summary = json.loads((tmp_path / "train.json").read_text())
    assert summary["settings"]["method"] == "sft"
    assert summary["settings"]["seed"] == 5
    assert summary["settings"]["data"] == encode(tokenizer, capitals(4)).digest
    assert summary["n_exchanges"] == 4
    assert summary["tokens_per_s"] > 0
