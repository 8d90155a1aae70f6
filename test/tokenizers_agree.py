"""tokenizers_agree.py FOLDER TOOL [N] - ids and decoded texts of tool_tokens against the real packages, over files and N random strings."""
import glob, json, lzma, os, random, subprocess, sys
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
try:
    import sentencepiece
except ImportError:
    sentencepiece = None

folder, tool = sys.argv[1], sys.argv[2]
count = int(sys.argv[3]) if len(sys.argv) > 3 else 1500
shared = os.environ.get("SHARED", "../shared")
passed = failed = skipped = 0
random.seed(int(os.environ.get("SEED", 1)))

POOLS = ["abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJ'", " ", " ", " \t\n\r", "0123456789", ".,;:!?-_()[]{}<>/\\|\"'`~@#$%^&*+=", "éèüßñçøåÀÖ",
         "абвгдежзийклмн", "αβγδεζηθ", "中文你好世界的是不了人我", "ひらがなカタカナ", "한국어글자", "अआकखगघिीु्", "กขฃคฅิีึื", "אבגדה", "ابتثجحخ",
         "\u0300\u0301\u0308\u0327\u0323", "\u0323\u0301\u07fd\u0898\U00010d24\u0345\u11a7\uac00", "\u1100\u1161\u11a8", "😀🎉👩‍👩‍👧🇩🇪", "\u2581", "\u00a0\u2003\u3000\u200b\u180e\u0085\u2028\ufeff", "²³¼½¾①Ⅳ〇",
         "\U0001E4D0\U00011F00\U000323AF\U0001CCF0\u0897\U00010D40", "\U00013460\U0001E5D0\U00016D40\ua7cb\u1c89", "\u0378\U000F0000\U0010FFFD\ufffd",
         "ﬁﬂ①㈱㍍ｱｲ㋿Ａ１", "ſ\u212a'stSTmM", "\u2e52\u1b7d\U00011f43§‖።", "\u088f\u0558\U00013461\U0003fc3b"]
WORDS = ["the", " the", "hello", " world", "'s", "'T", "I'm", "<s>", "</s>", "<unk>", "<0x41>", "[W]", "<l>", "<r>", "<b>", "<|endoftext|>", "<think>", "12345", "  ", "    ", "\n\n", "\r\n",
         "don't", "http://a.b/c?d=1", "café", "cafe\u0301", "Café", "[W]", "<a>", "<a><b>", "<mask>", "<sep>", " x", "\t\t", "1,000.5", "…", "。", "...", ">>TITLE<<", "ò", "²"]


def strings():
    texts = ["", " ", "  ", "a", " a", "a ", "▁", "▁a", " ▁", "\n", "\n a", "<s>", "a<s> b", "aaaa" * 20, " " * 40, "x" + " " * 33 + "y", "\u2581\u2581a"]
    for _ in range(count):
        parts = []
        pools = random.sample(POOLS, random.randint(1, 5))
        for _ in range(random.randint(1, 12)):
            if random.random() < 0.25:
                parts.append(random.choice(WORDS))
            else:
                pool = random.choice(pools)
                parts.append("".join(random.choice(pool) for _ in range(random.randint(1, 6))))
        texts.append("".join(parts))
    for path in sorted(glob.glob(shared + "/data/*/*")):
        if not path.endswith((".txt", ".json", ".jsonl", ".csv", ".md", ".en")):
            continue
        with open(path, "rb") as f:
            data = f.read(4 << 20)
        texts.append(data[:6000].decode("utf-8", "ignore"))
        at = random.randrange(max(1, len(data) - 6000))
        texts.append(data[at:at + 6000].decode("utf-8", "ignore"))
    return [t for t in texts if not any("\ud800" <= c <= "\udfff" for c in t)]


def ours(path, texts):
    lines = "".join(json.dumps(t) + "\n" for t in texts)
    out = subprocess.run([tool, path], input=lines.encode(), stdout=subprocess.PIPE, check=True).stdout
    return [json.loads(line) for line in out.splitlines()]


def compare(name, path, texts, encode, decode, strip=True):
    """encode(text) -> ids; decode(ids) -> text, or None where decoding is not compared."""
    global passed, failed
    bad = 0
    for text, (ids, back) in zip(texts, ours(path, texts)):
        want = encode(text)
        wrong = "ids" if ids != want else "text" if decode and back != decode(want) else None
        if wrong:
            bad += 1
            if bad <= 3:
                print(f"tokenizers_agree: {name}: {wrong} of {text[:80]!r}: {ids[:24] if wrong == 'ids' else back[:80]!r}, expected "
                      f"{want[:24] if wrong == 'ids' else decode(want)[:80]!r}")
    passed, failed = passed + (bad == 0), failed + (bad > 0)
    if bad:
        print(f"tokenizers_agree: {name}: {bad} of {len(texts)} texts differ")


def by_package(name, path, texts, decoded=True):
    t = Tokenizer.from_file(path)
    t.encode_special_tokens = True          # Quartet places special tokens by id and never finds them in text
    compare(name, path, texts, lambda s: t.encode(s, add_special_tokens=False).ids, (lambda ids: t.decode(ids, skip_special_tokens=False)) if decoded else None)


