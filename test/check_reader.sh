#!/bin/sh
# check_reader.sh - the second reader (test/reader.py, from SPEC.md alone) agrees with ckpt on whole files, and refuses every broken one.
cd "$(dirname "$0")/.." || exit 1
: "${ASAN_OPTIONS:=detect_leaks=1}"
. test/lib.sh
bad() { failed=$((failed + 1)); echo "$@" >&2; }
python3 -c 'import json, struct, zlib, sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || skip "no python3 (3.10 or later)"
dir=$work
export PYTHONDONTWRITEBYTECODE=1
mkdir "$dir/base" "$dir/sft" "$dir/rm" "$dir/rlhf" "$dir/broken"
"$BUILD/test/tool_save" chain "$dir" && "$BUILD/test/tool_broken" "$dir/broken" || bad "no files to read"
"$BIN/ckpt" strip "$dir/rlhf" "$dir/stripped.ckpt" >/dev/null || bad "strip failed"
for f in "$dir"/*/final.ckpt "$dir/stripped.ckpt" "$dir"/broken/good*.ckpt; do
    python3 test/reader_agrees.py "$BIN/ckpt" "$f" && ok || bad "$f: the readers disagree"
done
# One process for all broken files: V, C6 and ST2 are about values, which reader.py does not judge.
python3 - "$dir/broken" <<'END' && ok || bad "reader.py accepts a broken file"
import os, re, sys
sys.path.insert(0, "test")
import reader
accepted = []
for name in sorted(os.listdir(sys.argv[1])):
    if re.match("good|V|C6|ST2", name):
        continue
    try:
        reader.read(os.path.join(sys.argv[1], name))
        accepted.append(name)
    except (ValueError, reader.struct.error, reader.zlib.error, MemoryError, OverflowError):
        pass
print(*accepted)
sys.exit(1 if accepted else 0)
END
finish
