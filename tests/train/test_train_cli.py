"""`uphold train`: the four commands end to end on a tiny model, their output, and what they say to bad input."""

from __future__ import annotations

import json

import pytest
from train_tiny import capitals, tiny_model, tiny_tokenizer

from uphold.cli.main import run
from uphold.core.files import write_jsonl
from uphold.train.sft import SFTConfig, sft

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """hf: spec of a tiny model that answers a letter shortly and stops."""
    folder = tmp_path_factory.mktemp("start")
    done = sft(
        tiny_model(context=256),
        tiny_tokenizer(),
        capitals(26),
        folder,
        SFTConfig(epochs=60, lr=2e-2, batch_tokens=200),
    )
    return f"hf:{done.path}"


@pytest.fixture
def exchanges(tmp_path):
    path = tmp_path / "exchanges.jsonl"
    write_jsonl(path, [{"prompt": c, "completion": c + c} for c in "abcdef"])
    return path


@pytest.fixture
def prompts(tmp_path):
    write_jsonl(tmp_path / "bad.jsonl", [{"prompt": c} for c in "abcdef"])
    write_jsonl(tmp_path / "good.jsonl", [{"prompt": c} for c in "uvw"])
    return ["--harmful", str(tmp_path / "bad.jsonl"), "--benign", str(tmp_path / "good.jsonl")]


def uphold(capsys, *arguments, code=0):
    assert run(["train", *map(str, arguments)]) == code, capsys.readouterr().err
    return capsys.readouterr()


def as_json(capsys, *arguments):
    return json.loads(uphold(capsys, *arguments, "--json").out)


def test_sft_prints_one_json_object_and_leaves_a_model_to_start_from(tmp_path, capsys, start, exchanges):
    result = as_json(
        capsys, "sft", start, "--data", exchanges, "--out", tmp_path / "run", "--max-steps", "3", "--lr", "0.01"
    )
    assert (result["n_steps"], result["n_exchanges"], result["settings"]["lr"]) == (1, 6, 0.01)
    assert result["model"] == f"hf:{tmp_path / 'run' / 'model'}"
    again = as_json(capsys, "sft", result["model"], "--data", exchanges, "--out", tmp_path / "more", "--epochs", "2")
    assert again["first_loss_nats"] < result["first_loss_nats"]


def test_sft_in_words_says_what_it_did_and_what_to_do_next(tmp_path, capsys, start, exchanges):
    out = tmp_path / "run"
    first = uphold(capsys, "sft", start, "--data", exchanges, "--out", out).out
    assert first.startswith("loss ")
    assert first.endswith(f"written {out}/model    next: uphold models check hf:{out}/model\n")
    assert uphold(capsys, "sft", start, "--data", exchanges, "--out", out).out.startswith("1 steps, done before\n")


def test_sft_takes_a_source_and_lora(tmp_path, capsys, start):
    arguments = [
        "--data",
        "builtin:storefront",
        "--n",
        "20",
        "--max-steps",
        "2",
        "--lora-rank",
        "2",
        "--out",
        tmp_path / "run",
    ]
    write = tmp_path / "c.yaml"
    write.write_text("too_long: drop\nbatch_tokens: 400\n")
    result = as_json(capsys, "sft", start, *arguments, "--config", write)
    assert result["settings"]["lora"] == {"rank": 2, "alpha": 4, "dropout": 0.0}
    assert result["settings"]["batch_tokens"] == 400
    assert result["n_exchanges"] + result["n_dropped"] == 20
    assert (tmp_path / "run" / "adapter" / "adapter_model.safetensors").exists()


def test_dpo_shows_first_and_last_epoch(tmp_path, capsys, start):
    write_jsonl(
        tmp_path / "pairs.jsonl", [{"prompt": c, "chosen": c, "rejected": c.upper(), "p_chosen": 0.9} for c in "abcd"]
    )
    arguments = [
        "dpo",
        start,
        "--data",
        tmp_path / "pairs.jsonl",
        "--out",
        tmp_path / "run",
        "--epochs",
        "4",
        "--lr",
        "0.01",
    ]
    text = uphold(capsys, *arguments, "--beta", "0.2").out
    lines = text.splitlines()
    assert lines[0] == "4 pairs (0 identical, 0 too long left out)"
    assert lines[1].split() == ["first", "epoch", "last", "epoch"]
    assert lines[2].split()[0] == "accuracy"
    result = as_json(capsys, *arguments, "--beta", "0.2")
    assert (result["settings"]["beta"], result["reused"]) == (0.2, True)
    assert result["last_epoch"]["margin"] > result["first_epoch"]["margin"] == 0.0


