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
function plain(key, b, f) { work(key, b, f); scalar[key] = 1 }          # on float32 units, not tensor cores
function few(x) { return sprintf(x < 1e5 ? "%.3f" : "%.1f", x / 1e6) }
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
    work("norm forward_rows", 4 * N * C);                 work("norm backward_rows", 8 * N * C)
    work("norm column_groups<norm_weight_term>", 4 * N * C); work("norm column_groups<norm_bias_term>", 2 * N * C)
    work("optimizer update", 32 * P);                      work("optimizer square_blocks", 4 * P)
    work("optimizer average_in", 12 * P);                  work("optimizer fill_with", 4 * P)
    work("optimizer add_to", 12 * P)
    # as many key heads as query heads, of 64 channels: qkv is 3 C wide, and the partial sums of 16 rows 128
    work("qk forward_heads", 12 * N * C + 8 * N * H);      work("qk backward_heads", 12 * N * C + 8 * N * H + 32 * N)
    work("qk column_groups<qk_weight_term>", 16 * N);      work("qk column_add<float>", 24 * 64)
    work("value forward", 2 * N * C);                      work("value backward", 2 * N * C)
    # heads of another size: C / D of them; groups of 128 rows; R rows that are sampled, at position T
    R = 256; groups = N / 128
    split("<1, 32> <2, 8> <4, 4> <4, 2>", variant, "> "); split("1024 256 128 64", size, " ")
    for (i = 1; i <= 4; i++) {
        name = variant[i] (i < 4 ? ">" : ""); lines = 4 * N * C / size[i]
        plain("attention attend" name, N * 8 * C + lines, 2 * N * T * C)
        plain("attention_backward query_gradients" name, N * 10 * C + 2 * lines, 3 * N * T * C)
        plain("attention_backward key_gradients" name, N * 12 * C + 2 * lines, 4 * N * T * C)
    }
    for (D = 128; D <= 256; D *= 2) {
        work("flash flash_attend " D, N * (8 * C + 4 * C / D), 2 * N * T * C)
        work("flash_backward flash_queries " D, N * (10 * C + 8 * C / D), 3 * N * T * C)
        work("flash_backward flash_keys " D, N * (12 * C + 8 * C / D), 4 * N * T * C)
    }
    work("flash flash_combine", R * (H * T / 256 * 66 * 4 + 2 * C)); work("attention write_cache", 8 * N * C)
    work("matmul add_bias", 8 * N * V);                    work("matmul column_add<float>", (4 * groups + 8) * F)
    work("matmul round_rows", 6 * F * C);                  work("norm column_add<float>", (4 * groups + 8) * C)
    work("ops add_acts", 6 * N * C)
    work("ops copy_rows", 4 * N * C);                      work("ops fill_positions", 4 * N)
    work("optimizer add_acts", 6 * N * C);                 work("peak numbers", 2 * 8192 * 8192)
    work("exact many_sizes", 2 * N * C);                   work("exact take_rows<float>", 8 * R * V)
    work("exact take_rows<__nv_bfloat16>", 4 * N * C);
    work("sampling sample", 8 * R * V);                    work("sampling join_logits", 8 * R * V)
    work("token_loss loss_rows", 6 * N * V);               work("token_loss part_rows", 4 * N * V)
    work("token_loss column_add<float>", (4 * groups + 8) * V)
    work("token_loss column_groups<head_bias_term>", 2 * N * V)
    work("value column_add<double>", (8 * groups + 8) * C); work("value column_groups<value_weight_term>", 2 * N * C)
    work("value column_groups<value_bias_term>", 4 * N)
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
        if (name ~ /^qk forward_heads/) shared = 64 * 4             # as qk.cu asks for
        if (name ~ /^qk backward_heads/) shared = 8 * (2 * 64 + 64) * 4
        if (name ~ /flash</) {
            shared += flash(name)
            key = name; sub(/<flash</, " ", key); sub(/,.*/, "", key)
        }
        split(name, part, " ")
        print part[1] " | `" substr(name, length(part[1]) + 2) "` | " threads " | " used[name, "sm_80"] ", " \
              used[name, "sm_90"] " | " shared " | " occupancy(used[name, "sm_80"], threads, shared, 164) ", " \
              occupancy(used[name, "sm_90"], threads, shared, 228) " | " \
              (bytes[key] ? few(bytes[key]) : "-") " | " (flop[key] ? sprintf("%.1f", flop[key] / 1e9) : "-") \
              " | " (bytes[key] ? time(bytes[key], flop[key], 2039e9, scalar[key] ? 19.5e12 : 312e12) ", " \
              time(bytes[key], flop[key], 3350e9, scalar[key] ? 67e12 : 989e12) : "-")
    }
}
