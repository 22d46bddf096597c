"""A local model gives what transformers gives, whatever it is batched with, and never crashes on a conversation."""

from __future__ import annotations

import json
import logging
import random
import shutil

import pytest
import torch

from uphold.core.errors import ConfigError, DataError
from uphold.core.records import Message
from uphold.models import Sampling, Weights, load, load_weights
from uphold.models.engine_llama import LlamaEngine
from uphold.models.engine_transformers import TransformersEngine
from uphold.models.local import LocalModel

WORDS = [f"w{i}" for i in range(56)]


def prompts(n: int, seed: int = 0, longest: int = 40) -> list[tuple[Message, ...]]:
    rng = random.Random(seed)
    lengths = [rng.randint(1, longest) for _ in range(n)]
    return [(Message(role="user", content=" ".join(rng.choices(WORDS, k=k))),) for k in lengths]


@pytest.fixture(scope="module")
def model(tiny) -> LocalModel:
    return load_weights(f"hf:{tiny}")


@pytest.fixture(scope="module")
def plain(tiny):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(str(tiny)).eval()


def transformers_greedy(plain, model: LocalModel, conversation, n: int) -> list[int]:
    ids = torch.tensor([model.encode(conversation)])
    with torch.inference_mode():
        out = plain.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=n, do_sample=False, pad_token_id=0
        )
    reply = out[0, ids.shape[1] :].tolist()
    return reply[: reply.index(2)] if 2 in reply else reply


def test_greedy_replies_equal_transformers_generate_token_for_token(model, plain):
    conversations = prompts(24)
    replies = model.generate(conversations, Sampling(max_new_tokens=20))
    finishes = set()
    for conversation, reply in zip(conversations, replies, strict=True):
        expected = transformers_greedy(plain, model, conversation, 20)
        assert reply.text.split() == model.tokenizer.convert_ids_to_tokens(expected, skip_special_tokens=True)
        assert reply.n_completion_tokens == len(expected)
        assert reply.n_prompt_tokens == len(model.encode(conversation))
        finishes.add(reply.finish_reason)
        assert reply.finish_reason == ("length" if len(expected) == 20 else "stop")
    assert finishes == {"length", "stop"}  # both ways out were taken


def test_long_replies_and_a_common_beginning_change_nothing(model, plain):
    system = Message(role="system", content=" ".join(WORDS[:30]))  # 32 tokens that all prompts share: read once
    conversations = [(system, *turns) for turns in prompts(8, seed=20, longest=8)]
    replies = model.generate(conversations, Sampling(max_new_tokens=90))  # the cache grows on the way
    assert max(reply.n_completion_tokens for reply in replies) > 64
    for conversation, reply in zip(conversations, replies, strict=True):
        expected = transformers_greedy(plain, model, conversation, min(90, 128 - len(model.encode(conversation))))
        assert reply.text.split() == model.tokenizer.convert_ids_to_tokens(expected, skip_special_tokens=True)
    assert model.generate(conversations[:1], Sampling(max_new_tokens=90)) == replies[:1]


def test_a_model_with_tied_words_and_a_head_for_every_query_is_the_same_too(tmp_path):
    from transformers import AutoModelForCausalLM

    from uphold.models.tiny import write_tiny_llama

    folder = write_tiny_llama(tmp_path, is_tied=True, n_kv_heads=4, n_layers=3, seed=2)
    tied, reference = load(str(folder)), AutoModelForCausalLM.from_pretrained(str(folder)).eval()
    for conversation, reply in zip(prompts(8), tied.generate(prompts(8), Sampling(max_new_tokens=10)), strict=True):
        expected = transformers_greedy(reference, tied, conversation, 10)
        assert reply.text.split() == tied.tokenizer.convert_ids_to_tokens(expected, skip_special_tokens=True)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_narrower_numbers_are_another_model_that_answers(tiny, model, dtype):
    narrow = load(str(tiny), dtype=dtype)
    assert narrow.identity() != model.identity()
    assert narrow.generate(prompts(3), Sampling(max_new_tokens=4))[0].error is None
    p = narrow.choose(prompts(1), ["A", "B"])[0]
    assert p == pytest.approx(model.choose(prompts(1), ["A", "B"])[0], abs=0.05)


