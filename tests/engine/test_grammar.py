"""The rules of a turn: what is free stays free, a call is whole and valid, an answer fits its grammar."""

from __future__ import annotations

import json

import jsonschema
import numpy as np
import pytest

from gemstead.engine.constraint import unpack_mask
from gemstead.engine.grammar import Grammar, GrammarVocabulary, Turn, TurnRules, check_grammar
from gemstead.errors import BackendError, InputError
from gemstead.text.answers import answer_grammar
from gemstead.text.grammar import call_grammar
from gemstead.text.parser import parse
from gemstead.types import OutputFormat, Tool, ToolCallEvent
from support.grammars import TOKENIZER, VOCABULARY

IDS = TOKENIZER.control
SIZE = TOKENIZER.vocab_size
TOOL = Tool("add", "", {"properties": {"a": {"type": "integer"}, "b": {"enum": [1, 2]}}, "required": ["a"]})
CALL = call_grammar([TOOL], IDS)
ENDS = set(VOCABULARY.eos_ids)
TEXT = TOKENIZER.encode("hello")
GOOD = [IDS.call_open, *TOKENIZER.encode("call:add{a:7}"), IDS.call_close]


def turn(in_thought=False, **rules):
    rules = {"call": CALL, "thought_open": IDS.channel_open, "thought_close": IDS.channel_close, **rules}
    return Turn(VOCABULARY, TurnRules(IDS.call_open, IDS.call_close, **rules), in_thought=in_thought)


def allowed(running):
    """The ids that may come next; None: all."""
    mask = running.mask()
    return None if mask is None else set(np.flatnonzero(unpack_mask(mask, SIZE)).tolist())


def feed(running, ids):
    for i in ids:
        mask = allowed(running)
        assert mask is None or i in mask, (TOKENIZER.decode([i]), mask)
        running.accept(i)
    return running


def test_text_and_thoughts_are_free():
    running = turn()
    for ids in ([IDS.channel_open], TEXT, [IDS.channel_close], TEXT):
        assert allowed(feed(running, ids)) is None
    assert not running.is_done()


def test_a_call_is_guarded_from_its_opening_to_its_end():
    running = feed(turn(), [*TEXT, IDS.call_open])
    assert not ENDS & allowed(running)
    with pytest.raises(BackendError):
        running.accept(TOKENIZER.encode("x")[0])
    running = feed(turn(), GOOD)
    assert allowed(running) is None
    feed(running, [*GOOD, *TEXT])


def test_a_schema_is_followed_value_by_value():
    running = feed(turn(), [IDS.call_open, *TOKENIZER.encode("call:add{a:")])
    starts = {TOKENIZER.decode([i])[0] for i in allowed(running)}
    assert starts == set("-0123456789")
    feed(running, TOKENIZER.encode("7,b:"))
    assert {TOKENIZER.decode([i]) for i in allowed(running)} == {"1", "2"}


def test_the_tables_are_built_when_a_call_opens_and_not_before():
    def tokens():
        raise RuntimeError("built")

    unbuilt = GrammarVocabulary(SIZE, tokens, (), ENDS, TOKENIZER.encode)
    running = Turn(unbuilt, TurnRules(IDS.call_open, IDS.call_close, call=CALL))
    feed(running, TEXT)
    with pytest.raises(RuntimeError, match="built"):
        running.accept(IDS.call_open)


def test_no_calls_where_none_are_allowed():
    assert allowed(turn(call=None)) == set(range(SIZE)) - {IDS.call_open}
    running = feed(turn(parallel=False), GOOD)
    assert IDS.call_open not in allowed(running)
    assert allowed(running) >= ENDS


def test_a_call_that_must_come_first():
    running = turn(required=True)
    assert allowed(running) == {IDS.call_open, IDS.channel_open}
    feed(running, [IDS.channel_open])
    assert not {IDS.call_open, *ENDS} & allowed(running)
    feed(running, [*TEXT, IDS.channel_close])
    assert allowed(running) == {IDS.call_open}
    assert allowed(feed(running, GOOD)) is None
    assert allowed(turn(required=True, thought_open=None)) == {IDS.call_open}
    assert allowed(turn(in_thought=True, required=True)) == set(range(SIZE)) - {IDS.call_open, *ENDS}


