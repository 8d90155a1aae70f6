"""templates_agree.py FOLDER TOOL - ids of dialogues in published chat templates, against apply_chat_template of transformers.

FOLDER holds a model per template, NAME-hf; its own template, and then the published one in its place, are rendered by both."""
import glob, io, json, os, random, shutil, subprocess, sys
os.environ["HF_HUB_OFFLINE"] = "1"
from transformers import AutoTokenizer
import transformers

transformers.logging.set_verbosity_error()
folder, tool = sys.argv[1], sys.argv[2]
shared = os.environ.get("SHARED", "../shared")
passed = failed = 0
random.seed(1)

# As published: HuggingFaceH4/zephyr-7b-beta, and the part of THUDM/glm-4-9b-chat's that is not about tools
ZEPHYR = """{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>
' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>
' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>
'  + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}"""
GLM4 = ("[gMASK]<sop>{% for item in messages %}{% if item['content'] %}<|{{ item['role'] }}|>{{ item['metadata'] }}\n"
        "{{ item['content'] }}{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}")
published = {"zephyr": ZEPHYR, "glm4": GLM4}
for name, file in {"mistral": "mistral-instruct", "gemma": "gemma", "qwen3": "qwen3", "chatml": "chatml"}.items():
    if os.path.exists(f"{shared}/golden/chat/{file}.jinja"):
        with open(f"{shared}/golden/chat/{file}.jinja") as f:
            published[name] = f.read()

# what follows the last answer's end there, or is left to the model there
BEHIND = {"chatml": "\n", "qwen3": "\n", "gemma": "\n", "zephyr": "\n"}
WORDS = ["Who sees 3?", "The cat", "a dog <|im_end|> x", "caf\u00e9 12345", "[/INST] no", "line\nline", "\u4e2d\u6587 ?", "<think> so", "Yes."]


def dialogues():
    for k in range(60):
        turns = [{"role": "system", "content": random.choice(WORDS)}] if k % 3 == 0 else []
        for i in range(random.randint(1, 3)):
            turns.append({"role": "user", "content": " ".join(random.choices(WORDS, k=2))})
            turns.append({"role": "assistant", "content": random.choice(WORDS) if k % 5 else "<think>\nwhy\n</think>\n\n" + random.choice(WORDS)})
        yield turns[:-1], True
        yield turns, False


def plain(tokenizer, text):
    """The ids of a text in which control tokens are read, as apply_chat_template does."""
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def compare(path, name, own):
    global passed, failed
    rows = list(dialogues())
    lines = "".join(json.dumps({"messages": m, "prompt": p}) + "\n" for m, p in rows)
    done = subprocess.run([tool, path], input=lines.encode(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out = done.stdout.decode().splitlines()
    if done.returncode or out[0] != name:
        failed += 1
        print(f"templates_agree: {path}: {done.stderr.decode().strip() or out[0]}, expected {name}")
        return
    tokenizer, bad = AutoTokenizer.from_pretrained(path), 0
    special = [t for t in tokenizer.all_special_tokens + list(tokenizer.get_added_vocab()) if t not in ("<think>", "</think>")]
    for (messages, prompt), line in zip(rows, out[1:]):
        if any(t in m["content"] for m in messages for t in special):
            continue                                            # there a user's text becomes a control token; here never
        ours = json.loads(line)
        try:
            want = tokenizer.apply_chat_template(messages, add_generation_prompt=prompt, tokenize=False)
        except Exception as e:
            want = None
        if want is None or isinstance(ours, str):
            ok = want is None and isinstance(ours, str) and "system" in ours
        else:
            if not own and name == "glm4":
                want += "\n" if prompt else "<|user|>"
                want = want.replace("<|user|><|user|>", "<|user|>")
            elif not own and not prompt:
                want = want[:len(want) - len(BEHIND.get(name, ""))]
            ok = ours == plain(tokenizer, want)
        bad += not ok
        if not ok and bad <= 2:
            print(f"templates_agree: {path}: {messages!r} {prompt}: {ours}, expected {want!r} {plain(tokenizer, want) if want is not None else ''}")
    passed, failed = passed + (bad == 0), failed + (bad > 0)
    if bad:
        print(f"templates_agree: {path}: {bad} of {len(rows)} dialogues differ")


for path in sorted(glob.glob(f"{folder}/*-hf")):
    name = os.path.basename(path)[:-3].split("-")[0]
    compare(path, name, True)
    if name not in published:
        continue
    shutil.copytree(path, path + "-published")
    with open(path + "-published/chat_template.jinja", "w") as f:
        f.write(published[name])
    compare(path + "-published", name, False)
print(f"check_templates: {passed} passed, {failed} failed, 0 skipped")
sys.exit(failed > 0)