def test_both_engines_give_the_same_replies(model, plain):
    conversations = prompts(12, seed=1)
    other = LocalModel.from_memory(plain, model.tokenizer)
    other._engine = TransformersEngine(plain)
    sampling = Sampling(max_new_tokens=12)
    assert isinstance(model._engine, LlamaEngine)
    assert other.generate(conversations, sampling) == model.generate(conversations, sampling)
    drawn = Sampling(max_new_tokens=12, temperature=1.0, top_p=0.9, seed=3)
    assert other.generate(conversations, drawn) == model.generate(conversations, drawn)


def test_a_reply_does_not_depend_on_order_or_company(model):
    conversations = prompts(20, seed=2)
    for sampling in (Sampling(max_new_tokens=16), Sampling(max_new_tokens=16, temperature=1.2, seed=5)):
        together = model.generate(conversations, sampling)
        order = list(range(20))
        random.Random(0).shuffle(order)
        shuffled = model.generate([conversations[i] for i in order], sampling)
        assert [shuffled[order.index(i)] for i in range(20)] == together
        assert [model.generate([c], sampling)[0] for c in conversations] == together
        assert model.generate(conversations[:7], sampling) == together[:7]


def test_small_batches_give_the_same_replies_as_large_ones(tiny, model):
    conversations = prompts(20, seed=3)
    sampling = Sampling(max_new_tokens=16, temperature=1.0)
    narrow = load(str(tiny), batch_tokens=100)
    assert narrow.generate(conversations, sampling) == model.generate(conversations, sampling)


def test_the_seed_decides_the_draw_and_greedy_has_none(model):
    conversations = prompts(6, seed=4)
    first = model.generate(conversations, Sampling(temperature=1.0, seed=1, max_new_tokens=16))
    assert first == model.generate(conversations, Sampling(temperature=1.0, seed=1, max_new_tokens=16))
    assert first != model.generate(conversations, Sampling(temperature=1.0, seed=2, max_new_tokens=16))
    greedy = [model.generate(conversations, Sampling(seed=s, max_new_tokens=16)) for s in (1, 2)]
    assert greedy[0] == greedy[1]


def test_the_same_conversation_twice_in_a_call_is_drawn_twice_and_decoded_once_when_greedy(model):
    one = prompts(1, seed=5)[0]
    drawn = model.generate([one] * 3, Sampling(temperature=1.5, max_new_tokens=20))
    assert len({reply.text for reply in drawn}) == 3
    assert drawn[0] == model.generate([one], Sampling(temperature=1.5, max_new_tokens=20))[0]
    parts = list(model.generate_parts([one] * 3, Sampling(max_new_tokens=4)))
    assert len(parts) == 1
    assert parts[0][0] == parts[0][1] == parts[0][2]


def test_a_prompt_without_room_is_an_error_for_that_one_alone(model):
    long = (Message(role="user", content=" ".join(["w1"] * 200)),)
    short = prompts(1)[0]
    refused, fine = model.generate([long, short], Sampling(max_new_tokens=4))
    # 200 words, <s>, <user>, <end>, <assistant>
    assert refused.error == "the prompt has 204 tokens and the model's context is 128: no room for a reply"
    assert (refused.text, refused.finish_reason, refused.n_prompt_tokens) == (None, "error", 204)
    assert fine == model.generate([short], Sampling(max_new_tokens=4))[0]


def test_a_reply_ends_at_the_end_of_the_context(model):
    almost = (Message(role="user", content=" ".join(["w1"] * 120)),)  # 124 tokens of 128
    reply = model.generate([almost], Sampling(max_new_tokens=50))[0]
    assert reply.finish_reason in ("length", "stop")
    assert reply.n_completion_tokens <= 4


