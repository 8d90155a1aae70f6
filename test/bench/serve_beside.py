"""serve_beside.py - tokens/s of `chat --serve` and of llama-cpp-python's server on the same float32 weights, in turn.
Usage: serve_beside.py CHAT MODEL.ckpt MODEL.gguf THREADS CLIENTS TOKENS ROUNDS.  Exit code 77: llama_cpp.server is not installed."""
import json
import re
import socket
import statistics
import subprocess
import sys
import threading
import time
import urllib.request

try:
    import llama_cpp
    import llama_cpp.server.app  # noqa: F401
except ImportError:
    print("skipped: the Python package llama-cpp-python[server] is not installed")
    sys.exit(77)

chat, checkpoint, gguf = sys.argv[1:4]
threads, clients, tokens, rounds = map(int, sys.argv[4:8])


def ask(url, i, answers):
    body = {"prompt": f"The story number {i} begins in a small town", "max_tokens": tokens, "temperature": 0}
    request = urllib.request.Request(url + "/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=600) as reply:
        answers[i] = json.load(reply)


def rate(url):
    """All clients at once, each one request; generated tokens per second."""
    answers = [None] * clients
    asking = [threading.Thread(target=ask, args=(url, i, answers)) for i in range(clients)]
    start = time.monotonic()
    for t in asking:
        t.start()
    for t in asking:
        t.join()
    seconds = time.monotonic() - start
    return sum(a["usage"]["completion_tokens"] for a in answers) / seconds


def ours():
    server = subprocess.Popen([chat, "--model", checkpoint, "--serve", "127.0.0.1:0", "--threads", str(threads), "--slots", str(clients)],
                              stderr=subprocess.PIPE, text=True)
    for line in server.stderr:
        found = re.search(r"served at (http\S+)/v1", line)
        if found:
            threading.Thread(target=server.stderr.read, daemon=True).start()
            return server, found[1]
    sys.exit("chat --serve did not start")


def theirs():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    server = subprocess.Popen([sys.executable, "-m", "llama_cpp.server", "--model", gguf, "--port", str(port), "--n_threads", str(threads),
                               "--n_threads_batch", str(threads), "--n_ctx", "512", "--verbose", "false"],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    for _ in range(600):
        try:
            urllib.request.urlopen(url + "/v1/models", timeout=5)
            return server, url
        except OSError:
            time.sleep(0.1)
    sys.exit("llama_cpp.server did not start")


servers = [ours(), theirs()]
try:
    rates = [], []
    for r in range(rounds + 1):         # the first round only warms up
        for i, (_, url) in enumerate(servers):
            found = rate(url)
            if r:
                rates[i].append(found)
    a, b = statistics.median(rates[0]), statistics.median(rates[1])
    print(f"* serve, {clients} clients, {threads} threads: {a:.0f} tokens/s, llama-cpp-python {llama_cpp.__version__} {b:.0f}, ratio {a / b:.2f}"
          f" ({min(x / y for x, y in zip(*rates)):.2f} to {max(x / y for x, y in zip(*rates)):.2f})")
finally:
    for server, _ in servers:
        server.terminate()
