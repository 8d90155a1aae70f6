#!/bin/sh
# check_openai.sh - the real clients (openai and langchain-openai from PyPI) talk to chat --serve; skipped where PYTHON
# (python3) has no openai, or chat was built without libmicrohttpd.
cd "$(dirname "$0")/.." || exit 1
. test/lib.sh
: "${PYTHON:=python3}"
python_has openai
"$BUILD/test/tool_talker" "$work" sft.ckpt 2 quartet 256 && "$BUILD/test/tool_talker" "$work" base.ckpt 1 none 256 || { wrong "no models"; finish; }
servers=
trap 'kill $servers 2>/dev/null; rm -rf "$work"' EXIT
for model in sft base; do
    : >"$work/$model.log"
    "$BIN/chat" --model "$work/$model.ckpt" --serve 127.0.0.1:0 >"$work/$model.log" 2>&1 &
    servers="$servers $!"
    i=0
    while ! grep -q 'served at\|libmicrohttpd' "$work/$model.log" && [ $i -lt 200 ]; do sleep 0.05; i=$((i + 1)); done
    grep -q libmicrohttpd "$work/$model.log" && skip "chat was built without libmicrohttpd"
done
address() { sed -n 's/.*served at \(http[^ ]*\):.*/\1/p' "$work/$1.log"; }
timeout 120 "$PYTHON" test/openai_agrees.py "$(address sft)" "$(address base)"