def test_an_answer_in_a_grammar():
    rules = {"answer": answer_grammar("choice", ["yes", "no"]), "call": None}
    running = turn(**rules)
    first = {TOKENIZER.decode([i]) for i in allowed(running)}
    assert first == {"y", "n", "<|channel>"}
    feed(running, [IDS.channel_open, *TEXT, IDS.channel_close, *TOKENIZER.encode("no")])
    assert running.is_done() or allowed(running) <= ENDS
    with pytest.raises(BackendError):
        feed(turn(**rules), []).accept(TOKENIZER.encode("x")[0])


def test_an_answer_or_a_call():
    running = turn(answer=answer_grammar("regex", "[ab]{2}"))
    assert {IDS.call_open, *TOKENIZER.encode("a")} <= allowed(running)
    feed(running, GOOD)
    assert allowed(running) == {IDS.call_open, *ENDS}
    running = feed(turn(answer=answer_grammar("regex", "[ab]{2}")), TOKENIZER.encode("a"))
    assert {TOKENIZER.decode([i]) for i in allowed(running)} == {"a", "b"}


@pytest.mark.parametrize("back", range(1, len(GOOD) + 4))
def test_rollback_at_any_place(back):
    ids = [*TEXT[:2], *GOOD, *GOOD[:-2]]
    running = feed(turn(), ids)
    running.rollback(back)
    again = feed(turn(), ids[: len(ids) - back])
    assert allowed(running) == allowed(again)
    feed(running, ids[len(ids) - back :])
    feed(running, GOOD[-2:])


@pytest.mark.parametrize("seed", range(5))
def test_wild_turns_hold_only_whole_calls(seed):
    """Random tokens, opening a call now and then: every call parses and is valid."""
    rng, running, ids = np.random.default_rng(seed), turn(), []
    calls = 0
    while calls < 20:
        choices = allowed(running)
        inside = choices is not None
        pick = int(rng.choice(sorted(choices))) if inside else int(rng.integers(300, 400))
        if not inside and rng.random() < 0.2:
            pick = IDS.call_open
        calls += pick == IDS.call_close
        ids.append(pick)
        running.accept(pick)
    found = [e for e in parse(TOKENIZER.decode(ids)) if isinstance(e, ToolCallEvent)]
    assert len(found) == 20
    for event in found:
        jsonschema.validate(dict(event.call.arguments), {"type": "object", **TOOL.parameters})


SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer"}, "s": {"enum": ["x", "y"]}},
    "required": ["n", "s"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("seed", range(5))
def test_json_answers_are_valid(seed):
    rng = np.random.default_rng(seed)
    running, ids = Grammar(VOCABULARY, answer_grammar("json_schema", SCHEMA)), []
    for _ in range(2000):
        choices = np.flatnonzero(unpack_mask(running.mask(), SIZE))
        if ENDS & set(choices.tolist()):
            break
        pick = int(rng.choice(choices))
        ids.append(pick)
        running.accept(pick)
    jsonschema.validate(json.loads(TOKENIZER.decode(ids)), SCHEMA)


@pytest.mark.parametrize(
    ("kind", "value", "word"),
    [
        ("regex", "(?=a)", "look-around"),
        ("lark", "start: nothing", "nothing"),
        ("json_schema", {"not": {}}, "not"),
        ("json_schema", {"type": "array", "uniqueItems": True}, "uniqueItems"),
    ],
)
def test_what_does_not_compile_is_told_without_a_vocabulary(kind, value, word):
    with pytest.raises(InputError) as error:
        check_grammar(answer_grammar(kind, value), "the output format")
    assert word in str(error.value)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("xml", ""),
        ("regex", 3),
        ("choice", []),
        ("choice", ["a", ""]),
        ("choice", "abc"),
        ("json_schema", "{}"),
    ],
)
def test_formats_that_are_none(kind, value):
    with pytest.raises(InputError, match="output format"):
        OutputFormat(kind, value)
