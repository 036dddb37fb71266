// The official openai package for Node against a real server; run by test_openai_node.py with node --test.
import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI from "openai";

const { GEMSTEAD_URL: baseURL, GEMSTEAD_KEY: apiKey } = process.env;
const calculator = JSON.parse(process.env.GEMSTEAD_TOOL);
const eager = JSON.parse(process.env.GEMSTEAD_EAGER);
const schema = JSON.parse(process.env.GEMSTEAD_SCHEMA);
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const hello = [{ role: "user", content: "Say hello" }];
const sum = [{ role: "user", content: "What is 17% of 2400?" }];
const cold = { model: "pebble", temperature: 0, max_tokens: 100 };
const ask = (messages, more = {}) => client.chat.completions.create({ ...cold, messages, ...more });

test("a stream says what the whole answer says", async () => {
  const whole = await ask(hello);
  let text = "", usage;
  for await (const chunk of await ask(hello, { stream: true, stream_options: { include_usage: true } })) {
    text += chunk.choices[0]?.delta?.content ?? "";
    usage = chunk.usage ?? usage;
  }
  assert.equal(text, whole.choices[0].message.content);
  assert.equal(usage.completion_tokens, whole.usage.completion_tokens);
});

test("tools, whole and streamed, and the runner that calls them", async () => {
  const first = (await ask(sum, { tools: [calculator] })).choices[0];
  assert.equal(first.finish_reason, "tool_calls");
  const call = first.message.tool_calls[0];
  const said = [...sum, first.message, { role: "tool", tool_call_id: call.id, content: "408" }];
  assert.match((await ask(said, { tools: [calculator] })).choices[0].message.content, /408/);
  const stream = client.chat.completions.stream({ ...cold, messages: sum, tools: [calculator] });
  const final = await stream.finalChatCompletion();
  assert.equal(final.choices[0].message.tool_calls[0].function.arguments, call.function.arguments);
  const tool = { ...calculator.function, function: () => "408", parse: JSON.parse };
  const runner = client.chat.completions.runTools({
    ...cold, messages: sum, tools: [{ type: "function", function: tool }],
  });
  assert.match(await runner.finalContent(), /408/);
});

test("parallel calls", async () => {
  const answer = await ask(sum, { tools: [calculator], tool_choice: "required", logit_bias: eager, max_tokens: 60 });
  const ids = answer.choices[0].message.tool_calls.map((call) => call.id);
  assert.ok(ids.length > 1);
  assert.equal(new Set(ids).size, ids.length);
});

test("a schema", async () => {
  const response_format = { type: "json_schema", json_schema: { name: "verdict", schema, strict: true } };
  const answer = await client.chat.completions.parse({ ...cold, max_tokens: 200, messages: hello, response_format });
  assert.deepEqual(Object.keys(JSON.parse(answer.choices[0].message.content)), ["ok"]);
});

test("log-probabilities, stop, seed, n", async () => {
  const whole = (await ask(hello, { logprobs: true, top_logprobs: 2 })).choices[0];
  const text = whole.message.content;
  assert.equal(whole.logprobs.content.map((token) => token.token).join(""), text);
  const word = text.split(" ")[2];
  assert.equal((await ask(hello, { stop: word })).choices[0].message.content, text.slice(0, text.indexOf(word)));
  const hot = { temperature: 2, top_p: 1, top_k: 0 };
  const said = [];
  for (const seed of [5, 5, 6]) said.push((await ask(hello, { ...hot, seed })).choices[0].message.content);
  assert.equal(said[0], said[1]);
  assert.notEqual(said[0], said[2]);
  assert.equal((await ask(hello, { n: 3 })).choices.length, 3);
});

test("errors have their classes", async () => {
  const other = new OpenAI({ baseURL, apiKey: "wrong-key-0123456789", maxRetries: 0 });
  await assert.rejects(ask(hello, { temperature: -1 }), (e) => e instanceof OpenAI.BadRequestError && e.param === "temperature");
  await assert.rejects(ask(hello, { model: "gpt-5" }), OpenAI.NotFoundError);
  await assert.rejects(other.models.list(), OpenAI.AuthenticationError);
  const big = "x".repeat(33 * 1024 * 1024);
  await assert.rejects(ask([{ role: "user", content: big }]), (e) => e.status === 413);
  const many = (await Promise.allSettled([...Array(4)].map(() => ask(hello, { n: 16, max_tokens: 200, temperature: 2 }))))
    .filter((one) => one.reason instanceof OpenAI.RateLimitError);
  assert.ok(many.length > 0);
  assert.ok((await ask(hello)).choices[0].message.content);
});

test("responses: whole, streamed, gone on from, left", async () => {
  const input = "Say hello";
  const whole = await client.responses.create({ model: "pebble", temperature: 0, input });
  const stream = client.responses.stream({ model: "pebble", temperature: 0, input });
  assert.equal((await stream.finalResponse()).output_text, whole.output_text);
  const next = await client.responses.create({ model: "pebble", input: "And again", previous_response_id: whole.id });
  assert.ok(next.usage.input_tokens > whole.usage.input_tokens);
  const long = await client.responses.create({ model: "pebble", temperature: 2, input, stream: true });
  for await (const event of long) if (event.type.endsWith(".delta")) break; // leaves the stream
  assert.ok((await client.responses.retrieve(whole.id)).output_text);
});
