"""decode_beside.py - tokens/s of decoding 1, 8 and 32 sequences at once: ours (decode_model) beside llama.cpp, with the same float32
weights, in turn.  Usage: decode_beside.py DECODE_MODEL MODEL.ckpt MODEL.gguf THREADS ROUNDS.
llama.cpp gets every help: one batch of n sequences a step through llama_decode, keys and values in float32, logits but no sampling,
which ours includes.  Shares of this machine's limits: bytes of weights read or operations, whichever takes longer."""
import ctypes
import statistics
import subprocess
import sys

import llama_cpp as l

program, checkpoint, gguf = sys.argv[1:4]
threads, rounds = map(int, sys.argv[4:6])
batches, length, goals = (1, 8, 32), 32, {1: (85, 1.7), 8: (75, 4), 32: (55, 5)}

ours = subprocess.Popen([program, checkpoint, str(threads)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                        text=True)


def ask(n):
    ours.stdin.write(f"{n}\n")
    ours.stdin.flush()
    return [float(x) for x in ours.stdout.readline().split()]


silent = l.llama_log_callback(lambda level, text, data: None)
l.llama_log_set(silent, ctypes.c_void_p(0))
l.llama_backend_init()
how = l.llama_model_default_params()
how.use_mmap = False                            # memory of its own, which can have large pages
model = l.llama_model_load_from_file(gguf.encode(), how)
assert model, f"llama.cpp cannot load {gguf}"


def theirs(n):
    """Tokens/s of n sequences side by side."""
    params = l.llama_context_default_params()
    params.n_ctx, params.n_batch, params.n_ubatch, params.n_seq_max = 64 * n, n, n, n
    params.n_threads = params.n_threads_batch = threads
    params.type_k = params.type_v = l.GGML_TYPE_F32
    context = l.llama_init_from_model(model, params)
    batch = l.llama_batch_init(n, 0, 1)
    batch.n_tokens = n

    def step(position):
        for i in range(n):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = 11 + position * 97 + i, position, 1, True
            batch.seq_id[i][0] = i
        assert l.llama_decode(context, batch) == 0

    step(0)                                     # warms up
    l.llama_memory_clear(l.llama_get_memory(context), True)
    start = l.llama_time_us()
    for position in range(length):
        step(position)
    seconds = (l.llama_time_us() - start) / 1e6
    l.llama_batch_free(batch)
    l.llama_free(context)
    return n * length / seconds


print(f"llama-cpp-python {l.__version__}: {l.llama_print_system_info().decode()}")
limits, rates = [], {n: ([], []) for n in batches}
for r in range(rounds + 1):                     # the first round only warms up
    found = ask(0)
    for n in batches:
        pair = ask(n)[0], theirs(n)
        if r:
            rates[n][0].append(pair[0])
            rates[n][1].append(pair[1])
    if r:
        limits.append(found)
read, peak, weights = (statistics.median(column) for column in zip(*limits))
print(f"this machine: read {read / 1e9:.1f} GB/s, multiply-adds {peak / 1e9:.1f} GF")
for n in batches:
    a, b = statistics.median(rates[n][0]), statistics.median(rates[n][1])
    seconds = 4 * weights / read, 2 * weights * n / peak
    what = "read bandwidth" if seconds[0] > seconds[1] else "peak"
    share = 100 * max(seconds) / n
    print(f"* decoding {n} at once, {threads} threads: {a:.0f} tokens/s, {a * share:.0f} % of the {what} (goal {goals[n][0]}); llama.cpp "
          f"{b:.0f}, {b * share:.0f} %; {a / b:.2f} times as fast (goal {goals[n][1]}; "
          f"{min(x / y for x, y in zip(*rates[n])):.2f} to {max(x / y for x, y in zip(*rates[n])):.2f})", flush=True)
