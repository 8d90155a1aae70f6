"""openai_agrees.py DIALOGUES TEXTS - speaks to two servers (check_openai.sh) as the openai and langchain packages do."""
import concurrent.futures
import importlib.util
import sys

import openai

passed = failed = skipped = 0


def check(name, ok, found=""):
    global passed, failed
    passed, failed = passed + bool(ok), failed + (not ok)
    if not ok:
        print(f"{name}: found {found!r}")


def refused(name, kind, **asked):
    try:
        check(name, False, dialogues.chat.completions.create(**{**hi, **asked}))
    except kind as error:
        check(name, error.body["message"], error.body)


dialogues = openai.OpenAI(base_url=sys.argv[1], api_key="none", max_retries=0)
texts = openai.OpenAI(base_url=sys.argv[2], api_key="none", max_retries=0)
hi = {"model": "sft.ckpt", "messages": [{"role": "user", "content": "hi"}]}
a = {"model": "base.ckpt", "prompt": "a"}

check("models", [m.id for m in dialogues.models.list()] == ["sft.ckpt"])
check("model", dialogues.models.retrieve("sft.ckpt").owned_by == "quartet")

r = dialogues.chat.completions.create(**hi, n=2, logprobs=True, top_logprobs=3, seed=1, temperature=0)
check("content", [c.message.content for c in r.choices] == ["Hi!", "Hi!"], r)
check("role and reason", r.choices[0].message.role == "assistant" and r.choices[1].finish_reason == "stop", r)
check("tokens", [t.token for t in r.choices[0].logprobs.content] == ["H", "i", "!"], r)
check("bytes", bytes(sum((t.bytes for t in r.choices[0].logprobs.content), [])) == b"Hi!", r)
check("alternatives", all(len(t.top_logprobs) == 3 and t.top_logprobs[0].logprob == t.logprob
                          for t in r.choices[0].logprobs.content), r)
check("usage", r.usage.total_tokens == r.usage.prompt_tokens + 6, r.usage)
again = hi["messages"] + [r.choices[0].message, {"role": "user", "content": "and?"}]
check("its own message back", dialogues.chat.completions.create(model="sft.ckpt", messages=again).choices[0].message.content == "Hi!")

events = list(dialogues.chat.completions.create(**hi, stream=True, stream_options={"include_usage": True}))
check("stream", "".join(e.choices[0].delta.content or "" for e in events if e.choices) == "Hi!", events)
check("its end", events[-2].choices[0].finish_reason == "stop" and events[-1].usage.completion_tokens == 3, events)
with dialogues.chat.completions.stream(**hi) as stream:
    check("stream helper", stream.get_final_completion().choices[0].message.content == "Hi!")

r = texts.completions.create(**a, logprobs=2, max_tokens=3, stop=["z"])
check("text", r.choices[0].text.startswith("bc") and r.choices[0].finish_reason == "length", r)
check("text tokens", r.choices[0].logprobs.tokens[:2] == ["b", "c"] and len(r.choices[0].logprobs.top_logprobs[0]) == 2, r)
check("stop", texts.completions.create(**a, stop="c").choices[0].text == "b")
check("text stream", "".join(e.choices[0].text for e in texts.completions.create(**a, stream=True)) == "bc\u00e9\x1b[")
check("ids", texts.completions.create(model="base.ckpt", prompt=[97], max_tokens=2).choices[0].text == "bc")

refused("not found", openai.NotFoundError, model="gpt-4")
refused("bad request", openai.BadRequestError, temperature=3)
refused("unknown field", openai.BadRequestError, extra_body={"foo": 1})
refused("tools", openai.BadRequestError, tools=[{"type": "function", "function": {"name": "f"}}])

wild = {"model": "base.ckpt", "prompt": "q", "temperature": 2, "top_p": 1, "max_tokens": 30}
alone = texts.completions.create(**wild, seed=5).choices[0].text
with concurrent.futures.ThreadPoolExecutor(32) as pool:
    noise = [pool.submit(texts.completions.create, **wild, seed=k) for k in range(100, 148)]
    same = [pool.submit(texts.completions.create, **wild, seed=5) for k in range(16)]
    check("a seed among others", all(f.result().choices[0].text == alone for f in same))
    different = len({f.result().choices[0].text for f in noise})
    check("other seeds", different > 24, different)

if importlib.util.find_spec("langchain_openai"):
    import langchain_openai

    model = langchain_openai.ChatOpenAI(base_url=sys.argv[1], api_key="none", model="sft.ckpt", temperature=0, max_tokens=10)
    check("langchain", model.invoke("hi").content == "Hi!")
    check("langchain, messages", model.invoke([("system", "Be kind."), ("human", "hi")]).content == "Hi!")
    check("langchain, stream", "".join(part.content for part in model.stream("hi")) == "Hi!")
    check("langchain, batch", [m.content for m in model.batch(["a", "b", "c"])] == ["Hi!"] * 3)
    model = langchain_openai.OpenAI(base_url=sys.argv[2], api_key="none", model="base.ckpt", max_tokens=20)
    check("langchain, text", model.invoke("a") == "bc\u00e9\x1b[")
else:
    print("skipped: the Python package langchain-openai is not installed")
    skipped += 1
print(f"check_openai: {passed} passed, {failed} failed, {skipped} skipped")
sys.exit(failed > 0)