def by_sentencepiece(name, path, texts):
    global skipped
    if sentencepiece is None:
        print("skipped: sentencepiece is not installed")
        skipped += 1
        return
    s = sentencepiece.SentencePieceProcessor(model_file=path)
    compare(name, path, texts, s.encode, s.decode)


texts = strings()
only = os.environ.get("ONLY", "")
for path in sorted(glob.glob(shared + "/golden/tokenizers/*/tokenizer.json") + glob.glob(shared + "/data/tok-*/tokenizer.json*")
                   + glob.glob(shared + "/data/*/*tokenizer.json")):
    name = os.path.basename(os.path.dirname(path))
    if name in ("made-added", "tok-small-fixtures") or only not in name:       # Lowercase is refused; bytes without a token are dropped there
        continue
    if path.endswith(".xz"):
        with lzma.open(path) as f, open(folder + "/tokenizer.json", "wb") as to:
            to.write(f.read())
        path = folder + "/tokenizer.json"
    by_package(name, path, texts)
for path in (shared + "/golden/tokenizers/made-spm/tokenizer.model", shared + "/data/tok-spm-mistral-v1/tokenizer.model"):
    name = os.path.basename(os.path.dirname(path))
    if os.path.exists(path) and only in name:
        by_sentencepiece(name, path, texts)
        with open(folder + "/exported.json", "wb") as f:      # what we write of it, read by the package
            subprocess.run([tool, "--json", path], stdout=f, check=True)
        t = Tokenizer.from_file(folder + "/exported.json")
        t.encode_special_tokens = True
        compare(name + " exported", path, texts, lambda s: t.encode(s, add_special_tokens=False).ids, None)


def added(first, normalized):
    """Added tokens with all flags, none of them special but one, from id `first` on."""
    flags = [("[W]", ["single_word"]), ("<l>", ["lstrip"]), ("<r>", ["rstrip"]), ("<b>", ["lstrip", "rstrip"]), ("qux", ["single_word", "rstrip"]),
             ("<a>", []), ("<a><b>", []), ("Café", []), ("  ", []), ("<mask>", ["lstrip", "special"])]
    return [{"id": first + i, "content": text, "normalized": normalized and "special" not in on,
             **{k: k in on for k in ("single_word", "lstrip", "rstrip", "special")}} for i, (text, on) in enumerate(flags)]


def variant(name, base, change):
    with open(f"{shared}/golden/tokenizers/{base}/tokenizer.json") as f:
        root = json.load(f)
    change(root)
    path = folder + "/variant.json"
    with open(path, "w") as f:
        json.dump(root, f)
    if only in name:
        # the package decodes added tokens to what they are found as (one more blank), or takes their letters for bytes
        by_package(name, path, texts, decoded=not name.startswith("flags"))


def metaspace(scheme, split):
    def change(root):
        root["normalizer"] = None
        root["pre_tokenizer"] = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": scheme, "split": split}
        root["added_tokens"] += added(900, False)
    return change


def flags(normalized, normalizer=None, strips=True):
    def change(root):
        kept = [t for t in added(0, normalized) if strips or not (t["lstrip"] or t["rstrip"])]
        root["added_tokens"] = [dict(t, id=len(root["model"]["vocab"]) + i) for i, t in enumerate(kept)]
        root["normalizer"] = normalizer or root["normalizer"]
    return change


random.seed(2)
texts = random.sample(texts, len(texts) // 3) + ["x <l>  <r> \t<b>\u3000qux qux_ then <l>qux xqux", "a<a><b> a[W]b [W] \u0301[W]", "<r>  <l>", "  <r>   x", "cafe\u0301 Cafe\u0301 Café"]
variant("flags", "made-gpt2", flags(False))
variant("flags normalized", "made-gpt2", flags(True, {"type": "NFC"}))
variant("flags NFC", "made-qwen2", flags(False))
variant("flags Prepend", "made-llama2", flags(False))
variant("flags Prepend normalized", "made-llama2", flags(True, strips=False))     # refused with lstrip and rstrip
def replaced(*names):
    """These normalizers, and then those the file has."""
    def change(root):
        n = root["normalizer"]
        own = [] if n is None else n["normalizers"] if n["type"] == "Sequence" else [n]
        root["normalizer"] = {"type": "Sequence", "normalizers": [{"type": name} for name in names] + own}
    return change


for base in ("made-gpt2", "made-qwen2", "made-llama3", "made-llama2"):
    variant(f"NFKC {base}", base, replaced("NFKC"))
variant("NFC NFKC", "made-llama2", replaced("NFC", "NFKC"))
variant("NFKC Metaspace", "made-llama2", lambda root: (metaspace("first", True)(root), replaced("NFKC")(root)))
variant("flags NFKC normalized", "made-qwen2", flags(True, {"type": "NFKC"}))
for scheme in ("always", "first", "never"):
    for split in (False, True):
        variant(f"Metaspace {scheme} {split}", "made-llama2", metaspace(scheme, split))
print(f"check_tokenizers: {passed} passed, {failed} failed, {skipped} skipped")
sys.exit(failed > 0)
