"""Everything that can be wrong with a model folder is said before the first reply, with the way to mend it."""

from __future__ import annotations

import json
import shutil
import warnings

import pytest

from uphold.core.errors import ConfigError, MissingExtra, ModelError, Unsupported
from uphold.core.records import Message
from uphold.models import Sampling, doors, load, load_weights
from uphold.models.folder import ModelFolder, import_extra, split_adapter

ASK = [(Message(role="user", content="w1 w2 w3"),)]


@pytest.fixture
def folder(tiny, tmp_path):
    return shutil.copytree(tiny, tmp_path / "model")


def problem(spec) -> str:
    with pytest.raises(ModelError) as caught:
        load(str(spec))
    return str(caught.value)


def test_a_missing_folder_says_where_models_come_from(tmp_path):
    assert problem(f"hf:{tmp_path}/none") == (
        f"{tmp_path}/none: no such model folder. Give the folder that holds config.json, or fetch a model first with: "
        "hf download ORGANISATION/NAME --local-dir FOLDER"
    )


def test_a_file_in_place_of_a_folder(folder):
    assert problem(folder / "config.json").startswith(f"{folder}/config.json: is a file, not a folder.")


AGAIN = "Copy the file again from where the model came from."


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("config.json", None, "no config.json. A model folder needs config.json, model.safetensors and tokenizer files."),
        ("config.json", b'{"model_type": ', f"cannot be read as JSON (JSONDecodeError). {AGAIN}"),
        ("config.json", b"[1]", f"holds a list, not a JSON object. {AGAIN}"),
        ("config.json", b"\xff\xfe", f"cannot be read as JSON (UnicodeDecodeError). {AGAIN}"),
        (
            "tokenizer.json",
            None,
            "no tokenizer.json. Copy the model's tokenizer files into the folder, "
            "or write them with tokenizer.save_pretrained(FOLDER).",
        ),
        ("model.safetensors", None, "no model.safetensors. Copy the weights into the folder."),
    ],
)  # fmt: skip
def test_files_that_are_missing_or_no_json(folder, name, content, said):
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    where = folder if content is None else folder / name
    assert problem(folder) == f"{where}: {said}"