def test_an_empty_conversation_and_a_role_the_template_refuses_are_errors_not_crashes(tiny):
    refuse = "{% if m['role'] == 'tool' %}{{ raise_exception('no tools') }}{% endif %}"
    template = "{% for m in messages %}" + refuse + "{{ m['content'] }} {% endfor %}"
    model = load(str(tiny), chat_template=template)
    tool = (Message(role="user", content="w1"), Message(role="tool", content="w2"))
    empty, refused, fine = model.generate([(), tool, prompts(1)[0]], Sampling(max_new_tokens=3))
    assert empty.error == "the conversation is empty"
    assert refused.error == "the chat template refuses this conversation (roles: user tool; TemplateError)"
    assert fine.error is None


def test_every_role_reaches_the_prompt(model):
    turns = [Message(role=role, content=f"w{i}") for i, role in enumerate(("system", "user", "assistant", "tool"))]
    tokens = model.tokenizer.convert_ids_to_tokens(model.encode(turns))
    expected = "<s> <system> w0 <end> <user> w1 <end> <assistant> w2 <end> <tool> w3 <end> <assistant>"
    assert tokens == expected.split()


def test_pieces_of_a_stream_join_to_the_reply(model):
    for conversation in prompts(6, seed=6):
        for sampling in (Sampling(max_new_tokens=12), Sampling(max_new_tokens=12, temperature=1.0, seed=2)):
            pieces = list(model.stream(conversation, sampling))
            whole = model.generate([conversation], sampling)[0]
            assert "".join(pieces) == whole.text
            assert len(pieces) > 1 or whole.n_completion_tokens <= 1


def test_asking_the_model_between_two_pieces_of_a_stream_does_not_disturb_it(model):
    one, other = prompts(2, seed=7)
    pieces = []
    for piece in model.stream(one, Sampling(max_new_tokens=12)):
        pieces.append(piece)
        model.generate([other], Sampling(max_new_tokens=3))
    assert "".join(pieces) == model.generate([one], Sampling(max_new_tokens=12))[0].text


def test_a_stop_text_ends_the_reply_before_it(model):
    conversation = next(
        c for c in prompts(20, seed=8) if model.generate([c], Sampling(max_new_tokens=12))[0].n_completion_tokens == 12
    )
    whole = model.generate([conversation], Sampling(max_new_tokens=12))[0].text
    stop = whole.split()[5]
    sampling = Sampling(max_new_tokens=12, stop=(f" {stop}",))
    reply = model.generate([conversation], sampling)[0]
    assert reply.text == whole[: whole.index(f" {stop}")]
    assert reply.finish_reason == "stop"
    assert "".join(model.stream(conversation, sampling)) == reply.text


def test_logprobs_equal_the_log_softmax_of_transformers(model, plain):
    conversations, completions = prompts(5, seed=9), ["w1 w2 w3", "A", "w9 w9", "b w4 w5 w6", "w7"]
    found = model.logprobs(conversations, completions)
    for conversation, completion, values in zip(conversations, completions, found, strict=True):
        prompt = model.encode(conversation)
        reply = model.tokenizer(completion, add_special_tokens=False)["input_ids"]
        with torch.inference_mode():
            log_p = torch.log_softmax(plain(torch.tensor([prompt + reply])).logits[0], -1)
        expected = [log_p[len(prompt) - 1 + i, token].item() for i, token in enumerate(reply)]
        assert values == pytest.approx(expected, abs=1e-4)
    assert model.logprobs(conversations[:1], [""]) == [[]]


