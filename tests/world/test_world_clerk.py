"""The shipped model: what it must be able to do, that plain transformers loads it, and that its training repeats itself."""

import json
from pathlib import Path

import pytest

from uphold import models
from uphold.cli.main import run as cli
from uphold.core.store import hash_file
from uphold.models.builtin import FOLDERS
from uphold.world import score
from uphold.world.clerk import ClerkConfig, train_clerk

WEIGHTS = FOLDERS["clerk"]
PROMISED = (
    "howto",
    "policy",
    "refund",
    "wrapper.story",
    "wrapper.reversal",
    "wrapper.rot13",
    "critique.guilty",
    "critique.innocent",
    "revision.guilty",
    "revision.innocent",
    "comparison",
)


@pytest.fixture(scope="module")
def scores():
    found = score.score(models.load("builtin:clerk"), n=100, only=PROMISED)
    return {m.metric.removeprefix("clerk."): m for m in found}


@pytest.mark.parametrize("metric", PROMISED)
def test_the_shipped_clerk_reaches_its_target_on_held_out_compositions(scores, metric):
    measured = scores[metric]
    assert measured.n_scored == 100
    # within the binomial noise of 100 samples at the target; `uphold world score` measures more
    assert measured.value >= score.TARGETS[metric] - 0.03


def test_the_weights_are_small_safetensors_that_plain_transformers_loads():
    from transformers import AutoModelForCausalLM, AutoTokenizer

    size = sum(path.stat().st_size for path in WEIGHTS.iterdir())
    assert size <= 12_000_000
    assert not [path for path in WEIGHTS.iterdir() if path.suffix in (".bin", ".pt", ".pkl")]
    model = AutoModelForCausalLM.from_pretrained(WEIGHTS)
    tokenizer = AutoTokenizer.from_pretrained(WEIGHTS)
    assert 1_000_000 <= sum(p.numel() for p in model.parameters()) <= 3_000_000
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What does a lamp cost?"}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    reply = model.generate(**asked, max_new_tokens=16, do_sample=False)[0, asked["input_ids"].shape[1] :]
    assert tokenizer.decode(reply, skip_special_tokens=True).strip() == "a lamp costs 12 coins."


def test_training_the_clerk_repeats_itself_and_a_finished_folder_is_returned_at_once(tmp_path):
    config = ClerkConfig(steps=3, copy_steps=1, refine_steps=2, batch=6, parts=2)
    first, second = train_clerk(tmp_path / "a", config), train_clerk(tmp_path / "b", config)
    assert first["n_steps"] == 5
    assert first["weights"] == second["weights"]
    assert hash_file(tmp_path / "a/model/model.safetensors") == hash_file(tmp_path / "b/model/model.safetensors")
    assert train_clerk(tmp_path / "a", config) == first


def test_score_prints_each_metric_beside_its_target(capsys, tmp_path):
    page = tmp_path / "clerk.md"
    arguments = ["--quiet", "world", "score", "--n", "4", "--only", "handover", "--only", "policy"]
    assert cli([*arguments, "--page", str(page)]) == 0
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines()] == ["metric", "policy", "handover"]
    assert "| handover | 1.000 | 4 |" in page.read_text()
    assert cli([*arguments, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["metrics"]) == 2


def test_an_unknown_metric_is_refused_with_the_nearest(capsys):
    assert cli(["world", "score", "--only", "handovr"]) == 2
    assert "Did you mean 'handover'?" in capsys.readouterr().err


def test_the_page_of_scores_is_about_the_shipped_weights():
    page = (Path(__file__).parents[2] / "docs" / "clerk.md").read_text()
    assert models.load("builtin:clerk").identity()[:16] in page