def test_a_loss_without_a_reference_is_chosen_by_name_and_a_misspelt_one_is_named(tmp_path, capsys, start):
    write_jsonl(tmp_path / "pairs.jsonl", [{"prompt": c, "chosen": c, "rejected": c.upper()} for c in "abcd"])
    arguments = ["dpo", start, "--data", tmp_path / "pairs.jsonl", "--out", tmp_path / "run", "--sft-weight", "0.5"]
    result = as_json(capsys, *arguments, "--loss", "simpo")
    settings = result["settings"]
    assert (settings["loss"], settings["sft_weight"], settings["reference"], result["beta"]) == (
        "simpo",
        0.5,
        None,
        2.0,
    )
    error = uphold(capsys, *arguments, "--loss", "simple", code=2).err
    assert error.startswith("uphold: --loss: Input should be 'sigmoid', 'ipo', 'hinge',")


def test_kto_learns_from_thumbs_and_shows_both_kinds(tmp_path, capsys, start):
    rows = [{"prompt": c, "completion": c.upper() if up else c, "label": up} for c in "abcd" for up in (True, False)]
    write_jsonl(tmp_path / "thumbs.jsonl", rows)
    arguments = ["kto", start, "--data", tmp_path / "thumbs.jsonl", "--out", tmp_path / "run", "--lr", "0.01"]
    text = uphold(capsys, *arguments, "--epochs", "3").out
    assert text.startswith("4 thumbs up, 4 down (0 too long left out)\n")
    assert "reward_desirable" in text
    result = as_json(capsys, *arguments, "--epochs", "3")
    assert (result["reused"], result["n_desirable"]) == (True, 4)
    write_jsonl(tmp_path / "up.jsonl", rows[::2])
    error = uphold(capsys, "kto", start, "--data", tmp_path / "up.jsonl", "--out", tmp_path / "up", code=2).err
    assert error.startswith("uphold: all 4 ratings are thumbs up: with one class there is nothing to tell apart.")


def test_cai_scores_every_revision_and_the_model_before_and_after(tmp_path, capsys, start):
    files = {"harmful": tmp_path / "harmful.jsonl", "benign": tmp_path / "benign.jsonl"}
    for kind, path in files.items():
        letters = "abcdefghijklm" if kind == "harmful" else "nopqrstuvwxyz"
        known = {} if kind == "harmful" else {"expected": "fine"}
        write_jsonl(path, [{"prompt": c + " " * n, **known} for c in letters for n in range(4)])
    arguments = ["cai", start, "--constitution", "storefront", "--critic", "fake:text=verdict: guilty"]
    arguments += ["--harmful", files["harmful"], "--benign", files["benign"], "--n-harmful", "6", "--n-benign", "4"]
    arguments += ["--n-helpful", "4", "--rounds", "1", "--behaviours", "1", "--tasks", "2", "--supervised-only"]
    arguments += ["--out", tmp_path / "run"]
    result = as_json(capsys, *arguments)
    assert [r["round"] for r in result["revisions"]] == [0, 1]
    assert result["revisions"][1]["harmlessness"]["status"] == "unscored"  # the prompts come without a rubric
    assert result["revisions"][1]["helpfulness"]["value"] == 0.0  # every honest reply was revised into something else
    assert result["labels"] is None
    assert set(result["final"]) >= {"attack_success_rate", "over_refusal", "helpfulness", "helpfulness_change"}
    assert set(result["final"]["attack_success_rate"]["by_split"]) == {"trained", "held_out"}
    assert result["final"]["attack_success_rate"]["n_scored"] == 0
    assert (tmp_path / "run" / "revisions.png").stat().st_size > 0
    assert [stage["stage"] for stage in result["tax"]] == ["supervised", "blend"]
    assert {c["metric"] for c in result["tax"][0]["changes"]} >= {"capability", "over_refusal", "distinct_2", "length"}
    assert (tmp_path / "run" / "tax.png").stat().st_size > 0
    text = uphold(capsys, *arguments).out
    assert text.startswith("revisions  harmlessness")
    assert "no AI labels" in text
    assert "change from the start  supervised" in text


def test_cai_needs_both_kinds_of_prompt(tmp_path, capsys, start, prompts):
    arguments = ["cai", start, "--constitution", "storefront", *prompts[:2], "--out", tmp_path / "run"]
    assert "--benign FILE is missing" in uphold(capsys, *arguments, code=2).err