def test_choosing_between_single_tokens_renormalises_those_tokens(model, plain):
    conversations = prompts(4, seed=10)
    a, b = model.tokenizer.convert_tokens_to_ids(["A", "B"])
    for conversation, (p_a, p_b) in zip(conversations, model.choose(conversations, ["A", "B"]), strict=True):
        with torch.inference_mode():
            probs = torch.softmax(plain(torch.tensor([model.encode(conversation)])).logits[0, -1], -1)
        assert p_a == pytest.approx((probs[a] / (probs[a] + probs[b])).item(), abs=1e-5)
        assert p_a + p_b == pytest.approx(1.0)


def test_choosing_between_longer_options_weighs_whole_replies_with_their_end(model):
    conversation = prompts(1, seed=11)[0]
    options = ["w1 w2", "w3"]
    sums = []
    for option in options:
        prompt, reply = (
            model.encode(conversation),
            model.tokenizer(option + " <end>", add_special_tokens=False)["input_ids"],
        )
        sums.append(sum(model._engine.logprobs([[*prompt, *reply]], [len(prompt)])[0]))
    weights = torch.softmax(torch.tensor(sums, dtype=torch.float64), 0).tolist()
    assert model.choose([conversation], options)[0] == pytest.approx(weights, abs=1e-5)


def test_what_cannot_be_chosen_or_scored_is_refused(model):
    one = prompts(1)
    long = [(Message(role="user", content=" ".join(["w1"] * 200)),)]
    with pytest.raises(DataError, match=r"^a choice needs at least two options, not 1$"):
        model.choose(one, ["A"])
    with pytest.raises(DataError, match=r"^an option is empty$"):
        model.choose(one, ["A", " "])
    with pytest.raises(DataError, match=r"^two options are the same tokens to this model"):
        model.choose(one, ["A", "A"])
    with pytest.raises(DataError, match=r"^conversation 0: 204 tokens with its reply, and the model's context is 128$"):
        model.choose(long, ["A", "B"])
    with pytest.raises(DataError, match=r"^1 conversations but 2 completions$"):
        model.logprobs(one, ["a", "b"])
    with pytest.raises(DataError, match=r"^no layer 2$"):
        model.activations(one, [0, 2])


def test_activations_are_the_residual_stream_before_the_final_norm(model, plain):
    conversations = prompts(3, seed=12)
    found = model.activations(conversations, [0, 1, -1])
    for conversation, acts_LTD in zip(conversations, found, strict=True):
        ids = torch.tensor([model.encode(conversation)])
        with torch.inference_mode():
            states = plain(ids, output_hidden_states=True).hidden_states
            final = plain.model.norm(acts_LTD[1])
        assert acts_LTD.shape == (3, ids.shape[1], 32)
        assert torch.allclose(acts_LTD[0], states[1][0], atol=1e-5)
        assert torch.equal(acts_LTD[1], acts_LTD[2])
        assert torch.allclose(final, states[2][0], atol=1e-4)  # transformers reports the last one after the norm


def test_what_the_template_puts_before_a_reply_is_no_part_of_the_reply(tiny):
    # the tiny template writes "<assistant> w1 <end>" after the generation prompt "<assistant>": one space before the reply
    assert load_weights(str(tiny))._chat.head == " "
    glued = "{% for m in messages %}{{ m['content'] }}<end>{% endfor %}{% if add_generation_prompt %}{% endif %}"
    assert load_weights(str(tiny), chat_template=glued)._chat.head == ""


def test_identity_is_of_content_not_of_place_and_changes_with_any_part(tiny, tmp_path):
    own = load(str(tiny)).identity()
    twin = shutil.copytree(tiny, tmp_path / "twin")
    assert load(f"hf:{twin}").identity() == own
    config = json.loads((twin / "config.json").read_text())
    (twin / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 1e-5}))
    assert load(str(twin)).identity() != own
    (twin / "config.json").write_text(json.dumps(config))
    raw = bytearray((twin / "model.safetensors").read_bytes())
    raw[-1] ^= 1
    (twin / "model.safetensors").write_bytes(raw)
    assert load(str(twin)).identity() != own
    assert load(str(tiny), chat_template="{{ messages[0]['content'] }}").identity() != own


