#!/bin/bash
# chain.sh SBATCH-OPTIONS... - the four stages as jobs, each of which waits for the one before:  chain.sh --partition=cpu
: "${BIN:=bin}" "${RUNS:=runs}" "${STAGE:=$(dirname "$0")/stage.sbatch}"
: "${PRETRAIN:=--data corpus --tokens 200M}" "${SFT:=--data chats.jsonl}" "${RM:=--data ranked.jsonl}" "${RLHF:=--prompts prompts.jsonl}"
set -e
a=$(sbatch --parsable "$@" "$STAGE" "$BIN/pretrain" $PRETRAIN --out "$RUNS/base")
b=$(sbatch --parsable -d "afterok:$a" "$@" "$STAGE" "$BIN/sft" --model "$RUNS/base" $SFT --out "$RUNS/sft")
c=$(sbatch --parsable -d "afterok:$b" "$@" "$STAGE" "$BIN/rm" --model "$RUNS/sft" $RM --out "$RUNS/rm")
d=$(sbatch --parsable -d "afterok:$c" "$@" "$STAGE" "$BIN/rlhf" --policy "$RUNS/sft" --reward "$RUNS/rm" $RLHF --out "$RUNS/rlhf")
echo "$a $b $c $d"
