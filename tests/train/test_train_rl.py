"""Reinforcement learning end to end on a tiny model that can learn to say one letter more often."""

from __future__ import annotations

import math

import pytest
import torch
from train_tiny import read_lines, tiny_model, tiny_tokenizer, user
from transformers import AutoModelForCausalLM

from uphold.core.errors import DataError, StoreError, UpholdError
from uphold.core.records import Sample
from uphold.train.constraints import Constraint
from uphold.train.loop import Diverged
from uphold.train.policy import LoRA, weights_digest
from uphold.train.rewards import FunctionReward, WeightedSum
from uphold.train.rl import RLConfig, RLStep, rl

SAMPLES = [Sample(messages=user(c), label="benign") for c in "abcdefgh"]
SMALL = {"n_steps": 3, "prompts_per_step": 4, "group_size": 4, "max_new_tokens": 6, "lr": 3e-3, "precision": "float32"}


def early(exchange) -> float:
    """Share of the reply's characters that are letters from a to m: about 0.12 for a random model."""
    return sum(c in "abcdefghijklm" for c in exchange.completion) / max(1, len(exchange.completion))


LETTER = FunctionReward("letter", early)
BREVITY = FunctionReward("brevity", lambda e: -float(len(e.completion)))


@pytest.mark.parametrize("algorithm", ["grpo", "rloo", "reinforce++", "ppo"])
def test_every_algorithm_earns_more_of_what_is_rewarded(tmp_path, algorithm):
    config = RLConfig(
        algorithm=algorithm,
        n_steps=25,
        prompts_per_step=8,
        group_size=8,
        max_new_tokens=4,
        lr=1e-2,
        kl=0.01,
        n_minibatches=2 if algorithm == "ppo" else 1,
    )
    done = rl(tiny_model(), tiny_tokenizer(), SAMPLES, LETTER, tmp_path, config)
    assert done.summary["last"]["reward"] > 2 * done.summary["first"]["reward"]


def test_the_first_step_starts_at_a_kl_of_zero_and_a_loss_of_zero(tmp_path):
    done = rl(tiny_model(), tiny_tokenizer(), SAMPLES, LETTER, tmp_path, RLConfig(**SMALL))
    first = read_lines(tmp_path / "log.jsonl")[0]
    assert first["kl"] == 0.0 == first["kl_k1"]
    assert first["loss"] == pytest.approx(0.0, abs=1e-6)  # ratios 1, advantages of a group add up to 0
    assert first["grad_norm"] > 0
    assert first["sampler_gap"] < 1e-5
    assert any(note.startswith("The loss stays near 0 by construction") for note in done.summary["notes"])


def test_the_callers_model_stays_as_it_was_and_the_result_loads_in_transformers(tmp_path):
    model = tiny_model()
    before = weights_digest(model)
    done = rl(model, tiny_tokenizer(), SAMPLES, LETTER, tmp_path, RLConfig(algorithm="ppo", **SMALL))
    assert weights_digest(model) == before == done.summary["settings"]["reference"]
    saved = AutoModelForCausalLM.from_pretrained(done.path)
    assert {n for n, _ in saved.named_parameters()} == {
        n for n, _ in model.named_parameters()
    }  # the value head is gone
    assert weights_digest(saved) == done.summary["weights"] != before


def test_every_completion_is_kept_with_every_component(tmp_path):
    both = WeightedSum({"letter": (LETTER, 1.0), "brevity": (BREVITY, 0.1)})
    rl(tiny_model(), tiny_tokenizer(), SAMPLES, both, tmp_path, RLConfig(**SMALL), gold=BREVITY)
    lines = read_lines(tmp_path / "completions.jsonl")
    assert len(lines) == 3 * 4 * 4
    for line in lines:
        assert line["reward"] == pytest.approx(line["rewards"]["letter"] + 0.1 * line["rewards"]["brevity"])
        assert line["gold"] == line["rewards"]["brevity"]
        assert line["kl"] >= 0
        assert line["finish_reason"] in ("stop", "length")
    logged = read_lines(tmp_path / "log.jsonl")[0]
    assert logged["reward/letter"] == pytest.approx(sum(x["rewards"]["letter"] for x in lines[:16]) / 16)


def test_lora_is_held_to_the_model_without_its_adapter(tmp_path):
    config = RLConfig(lora=LoRA(rank=2), algorithm="ppo", **SMALL)
    rl(tiny_model(), tiny_tokenizer(), SAMPLES, LETTER, tmp_path, config)
    log = read_lines(tmp_path / "log.jsonl")
    assert log[0]["kl"] == 0.0 < log[-1]["kl"]
    assert all(line["sampler_gap"] < 1e-4 for line in log)  # what is sampled from has the adapter added in
    assert (tmp_path / "adapter").is_dir()