def test_training_the_model_in_place_changes_its_replies_and_its_identity(tiny):
    weights = load_weights(str(tiny))
    conversations = prompts(4, seed=13)
    before, identity = weights.generate(conversations), weights.identity()
    model = weights.model
    assert weights.generate(conversations) == before
    assert weights.identity() == identity  # loading it changed nothing
    with torch.no_grad():
        model.lm_head.weight.mul_(-1)
    assert weights.identity() != identity
    after = weights.generate(conversations)
    assert after != before
    assert LocalModel.from_memory(model, weights.tokenizer).generate(conversations) == after


def test_a_model_left_in_training_mode_answers_without_dropout_and_stays_in_training_mode(plain, model):
    import copy

    training = copy.deepcopy(plain)
    training.config.attention_dropout = 0.9
    for layer in training.model.layers:
        layer.self_attn.attention_dropout = 0.9
    training.train()
    memory = LocalModel.from_memory(training, model.tokenizer)
    memory._engine = TransformersEngine(training)
    conversations = prompts(4, seed=14)
    assert memory.generate(conversations) == model.generate(conversations)
    assert training.training
    assert training.model.layers[0].self_attn.training


def test_several_threads_may_ask_one_model(model):
    from concurrent.futures import ThreadPoolExecutor

    conversations = prompts(24, seed=15)
    sampling = Sampling(max_new_tokens=10)

    def ask(conversation):
        return model.generate([conversation], sampling)[0], "".join(model.stream(conversation, sampling))

    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(ask, conversations))
    expected = model.generate(conversations, sampling)
    assert found == [(reply, reply.text) for reply in expected]


def test_identity_is_of_what_was_read_even_when_the_folder_is_gone(tiny, tmp_path):
    moved = load(str(shutil.copytree(tiny, tmp_path / "work")))
    (tmp_path / "work").rename(tmp_path / "final")
    assert moved.identity() == load(str(tmp_path / "final")).identity()


def test_a_prompt_longer_than_the_tokenizer_expects_brings_no_warning_of_its_own(tiny, tmp_path):
    folder = shutil.copytree(tiny, tmp_path / "short")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"model_max_length": 5}))
    said = []
    handler = logging.Handler()
    handler.emit = said.append
    logging.getLogger("transformers").addHandler(handler)
    try:
        load(str(folder)).generate(prompts(3), Sampling(max_new_tokens=2))
    finally:
        logging.getLogger("transformers").removeHandler(handler)
    assert said == []


def test_numbers_that_are_not_finite_become_an_error(tiny, plain):
    import copy

    broken = copy.deepcopy(plain)
    with torch.no_grad():
        broken.model.norm.weight.fill_(float("nan"))
    memory = LocalModel.from_memory(broken, load_weights(str(tiny)).tokenizer)
    for sampling in (Sampling(), Sampling(temperature=1.0)):
        reply = memory.generate(prompts(1), sampling)[0]
        assert reply.text is None
        assert (
            reply.error
            == "the model gave numbers that are not finite. The checkpoint is damaged, or its dtype too narrow"
        )


def test_a_local_model_is_weights_and_saying_so_does_not_load_the_transformers_model(tiny):
    weights = load(str(tiny))
    assert isinstance(weights, Weights)
    assert weights._model is None
    weights.check()
    assert repr(weights) == f"LocalModel('hf:{tiny}')"


def test_settings_that_make_no_sense_are_refused(tiny):
    with pytest.raises(ConfigError, match=r"batch_tokens must be at least 1, not 0\.$"):
        load(str(tiny), batch_tokens=0)
    with pytest.raises(ConfigError, match=r"^unknown dtype 'float8'\. Known: auto, float32, float16, bfloat16\.$"):
        load(str(tiny), dtype="float8")
    with pytest.raises(ConfigError, match=r"^device 'warp' cannot be used here"):
        load(str(tiny), device="warp")
