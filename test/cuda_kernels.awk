# cuda_kernels.awk - the rows of docs/cuda-kernels.md, from the reports of ptxas (names demangled) for sm_80 and sm_90.
function least(a, b) { return a < b ? a : b }

# A multiprocessor's blocks: by registers (in each of its four parts, in steps of 8 a thread), threads, shared memory.
function occupancy(used, threads, shared, kib,    warps, blocks) {
    warps = 4 * int(16384 / 32 / (int((used + 7) / 8) * 8))
    blocks = least(least(int(warps / (threads / 32)), 32), int(2048 / threads))
    return sprintf("%.0f", 100 * threads * least(blocks, int(kib * 1024 / (shared + 1024))) / 2048)
}

# flash<WIDTH, WARPS, STREAM>: what a launch asks for, as flash.cu and flash_backward.cu do.
function flash(name,    part, width, rows, stream, own, streamed) {
    match(name, /flash<[0-9]+, [0-9]+, [0-9]+>/)
    split(substr(name, RSTART + 6, RLENGTH - 7), part, ", ")
    width = part[1]; rows = part[2] * 16; stream = part[3]
    own = rows * (width + 8) * 2; streamed = stream * (width + 8) * 2
    threads = part[2] * 32
    if (name ~ /flash_attend/) return rows * width * 4 + 4 * streamed + (width <= 128 ? 0 : own)
    return 2 * own + 4 * streamed + 2 * 8 * stream
}

# Bytes and floating-point operations in the example of the document; 0 bytes: not in it.
function work(key, b, f) { bytes[key] = b; flop[key] = f }
function time(b, f, per_second, peak,    t) {
    t = b / per_second; if (f / peak > t) t = f / peak
    return sprintf("%.1f", t * 1e6)
}

BEGIN {
    N = 8192; T = 1024; C = 1024; H = 16; F = 4096; V = 50304; P = 355e6
    work("activation swiglu_forward", 6 * N * F);          work("activation swiglu_backward", 10 * N * F)
    work("activation forward", 4 * N * F);                 work("activation backward", 6 * N * F)
    work("attention_backward row_deltas", 4 * N * C + 4 * N * H)
    work("embed look_up", 10 * N * C);                     work("embed add_rows", 10 * N * C)
    work("flash flash_attend 64", N * (8 * C + 4 * H), 2 * N * T * C)
    work("flash_backward flash_queries 64", N * (10 * C + 8 * H), 3 * N * T * C)
    work("flash_backward flash_keys 64", N * (12 * C + 8 * H), 4 * N * T * C)
    work("matmul convert", 6 * F * C);                     work("matmul column_groups<matmul_bias_term>", 2 * N * F)
    work("norm forward_lines", 4 * N * C);                 work("norm backward_lines", 8 * N * C)
    work("norm column_groups<norm_weight_term>", 4 * N * C); work("norm column_groups<norm_bias_term>", 2 * N * C)
    work("optimizer update", 32 * P);                      work("optimizer square_blocks", 4 * P)
    work("optimizer average_in", 12 * P);                  work("optimizer fill_with", 4 * P)
    work("optimizer add_to", 12 * P);                      work("rope rotate_pairs", 8 * N * C)
    work("value forward", 2 * N * C);                      work("value backward", 2 * N * C)
}

/Compiling entry function/ {
    split($0, part, "\047")
    file = FILENAME; sub(/.*\//, "", file); sub(/\.[a-z]*$/, "", file)
    name = part[2]; target = part[4]
    sub(/^void /, "", name)
    while (sub(/\([^()]*\)/, "", name)) continue
    name = file " " name
}

/Used [0-9]+ registers/ {
    shared = 0
    for (i = 1; i <= NF; i++) {
        if ($i ~ /^registers/) used[name, target] = $(i - 1)
        if ($i ~ /^smem/) shared = $(i - 2)
    }
    if (!(name in fixed)) order[++n] = name
    fixed[name] = shared
}

END {
    for (k = 1; k <= n; k++) {
        name = key = order[k]
        shared = fixed[name]
        threads = name ~ /^attention(_backward)? (attend|query_gradients|key_gradients)/ ? 128 : 256
        if (name ~ /flash</) {
            shared += flash(name)
            key = name; sub(/<flash</, " ", key); sub(/,.*/, "", key)
        }
        split(name, part, " ")
        print part[1] " | `" substr(name, length(part[1]) + 2) "` | " threads " | " used[name, "sm_80"] ", " \
              used[name, "sm_90"] " | " shared " | " occupancy(used[name, "sm_80"], threads, shared, 164) ", " \
              occupancy(used[name, "sm_90"], threads, shared, 228) " | " \
              (bytes[key] ? sprintf("%.1f", bytes[key] / 1e6) : "-") " | " (flop[key] ? sprintf("%.1f", flop[key] / 1e9) : "-") \
              " | " (bytes[key] ? time(bytes[key], flop[key], 2039e9, 312e12) ", " time(bytes[key], flop[key], 3350e9, 989e12) : "-")
    }
}