def test_a_policy_that_is_not_its_reference_is_stopped(tmp_path, monkeypatch):
    def another(self):
        with torch.no_grad():
            next(self._frozen.parameters()).add_(0.1)
        return once(self)

    once = RLStep._reference
    monkeypatch.setattr(RLStep, "_reference", another)
    with pytest.raises(UpholdError, match="at step 0 the policy is not its reference"):
        rl(tiny_model(), tiny_tokenizer(), SAMPLES, LETTER, tmp_path, RLConfig(**SMALL))


def test_a_finished_folder_is_given_back_and_another_reward_is_refused(tmp_path):
    args = (tiny_model(), tiny_tokenizer(), SAMPLES)
    first = rl(*args, LETTER, tmp_path, RLConfig(**SMALL))
    again = rl(*args, LETTER, tmp_path, RLConfig(**SMALL))
    assert again.reused
    assert again.summary == first.summary
    with pytest.raises(StoreError, match=r"holds a run with other settings \(reward was"):
        rl(*args, BREVITY, tmp_path, RLConfig(**SMALL))


def test_a_listener_stops_the_run_with_a_reason(tmp_path):
    config = RLConfig(**SMALL | {"n_steps": 9})
    done = rl(
        tiny_model(), tiny_tokenizer(), SAMPLES, LETTER, tmp_path, config,
        on_log=lambda line: "enough" if line["step"] == 1 else None,
    )  # fmt: skip
    assert done.summary["stopped"] == "enough"
    assert done.summary["n_steps"] == 2 == len(read_lines(tmp_path / "log.jsonl"))


def test_a_run_whose_gold_falls_while_its_reward_rises_is_stopped(tmp_path):
    config = RLConfig(n_steps=60, prompts_per_step=8, group_size=8, max_new_tokens=4, lr=1e-2, kl=0.0, on_gaming="stop")
    gold = FunctionReward("gold", lambda e: 1 - early(e))
    done = rl(tiny_model(), tiny_tokenizer(), SAMPLES, LETTER, tmp_path, config, gold=gold)
    assert "the policy is gaming its reward" in done.summary["stopped"]
    assert done.summary["n_steps"] < 60


def test_a_completion_that_on_batch_screens_out_teaches_nothing(tmp_path):
    seen = []

    def only_first_of_each_group(scored):
        seen.append(scored.step)
        return [total if i % 4 == 0 else None for i, total in enumerate(scored.total)]

    model = tiny_model()
    done = rl(
        model, tiny_tokenizer(), SAMPLES, LETTER, tmp_path, RLConfig(**SMALL | {"kl": 0.0}),
        on_batch=only_first_of_each_group,
    )  # fmt: skip
    assert seen == [0, 1, 2]
    assert done.summary["weights"] == weights_digest(model)  # one scored completion a group: advantage 0 everywhere
    assert read_lines(tmp_path / "log.jsonl")[0]["unscored"] == 0.75


def test_rewards_that_never_differ_end_the_run_with_what_to_do(tmp_path):
    with pytest.raises(DataError, match="was the same for all completions of a prompt, on each of the first 10 steps"):
        rl(
            tiny_model(), tiny_tokenizer(), SAMPLES, FunctionReward("one", lambda e: 1.0), tmp_path,
            RLConfig(**SMALL | {"n_steps": 20}),
        )  # fmt: skip


def test_a_reward_that_is_no_number_is_refused_by_name_and_sample(tmp_path):
    with pytest.raises(DataError, match=r"step 0: 'bad' scored a completion of sample [0-9a-f]{16} nan"):
        rl(
            tiny_model(),
            tiny_tokenizer(),
            SAMPLES,
            FunctionReward("bad", lambda e: math.nan),
            tmp_path,
            RLConfig(**SMALL),
        )


def test_nothing_scored_is_an_error_and_not_a_zero(tmp_path):
    with pytest.raises(DataError, match="not one of 16 completions could be scored"):
        rl(tiny_model(), tiny_tokenizer(), SAMPLES, FunctionReward("none", lambda e: None), tmp_path, RLConfig(**SMALL))


