"""A config error tells every problem at once, each with file, line and the nearest right name; nothing unsafe is loaded."""

from enum import Enum
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, field_validator

from uphold.core.config import check_config, dump_yaml, load_config, load_yaml, parse_yaml
from uphold.core.errors import ConfigError


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Train(Strict):
    method: Literal["dpo", "kto", "sft"] = "dpo"
    beta: float = Field(0.1, gt=0)
    epochs: int = 1


class Rule(Strict):
    metric: str
    at_most: float | None = None


class Project(Strict):
    model: str
    seed: int = 0
    train: Train = Train()
    rules: list[Rule] = []
    by_stage: dict[str, Train] = {}
    maybe: Annotated[Rule | None, Field()] = None

    @field_validator("model")
    @classmethod
    def _known(cls, value):
        if ":" not in value:
            raise ValueError("a model is named KIND:WHAT, for example builtin:clerk.")
        return value


def said(text, model=Project):
    """The lines of the error for this text, as a file called p.yaml."""
    with pytest.raises(ConfigError) as caught:
        check_config(model, parse_yaml(text, "p.yaml"))
    return str(caught.value).split("\n")


def test_a_good_file_becomes_the_model(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text("model: builtin:clerk\ntrain: {beta: 0.5}\nrules:\n  - metric: asr\n    at_most: 0.04\n")
    project = load_config(Project, path)
    assert project.train == Train(beta=0.5)
    assert project.rules == [Rule(metric="asr", at_most=0.04)]


def test_every_problem_is_told_at_once_in_the_order_of_the_file():
    assert said(
        """\
seed: many
train:
  method: dop
  beta: -1
  epoks: 3
rules:
  - metric: asr
    at_mots: 0.04
  - at_most: 1
modle: builtin:clerk
"""
    ) == [
        "p.yaml:1: model: is missing. Add it.",
        "p.yaml:1: seed: should be a valid integer, unable to parse string as an integer.",
        "p.yaml:3: train.method: must be one of 'dpo', 'kto' or 'sft'. Did you mean 'dpo'?",
        "p.yaml:4: train.beta: should be greater than 0.",
        "p.yaml:5: train.epoks: unknown key. Did you mean 'epochs'?",
        "p.yaml:8: rules.0.at_mots: unknown key. Did you mean 'at_most'?",
        "p.yaml:9: rules.1.metric: is missing. Add it.",
        "p.yaml:10: modle: unknown key. Did you mean 'model'?",
    ]


def test_keys_inside_mappings_and_optional_models_are_known_too():
    text = "model: a:b\nby_stage:\n  second:\n    betta: 1\nmaybe:\n  metrik: x\n"
    assert said(text) == [
        "p.yaml:4: by_stage.second.betta: unknown key. Did you mean 'beta'?",
        "p.yaml:5: maybe.metric: is missing. Add it.",
        "p.yaml:6: maybe.metrik: unknown key. Did you mean 'metric'?",
    ]


def test_a_key_near_nothing_is_answered_with_what_is_known():
    assert said("model: a:b\nrules:\n  - metric: x\n    zzz: 1\n") == [
        "p.yaml:4: rules.0.zzz: unknown key. Known: at_most, metric."
    ]


def test_the_message_of_a_validator_is_given_as_it_is():
    assert said("model: clerk\n") == ["p.yaml:1: model: a model is named KIND:WHAT, for example builtin:clerk."]


def test_a_problem_inside_a_discriminated_union_is_found_at_its_line():
    class Cat(Strict):
        kind: Literal["cat"]
        lives: int = 9

    class Dog(Strict):
        kind: Literal["dog"]

    class Home(Strict):
        pet: Annotated[Cat | Dog, Field(discriminator="kind")]

    assert said("pet:\n  kind: cat\n  lifes: 3\n", Home) == ["p.yaml:3: pet.lifes: unknown key. Did you mean 'lives'?"]
    (line,) = said("pet:\n  kind: cow\n", Home)
    assert line.startswith("p.yaml:1: pet: ")


def test_private_values_are_not_repeated_in_messages():
    assert "sk-secret" not in " ".join(said("model: a:b\nseed: sk-secret\n"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("- a\n", "p.yaml:1: expected a mapping of keys to values, found a list."),
        ("just words\n", "p.yaml:1: expected a mapping of keys to values, found text."),
        ("null\n", "p.yaml:1: expected a mapping of keys to values, found nothing."),
    ],
)
def test_a_file_of_another_shape(text, expected):
    assert said(text) == [expected]


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n"])
def test_an_empty_file(text):
    with pytest.raises(ConfigError, match=r"^p\.yaml: is empty\. It needs at least one key\.$"):
        parse_yaml(text, "p.yaml")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb: [1, 2\nc: 3\n", "p.yaml:3: not valid YAML: "),
        ("a: 1\n b: 2\n", "p.yaml:2: not valid YAML: "),
        ("a: 'open\n", "p.yaml:2: not valid YAML: "),
        ("a: *nothing\n", "p.yaml:1: not valid YAML: found undefined alias"),
        ("a: 1\n---\nb: 2\n", "p.yaml:2: not valid YAML: but found another document"),
        ("a: \x07\n", "p.yaml:1: not valid YAML: "),
        ("a: \x00\n", "p.yaml:1: not valid YAML: "),
        ("\ta: 1\n", "p.yaml:1: not valid YAML: "),
        ("a: @x\n", "p.yaml:1: not valid YAML: "),
        ("a: !!int x\n", "p.yaml:1: 'x' is not a value of the kind 'int'. Quote it if it is text."),
        ("a: .nan\n", "p.yaml:1: '.nan' is not a finite number. Leave the key out for 'no limit'."),
        ("a: 1e999\n", "p.yaml:1: '1e999' is not a finite number."),
        ("[a]: 1\n", "p.yaml:1: a key must be a plain word."),
        ("a: &x {b: 1}\nc:\n  <<: *x\n", "p.yaml:3: merge keys ('<<') are not allowed: write the keys out."),
    ],
)
def test_what_is_not_usable_yaml_is_said_with_its_line(text, expected):
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, "p.yaml")
    assert str(caught.value).startswith(expected)
    assert "\n" not in str(caught.value)