@pytest.mark.parametrize("damage", ["cut", "empty", "noise"])
def test_damaged_safetensors(folder, damage):
    path = folder / "model.safetensors"
    raw = path.read_bytes()
    path.write_bytes({"cut": raw[: len(raw) // 2], "empty": b"", "noise": b"\x00" * 7 + b"\xff" + raw[8:]}[damage])
    said = problem(folder)
    assert said.startswith(f"{path}: damaged or cut short (")
    assert said.endswith("). Copy the file again from where the model came from.")


def test_damaged_tokenizer(folder):
    (folder / "tokenizer.json").write_text('{"version": "1.0", "model": 3}')
    said = problem(folder)
    assert said.startswith(f"{folder}: the tokenizer cannot be loaded (")
    assert said.endswith("). Copy the tokenizer files again from where the model came from.")


def test_no_chat_template(folder):
    (folder / "chat_template.jinja").unlink()
    assert problem(folder) == (
        f"{folder}: the tokenizer has no chat template, so messages cannot be turned into text. "
        "Put one into FOLDER/chat_template.jinja, or give the option chat_template."
    )
    template = "{% for m in messages %}{{ m['content'] }} {% endfor %}"
    assert load(str(folder), chat_template=template).generate(ASK)[0].error is None


def test_pickled_weights_are_not_read(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert problem(folder) == (
        f"{folder}: holds pytorch_model.bin but no safetensors. Pickled weights are not read, because loading them runs code. "
        "Convert them with model.save_pretrained(FOLDER) in an environment you trust."
    )


def test_a_shard_that_was_not_downloaded(folder):
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert (
        problem(folder)
        == f"{folder}: model-00002-of-00002.safetensors is missing (1 of 2 weight files). Finish the download."
    )


def test_shards_are_read_as_one(folder):
    from safetensors.torch import load_file, save_file

    before = load(str(folder)).generate(ASK)
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    parts = {"model-00001-of-00002.safetensors": names[:9], "model-00002-of-00002.safetensors": names[9:]}
    for file, part in parts.items():
        save_file({name: tensors[name] for name in part}, folder / file, metadata={"format": "pt"})
    (folder / "model.safetensors").unlink()
    index = {"metadata": {}, "weight_map": {name: file for file, part in parts.items() for name in part}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert load(str(folder)).generate(ASK) == before


def test_weights_that_do_not_fit_the_config_are_refused_by_both_ways_of_loading(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    said = (
        f"{folder}: the weights do not fit config.json: model.layers.2.input_layernorm.weight and 8 more missing or of another shape. "
        "Copy config.json and the safetensors from the same model."
    )
    assert problem(folder) == said
    with pytest.raises(ModelError, match=r"the weights do not fit config\.json: model\.layers\.2\."):
        ModelFolder(folder).transformers_model(None, "cpu")


def test_an_unknown_architecture(folder):
    (folder / "config.json").write_text(json.dumps({"model_type": "abacus"}))
    said = problem(folder)
    assert said.startswith(f"{folder}: transformers cannot load this model (")
    assert said.endswith("). Check config.json against the weights.")


def test_another_architecture_answers_through_transformers(tmp_path, tiny):
    import transformers

    config = transformers.GPT2Config(
        vocab_size=68, n_embd=32, n_layer=2, n_head=2, n_positions=64, bos_token_id=1, eos_token_id=2
    )
    model = transformers.GPT2LMHeadModel(config)
    with transformers_is_quiet(transformers):
        model.save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(tiny / name, tmp_path)
    weights = load_weights(str(tmp_path))
    asked = [ASK[0], (Message(role="user", content="w5 " * 30),), (Message(role="user", content="w5 " * 70),)]
    replies = weights.generate(asked, Sampling(max_new_tokens=8))
    assert [reply.error is None for reply in replies] == [True, True, False]
    import torch

    ids = torch.tensor([weights.encode(ASK[0])])
    with torch.inference_mode():
        expected = model.eval().generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False, pad_token_id=0
        )
    kept = weights.tokenizer.decode(expected[0, ids.shape[1] :], skip_special_tokens=True)
    assert replies[0].text == kept
    assert weights.activations([ASK[0]], [1])[0].shape == (1, ids.shape[1], 32)


def transformers_is_quiet(transformers):
    import contextlib

    @contextlib.contextmanager
    def quiet():
        transformers.utils.logging.disable_progress_bar()
        yield
        transformers.utils.logging.enable_progress_bar()

    return quiet()


@pytest.fixture(scope="module")
def adapter(tiny, tmp_path_factory):
    """A LoRA adapter for the tiny model that changes its replies."""
    import peft
    import torch

    model = load_weights(str(tiny)).model
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrapped = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"))
        with torch.no_grad():
            for name, p in wrapped.named_parameters():
                if "lora_B" in name:
                    p.normal_(0, 0.3)
        folder = tmp_path_factory.mktemp("adapter")
        wrapped.save_pretrained(folder, save_embedding_layers=False)
    return folder, wrapped.merge_and_unload()


def test_an_adapter_changes_replies_as_peft_says(tiny, adapter):
    from uphold.models.local import LocalModel

    folder, merged = adapter
    base, tuned = load(str(tiny)), load(f"hf:{tiny}+{folder}")
    asked = [(Message(role="user", content=f"w{i} w3"),) for i in range(5)]
    assert tuned.generate(asked) == LocalModel.from_memory(merged, base.tokenizer).generate(asked)
    assert tuned.generate(asked) != base.generate(asked)
    assert tuned.identity() != base.identity()
    assert tuned.spec == f"hf:{tiny}+{folder}"
    assert load(f"{tiny}+{folder}").identity() == tuned.identity()  # without prefix


def test_an_adapter_that_is_missing_damaged_pickled_or_for_another_model(tiny, adapter, tmp_path):
    folder, _ = adapter
    assert (
        problem(f"hf:{tiny}+{tmp_path}/none")
        == f"{tmp_path}/none: no such adapter folder. Give the folder that holds adapter_config.json."
    )
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "adapter_model.safetensors").write_bytes(b"junk")
    assert problem(f"hf:{tiny}+{copy}").startswith(f"{copy}/adapter_model.safetensors: damaged or cut short (")
    (copy / "adapter_model.safetensors").rename(copy / "adapter_model.bin")
    assert problem(f"hf:{tiny}+{copy}") == (
        f"{copy}: no adapter_model.safetensors. Write one with peft's model.save_pretrained(FOLDER); pickled adapters are not read."
    )
    (copy / "adapter_config.json").unlink()
    assert problem(f"hf:{tiny}+{copy}") == (
        f"{copy}: no adapter_config.json. Write one with peft's model.save_pretrained(FOLDER)."
    )
    from uphold.models.tiny import write_tiny_llama

    wider = write_tiny_llama(tmp_path / "wider", d_model=48)
    said = problem(f"hf:{wider}+{folder}")
    assert said.startswith(f"{folder}: the adapter does not fit this model (")
    assert said.endswith("). Use it on the model it was trained on.")


def test_a_plus_in_a_folder_name_is_no_adapter(tiny, tmp_path):
    odd = shutil.copytree(tiny, tmp_path / "a+b")
    assert split_adapter(str(odd), "here") == (str(odd), None)
    assert split_adapter(f"{odd}+{tmp_path}/c+d", "here") == (str(odd), f"{tmp_path}/c+d")
    assert split_adapter("no/such+folder", "here") == ("no/such", "folder")
    for broken in ("", "+a", "a+"):
        with pytest.raises(ConfigError, match=r"^here: no"):
            split_adapter(broken, "here")


def test_the_built_in_model_says_when_its_weights_are_not_installed(monkeypatch, tmp_path):
    from uphold.models import builtin

    monkeypatch.setitem(builtin.FOLDERS, "clerk", tmp_path)
    with pytest.raises(ModelError) as caught:
        load("builtin:clerk")
    assert str(caught.value) == (
        f"model 'builtin:clerk': its weights are not installed ({tmp_path}). "
        "Install Uphold again from a full package, or rebuild them with: uphold world train-clerk"
    )


def test_the_built_in_model_opens_with_and_without_an_adapter(monkeypatch, tiny, adapter):
    from uphold.models import builtin

    monkeypatch.setitem(builtin.FOLDERS, "clerk", tiny)
    assert load("builtin:clerk").identity() == load(str(tiny)).identity()
    tuned = load(f"builtin:clerk+{adapter[0]}")
    assert (tuned.spec, tuned.identity()) == (f"builtin:clerk+{adapter[0]}", load(f"hf:{tiny}+{adapter[0]}").identity())


@pytest.mark.parametrize(
    ("spec", "options", "said"),
    [
        ("nowhere", {}, "model 'nowhere': no such folder, and no known prefix. Write builtin:clerk, hf:PATH or openai:URL#MODEL"),
        ("fak:echo", {}, "model 'fak:echo': unknown backend 'fak'. Did you mean 'fake'? See all: uphold list backends"),
        ("http://127.0.0.1:1/v1#m", {}, "a model at a URL is written openai:URL#MODEL, such as openai:http://127.0.0.1:8000/v1#clerk"),
        ("builtin:clark", {}, "model 'builtin:clark': no built-in model 'clark'. Did you mean 'clerk'?"),
        ("builtin:clerk+", {}, "model 'builtin:clerk+': nothing after '+'. Write builtin:clerk+ADAPTER, or builtin:clerk alone"),
        ("fake:echo", {"latency": 1}, "model 'fake:echo': unknown option 'latency'. Did you mean 'latency_s'?"),
        ("hf:", {}, "model 'hf:': no folder named. Write hf:PATH or hf:PATH+ADAPTER"),
    ],
)  # fmt: skip
def test_names_and_options_nobody_knows(spec, options, said):
    with pytest.raises(ConfigError) as caught:
        load(spec, **options)
    assert str(caught.value) == said


def test_weights_are_not_to_be_had_from_a_fake():
    with pytest.raises(
        Unsupported, match=r"^fake:echo: its weights are not here, so it can be asked but not read or trained"
    ):
        load_weights("fake:echo")


def test_a_missing_library_names_the_line_that_installs_it():
    with pytest.raises(
        MissingExtra, match=r"^no_such_library is not installed\. Install it with: pip install 'uphold\[train\]'$"
    ):
        import_extra("no_such_library")


def test_the_public_names_are_there():
    import uphold.models as room

    assert all(getattr(room, name) is not None for name in room.__all__)
    assert room.load is doors.load
