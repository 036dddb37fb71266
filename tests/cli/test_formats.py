"""--schema, --regex and --choice: what reaches the model, and what is said when they are wrong."""

from __future__ import annotations

import json

import pytest

from gemstead.types import OutputFormat

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}

SMALL = {
    "type": "object",
    "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["n"],
    "additionalProperties": False,
}


def asked_for(gem, fake, script, *args):
    model = fake(script.says("ok"))
    assert gem("run", *args, "hi").code == 0
    return model.asked[0].get("output")


def test_formats_reach_the_model(gem, fake, script, tmp_path):
    file = tmp_path / "schema.json"
    file.write_text(json.dumps(SCHEMA), encoding="utf-8")
    wanted = OutputFormat("json_schema", SCHEMA)
    assert asked_for(gem, fake, script, "--schema", json.dumps(SCHEMA)) == wanted
    assert asked_for(gem, fake, script, "--schema", str(file)) == wanted
    assert asked_for(gem, fake, script, "--regex", "[0-9]+") == OutputFormat("regex", "[0-9]+")
    choices = asked_for(gem, fake, script, "--choice", "yes", "--choice", "no, never")
    assert choices == OutputFormat("choice", ("yes", "no, never"))
    assert asked_for(gem, fake, script) is None


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--schema", "nothing.json"], "cannot be read as a file (No such file or directory); give a file"),
        (["--schema", "{"], "the schema is not JSON"),
        (["--schema", "bytes"], "cannot be read as a file (it is no UTF-8 text)"),
        (["--schema", "list"], "the file list holds no JSON object"),
        (["--schema", "text"], "the file text is not JSON"),
        (["--schema", "{}", "--regex", "a"], "an answer has one format"),
        (["--regex", "a", "--choice", "a"], "an answer has one format"),
        (["--choice", "a", "--choice", ""], "a --choice cannot be empty"),
    ],
)
def test_wrong_formats_are_wrong_usage(gem, fake, script, tmp_path, monkeypatch, args, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    (tmp_path / "list").write_text("[1]")
    (tmp_path / "text").write_text("hello")
    model = fake(script.says("ok"))
    ran = gem("run", *args, "hi")
    assert ran.code == 2
    assert said in ran.err
    assert model.opened == []


@pytest.mark.parametrize(
    ("args", "check"),
    [
        (["--choice", "yes", "--choice", "no"], lambda out: out in ("yes", "no")),
        (["--regex", "[0-9]{3}"], lambda out: out.isdecimal() and len(out) == 3),
        (["--schema", json.dumps(SMALL)], lambda out: 0 <= json.loads(out)["n"] <= 99),
    ],
)
def test_pebble_keeps_to_them(gem, args, check):
    ran = gem("run", "-m", "pebble", "--no-tools", "--temperature", "0", *args, "Are you there?")
    assert ran.code == 0, ran.err
    assert check(ran.out.strip())


def test_what_cannot_be_kept_is_named(gem):
    ran = gem("run", "-m", "pebble", "--schema", '{"not": {}}', "hi")
    assert ran.code == 2
    assert "not" in ran.err
    assert "Traceback" not in ran.err
    ran = gem("run", "-m", "pebble", "--regex", "(", "hi")
    assert ran.code == 2
    assert "unclosed group" in ran.err


def test_a_form_is_kept_where_the_model_would_only_call(gem, fake, script):
    model = fake(*[script.calls("calculator", expression="17% of 2400")] * 2, script.says("408"))
    ran = gem("run", "-m", "pebble", "--regex", "[0-9]{3}", "17% of 2400?")
    assert (ran.code, ran.out) == (0, "408\n")
    assert [bool(asked["tools"]) for asked in model.asked] == [True, True, False]
    assert {asked["output"] for asked in model.asked} == {OutputFormat("regex", "[0-9]{3}")}


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_an_answer_cut_short_is_no_success(gem, fake, script, more):
    fake(script.says("40", reason="length"))
    ran = gem("run", "-m", "pebble", "--regex", "[0-9]{3}", "17% of 2400?", *more)
    assert ran.code == 1
    assert "does not have the form that was asked for" in ran.err
    fake(script.says("40", reason="length"))
    assert gem("run", "-m", "pebble", "17% of 2400?", *more).code == 0


@pytest.mark.parametrize("seed", ["1", "2"])
def test_pebble_keeps_a_form_with_its_tools(gem, seed):
    ran = gem("run", "-m", "pebble", "--seed", seed, "--schema", json.dumps(SMALL), "What is 17% of 2400?")
    assert ran.code == 0
    assert 0 <= json.loads(ran.out)["n"] <= 99