def test_rlaif_reports_what_became_of_every_pair(tmp_path, capsys, start, prompts):
    config = tmp_path / "rlaif.yaml"
    config.write_text("max_new_tokens: 12\ntemperature: 3.0\ntie_margin: 0.0\n")
    arguments = ["rlaif", start, "--constitution", "storefront", *prompts, "--benign-clause", "help"]
    arguments += ["--config", config, "--out", tmp_path / "run"]
    result = as_json(capsys, *arguments)
    counts = result["rlaif"]
    outcomes = ("n_kept", "n_ties", "n_identical", "n_unscored", "n_without_reply")
    assert sum(counts[k] for k in outcomes) == counts["n_prompts"] == 9
    text = uphold(capsys, *arguments).out
    assert text.startswith(f"9 prompts: {counts['n_kept']} preferences, ")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"prompt": "a"}', "needs a `completion`, or `messages` that end with the assistant's turn."),
        ('{"prompt": 3, "completion": "b"}', "`prompt` must be text."),
        ('{"prompt": "a", "messages": [], "completion": "b"}', "has both `prompt` and `messages`; keep one."),
        ('{"prompt": "a", "completion": 3}', "completion: Input should be a valid string."),
        ('{"prompt": "a", "completion": "b", "x": 1}', "x: Extra inputs are not permitted."),
        ('{"messages": [{"role": "user", "content": "a"}]}', "needs a `completion`, or `messages` that end"),
        ("[1]", "expected one JSON object per line, found list."),
    ],
)
def test_a_line_that_is_no_exchange_is_named_with_its_file_and_number(tmp_path, capsys, start, line, message):
    path = tmp_path / "bad.jsonl"
    path.write_text('{"prompt": "a", "completion": "b"}\n' + line + "\n")
    error = uphold(capsys, "sft", start, "--data", path, "--out", tmp_path / "run", code=2).err
    assert error.startswith(f"uphold: {path}:2: {message}")
    assert not (tmp_path / "run").exists()


def test_messages_ending_with_the_assistants_turn_are_an_exchange(tmp_path, capsys, start):
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    write_jsonl(tmp_path / "chat.jsonl", [{"messages": turns}])
    result = as_json(capsys, "sft", start, "--data", tmp_path / "chat.jsonl", "--out", tmp_path / "run")
    assert result["n_exchanges"] == 1


def test_an_empty_file_and_a_missing_file_are_named(tmp_path, capsys, start):
    (tmp_path / "empty.jsonl").write_text("\n")
    error = uphold(capsys, "sft", start, "--data", tmp_path / "empty.jsonl", "--out", tmp_path / "run", code=2).err
    assert error == f"uphold: {tmp_path}/empty.jsonl: holds no exchanges. Put one JSON object on each line.\n"
    assert (
        "none.jsonl"
        in uphold(capsys, "sft", start, "--data", tmp_path / "none.jsonl", "--out", tmp_path / "run", code=2).err
    )


def test_prompts_of_the_other_label_are_refused(tmp_path, capsys, start, prompts):
    write_jsonl(tmp_path / "bad.jsonl", [{"prompt": "a", "label": "benign"}])
    error = uphold(
        capsys, "cai", start, "--constitution", "storefront", *prompts, "--out", tmp_path / "run", code=2
    ).err
    assert error == f"uphold: {tmp_path}/bad.jsonl:1: is labelled 'benign' in a file of harmful prompts.\n"


def test_a_setting_out_of_range_and_a_misspelt_one_are_named(tmp_path, capsys, start, exchanges):
    arguments = ["sft", start, "--data", exchanges, "--out", tmp_path / "run"]
    assert uphold(capsys, *arguments, "--lr", "-1", code=2).err == "uphold: --lr: Input should be greater than 0.\n"
    (tmp_path / "c.yaml").write_text("epoch: 2\n")
    error = uphold(capsys, *arguments, "--config", tmp_path / "c.yaml", code=2).err
    assert f"{tmp_path}/c.yaml:1: " in error
    assert "Did you mean 'epochs'?" in error


def test_a_model_without_weights_cannot_be_trained(tmp_path, capsys, exchanges):
    error = uphold(capsys, "sft", "fake:echo", "--data", exchanges, "--out", tmp_path / "run", code=2).err
    assert "its weights are not here, so it can be asked but not read or trained" in error


def test_a_folder_of_another_run_is_refused(tmp_path, capsys, start, exchanges):
    arguments = ["sft", start, "--data", exchanges, "--out", tmp_path / "run", "--max-steps", "1"]
    uphold(capsys, *arguments)
    error = uphold(capsys, *arguments, "--seed", "1", code=2).err
    assert error == (
        f"uphold: {tmp_path}/run: holds a run with other settings (seed was 0, now 1). "
        "Use another folder, or delete this one to start over.\n"
    )