def test_duplicate_keys_are_refused_all_at_once_at_any_depth():
    with pytest.raises(ConfigError) as caught:
        parse_yaml("a: 1\nb:\n  - x: 1\n    x: 2\na: 3\n", "p.yaml")
    assert str(caught.value) == (
        "p.yaml:4: duplicate key 'x', first used on line 3. Keep one.\n"
        "p.yaml:5: duplicate key 'a', first used on line 1. Keep one."
    )


@pytest.mark.parametrize(
    "text",
    [
        "a: !!python/object/apply:os.system ['echo unsafe']\n",
        "a: !!python/name:os.system\n",
        "a: !mine 3\n",
        "a: !!set {x, y}\n",
        "a: !!binary aGk=\n",
        "!!python/object:object {}\n",
    ],
)
def test_tags_that_build_objects_are_refused(text):
    with pytest.raises(ConfigError, match=r"p\.yaml:1: the tag '.*' is not allowed"):
        parse_yaml(text, "p.yaml")


def test_a_billion_laughs_end_early():
    lines = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    with pytest.raises(ConfigError, match="holds more than 400000 values once its aliases are expanded"):
        parse_yaml("\n".join(lines), "p.yaml")


def test_an_alias_that_holds_itself_is_refused():
    with pytest.raises(ConfigError, match=r"p\.yaml:1: an alias contains itself\."):
        parse_yaml("a: &a [*a]\n", "p.yaml")


@pytest.mark.parametrize("depth", [50, 3000])
def test_deep_nesting_is_refused(depth):
    with pytest.raises(ConfigError, match="nested more than 40 levels deep"):
        parse_yaml("[" * depth + "]" * depth, "p.yaml")


def test_a_huge_file_is_refused():
    with pytest.raises(ConfigError, match=r"p\.yaml: larger than 8 MiB\. Split it; prompts belong in a JSONL file\."):
        parse_yaml("a: " + "x" * (9 * 2**20), "p.yaml")


def test_a_file_that_is_not_utf8_or_not_there_is_a_config_error(tmp_path):
    path = tmp_path / "p.yaml"
    with pytest.raises(ConfigError, match=r"no such file\. Check the path\."):
        load_yaml(path)
    path.write_bytes(b"a: 1\nb: caf\xe9\n")
    with pytest.raises(ConfigError, match=r"p\.yaml:2: not UTF-8 text"):
        load_yaml(path)


def test_lines_are_kept_for_every_value():
    located = parse_yaml("a: 1\nb:\n  - x: 1\n  -\n    y: 2\n", "p.yaml")
    assert located.at("a") == "p.yaml:1"
    assert located.at("b", 1, "y") == "p.yaml:5"
    assert located.line("b", 0, "x") == 3
    assert located.line("b", 7, "z") == 2, "what is not there is placed at its nearest parent"
    assert located.line() == 1


def test_dates_times_and_yes_stay_text():
    """YAML 1.1 made a version 1.10 a number and NO a boolean; here only what looks like JSON changes its kind."""
    text = "a: 2024-05-01\nb: yes\nc: NO\nd: 12:30:00\ne: true\nf: 1.5\ng: 010\nh: ~\n1: one\n"
    assert parse_yaml(text).data == {
        "a": "2024-05-01",
        "b": "yes",
        "c": "NO",
        "d": "12:30:00",
        "e": True,
        "f": 1.5,
        "g": 10,
        "h": None,
        "1": "one",
    }


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**9), 10**9)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
printable = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Cn", "Co"]))


@given(st.dictionaries(st.sampled_from(["on", "1", "null", "a b", "k", "-", "~", "é"]), values | printable, min_size=1))
def test_what_is_dumped_is_loaded_as_it_was(data):
    assert parse_yaml(dump_yaml(data)).data == data


@given(st.text(max_size=60))
def test_any_text_is_either_loaded_or_refused_with_a_config_error(text):
    try:
        parse_yaml(text, "p.yaml")
    except ConfigError as error:
        assert str(error).startswith("p.yaml")


def test_a_model_is_dumped_in_the_order_of_its_fields_and_comes_back(tmp_path):
    class Colour(Enum):
        RED = "red"

    project = Project(model="builtin:clerk", rules=[Rule(metric="asr", at_most=0.04)])
    text = dump_yaml(project, tmp_path / "resolved.yaml")
    assert text.splitlines()[:3] == ["model: builtin:clerk", "seed: 0", "train:"]
    assert load_config(Project, tmp_path / "resolved.yaml") == project
    assert dump_yaml({"colour": Colour.RED}) == "colour: red\n"