def test_a_run_ends_where_nothing_more_can_be_scored_and_keeps_what_it_has(tmp_path):
    seen = []

    def gives_out(exchange):
        seen.append(exchange)
        return LETTER.score([exchange])[0] if len(seen) <= 16 else None  # 16 completions: the first step's

    done = rl(
        tiny_model(), tiny_tokenizer(), SAMPLES, FunctionReward("gives out", gives_out), tmp_path, RLConfig(**SMALL)
    )
    assert done.summary["stopped"] == "step 1: none of 16 completions could be scored"
    lines = read_lines(tmp_path / "log.jsonl")
    assert [(line["step"], line["unscored"]) for line in lines] == [(0, 0.0), (1, 1.0)]
    kept = read_lines(tmp_path / "completions.jsonl")
    assert [line["step"] for line in kept] == [0] * 16 + [1] * 16
    assert {line["advantage"] for line in kept[16:]} == {None}


def test_a_model_that_only_ends_its_replies_is_an_error(tmp_path):
    model = tiny_model()
    model.generation_config.eos_token_id = list(range(model.config.vocab_size))  # whatever it says ends its reply
    with pytest.raises(DataError, match="step 0: every completion is empty"):
        rl(model, tiny_tokenizer(), SAMPLES, LETTER, tmp_path, RLConfig(**SMALL))


def test_a_prompt_longer_than_the_context_is_refused_or_dropped(tmp_path):
    long = Sample(messages=user("x" * 125), label="benign")  # 128 tokens of context
    config = RLConfig(**SMALL)
    with pytest.raises(
        DataError, match=rf"1 of 9 prompts leave no room for 6 new tokens .* sample {long.id}, 127 tokens"
    ):
        rl(tiny_model(), tiny_tokenizer(), [*SAMPLES, long], LETTER, tmp_path, config)
    config = RLConfig(too_long="drop", **SMALL)
    done = rl(tiny_model(), tiny_tokenizer(), [*SAMPLES, long], LETTER, tmp_path / "b", config)
    assert (done.summary["n_prompts"], done.summary["n_dropped"]) == (8, 1)


def test_a_loss_that_is_no_number_stops_the_run_keeps_the_checkpoint_and_names_the_batch(tmp_path):
    config = RLConfig(variant="mean-only", **SMALL | {"n_steps": 9, "checkpoint_every": 2})

    def poison(scored):
        return [3e38] * 16 if scored.step == 3 else None  # their mean is beyond what float32 holds

    with pytest.raises(
        Diverged, match=r"training stopped at step 3: .* completions 0, 1, .* to samples [0-9a-f]{16}.*"
    ) as caught:
        rl(tiny_model(), tiny_tokenizer(), SAMPLES, LETTER, tmp_path, config, on_batch=poison)
    assert f"The last good checkpoint is in {tmp_path / 'checkpoints'}" in str(caught.value)
    assert (tmp_path / "checkpoints" / "step-00000002").is_dir()


def test_a_limit_is_held_where_the_reward_alone_breaks_it(tmp_path):
    cost = FunctionReward("e", lambda e: float(early(e) > 0))
    shared = {"n_steps": 30, "prompts_per_step": 8, "group_size": 8, "max_new_tokens": 4, "lr": 1e-2, "kl": 0.01}
    free = rl(tiny_model(), tiny_tokenizer(), SAMPLES, LETTER, tmp_path / "free", RLConfig(**shared))
    held = rl(
        tiny_model(), tiny_tokenizer(), SAMPLES, LETTER, tmp_path / "held", RLConfig(**shared),
        costs={"e": (cost, Constraint(limit=0.1, rate=1.0))},
    )  # fmt: skip
    assert free.summary["last"]["reward"] > 0.3  # which cannot be without a letter from a to m
    assert held.summary["last"]["cost/e"] < 0.15
    assert max(line["multiplier/e"] for line in read_lines(tmp_path / "held" / "log.jsonl")) > 1.5


def test_the_kl_coefficient_rises_while_the_kl_is_above_its_target(tmp_path):
    config = RLConfig(**SMALL | {"n_steps": 6, "kl_target": 1e-6, "kl": 0.1})
    rl(tiny_model(), tiny_tokenizer(), SAMPLES, LETTER, tmp_path, config)
    used = [line["kl_coefficient"] for line in read_lines(tmp_path / "log.jsonl")]
    # step 0: KL 0, error -1, clipped to -0.2: 0.1 * 0.98; later steps: above, clipped to 0.2: * 1.02 each
    assert used[:4] == pytest.approx([0.1, 0.098, 0.098 * 1.02, 0.098 * 1.02**2])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"group_size": 1}, "group_size must be at least 2"),
        ({"n_minibatches": 65}, "n_minibatches exceeds the completions of a step"),
        ({"kl": 0.0, "kl_target": 6.0}, "kl_target steers kl"),
        ({"sampler": "vllm"}, "sampler must be 'engine' or 'openai:URL#NAME'"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        RLConfig(**wrong)
