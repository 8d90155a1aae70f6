#!/bin/sh
# check_transformers.sh - the real transformers loads what `ckpt export` writes and computes the same; skipped where
# PYTHON (python3) has no transformers and torch.
cd "$(dirname "$0")/.." || exit 1
. test/lib.sh
: "${PYTHON:=python3}"
python_has transformers
python_has torch
dir=$work
sh test/small_data.sh "$dir"
tiny="--layers 2 --channels 32 --context 128 --vocab-size 400 --lr 3e-3 --steps 30 --batch-tokens 512 --micro-tokens 512 --validation 0"
quiet() { "$@" >"$dir/out" 2>&1 || { wrong "$*"; finish; }; }
printf '{"text":"The cat number 7 sees a dog."}\n{"text":" \\u00e9t\\u00e9  12345\\n\\nriver <|end|> x"}\n' >"$dir/rows.jsonl"
printf '{"prompt":"Who sees 3?"}\n{"prompt":"The cat"}\n' >"$dir/prompts.jsonl"
printf '{"prompt":"Who sees 3?","response":"The cat."}\n{"prompt":"Who?","response":"A dog 3."}\n' >"$dir/pairs.jsonl"
names=
for family in llama gpt2; do
    quiet "$BIN/pretrain" --data "$dir/text.txt" --preset $family $tiny --out "$dir/$family-base"
    for template in quartet chatml; do
        name=$family-$template
        quiet "$BIN/sft" --model "$dir/$family-base" --data "$dir/chats.jsonl" --template $template --steps 30 --lr 3e-3 --validation 0 --out "$dir/$name-sft"
        quiet "$BIN/rm" --model "$dir/$name-sft" --data "$dir/ranked.jsonl" --steps 5 --validation 0 --out "$dir/$name-rm"
        quiet "$BIN/rlhf" --policy "$dir/$name-sft" --reward "$dir/$name-rm" --prompts "$dir/chats.jsonl" --episodes 8 --max-new-tokens 8 --steps 2 --validation 0 --out "$dir/$name-rlhf"
        for stage in sft rm rlhf; do quiet "$BIN/ckpt" export "$dir/$name-$stage" --hf "$dir/hf-$name-$stage"; done
        for stage in sft rlhf; do
            "$BIN/chat" --model "$dir/$name-$stage" --logprobs "$dir/rows.jsonl" >"$dir/$name-$stage.logprobs" || { wrong "$name"; finish; }
            "$BIN/chat" --model "$dir/$name-$stage" --prompts "$dir/prompts.jsonl" --temperature 0 --max-new-tokens 12 >"$dir/$name-$stage.answers" || { wrong "$name"; finish; }
        done
        "$BIN/rm" --score --model "$dir/$name-rm" "$dir/pairs.jsonl" >"$dir/$name.scores" || { wrong "$name"; finish; }
        names="$names $name"
    done
done
for case in ${SHARED:-../shared}/golden/*/; do
    name=$(basename "$case")
    "$BIN/ckpt" import "$case" --out "$dir/g.ckpt" >/dev/null 2>&1 && "$BIN/ckpt" export "$dir/g.ckpt" --hf "$dir/golden-$name" >/dev/null 2>&1
done
"$PYTHON" test/transformers_agree.py "$dir" $names
