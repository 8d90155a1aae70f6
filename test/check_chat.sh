#!/bin/sh
# check_chat.sh - chat with a model whose every word is known (tool_talker.c): answers, dialogues, pipes, signals, refusals.
cd "$(dirname "$0")/.." || exit 1
: "${ASAN_OPTIONS:=detect_leaks=1}"
. test/lib.sh
talker=$BUILD/test/tool_talker
chat=$BIN/chat

check() {          # check NAME EXPECTED FOUND
    if [ "$2" = "$3" ]; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "$1: expected '$2', found '$3'"; fi
}
says() {           # says NAME CODE WORDS COMMAND...: the command ends with CODE and has WORDS on stderr
    name=$1 code=$2 words=$3
    shift 3
    "$@" >"$work/out" 2>"$work/err"
    check "$name (code)" "$code" $?
    grep -q -- "$words" "$work/err" && ok || { failed=$((failed + 1)); echo "$name: no '$words' in: $(cat "$work/err")"; }
}

"$talker" "$work" base.ckpt 1 none 64 && "$talker" "$work" sft.ckpt 2 quartet 64 && "$talker" "$work" rm.ckpt 3 none 64 &&
    "$talker" "$work" rlhf.ckpt 4 quartet 64 && "$talker" "$work" long.ckpt 1 none 30000 &&
    "$talker" "$work" bare.ckpt 1 bare 64 || { wrong "no models to talk to"; finish; }

# Answers.
check "sft answers" "Hi!" "$("$chat" --model "$work/sft.ckpt" --prompt 'who is there?' 2>&1)"
check "rlhf answers" "Hi!" "$("$chat" --model "$work/rlhf.ckpt" --prompt x --system 'Be kind.' 2>&1)"
check "averaged weights answer" "Ho!" "$("$chat" --model "$work/rlhf.ckpt" --ema --prompt x 2>&1)"
check "base goes on" "$(printf 'bc\303\251\033[')" "$("$chat" --model "$work/base.ckpt" --prompt a 2>&1)"
check "sft goes on with --raw" "$(printf 'bc\303\251\033[')" "$("$chat" --model "$work/sft.ckpt" --raw --prompt a 2>&1)"
check "length" yyyyy "$("$chat" --model "$work/base.ckpt" --prompt y --max-new-tokens 5 2>&1)"
check "end of the context" 62 "$("$chat" --model "$work/base.ckpt" --prompt y 2>"$work/err" | tr -d '\n' | wc -c | tr -d ' ')"
check "the end of the context is told" "(the answer was cut after 62 tokens: the context of 64 tokens is full)" "$(cat "$work/err")"

# At temperature 100 nearly every token is likely: the seed decides, and the number of threads does not.
draw() { "$chat" --model "$work/base.ckpt" --prompt q --temperature 100 --top-p 1 --max-new-tokens 20 "$@" 2>&1 | od -c; }
check "seed" "$(draw --seed 5)" "$(draw --seed 5 --threads 3)"
[ "$(draw --seed 5)" != "$(draw --seed 6)" ] && ok || wrong "seeds 5 and 6 draw the same"
check "temperature 0" "$(draw --temperature 0 --seed 5)" "$(draw --temperature 0 --seed 6)"
check "top-k 1" "$(draw --top-k 1 --seed 5)" "$(draw --temperature 0 --seed 6)"

# A pipe: a message a line, commands, empty lines; a full context.
check "pipe" "Hi! Hi! " "$(printf 'one\n\n/help\r\ntwo' | "$chat" --model "$work/sft.ckpt" 2>/dev/null | tr '\n' ' ')"
check "quit" "Hi! " "$(printf 'one\n/quit\ntwo\n' | "$chat" --model "$work/sft.ckpt" 2>/dev/null | tr '\n' ' ')"
for i in 1 2 3 4 5 6; do echo "message $i"; done >"$work/lines"
says "long dialogue" 0 'context of 64 tokens is full: the oldest 2 messages are forgotten' "$chat" --model "$work/sft.ckpt" <"$work/lines"
check "all answered" 6 "$(grep -c 'Hi!' "$work/out")"
{ head -n 3 "$work/lines"; echo /reset; head -n 3 "$work/lines"; } >"$work/reset"
"$chat" --model "$work/sft.ckpt" <"$work/reset" >/dev/null 2>"$work/err"
check "reset" "" "$(cat "$work/err")"
# A model of another origin ends where its own files say, and so does what is made of it.
"$BIN/ckpt" export "$work/bare.ckpt" --hf "$work/hf" >/dev/null 2>&1
goes_on=$(printf 'bc\303\251\033[')
check "no end of a text is known" "$goes_on</s>" "$("$chat" --model "$work/hf" --prompt a --max-new-tokens 7 2>/dev/null)"
sed 's/"eos_token_id": \[\]/"eos_token_id": [300, 256]/' "$work/hf/generation_config.json" >"$work/generation"
mv "$work/generation" "$work/hf/generation_config.json"
says "the end of a text" 0 'a text ends with the token </s>' "$chat" --model "$work/hf" --prompt a
check "a text ends as its origin says" "$goes_on" "$(cat "$work/out")"
"$BIN/ckpt" import "$work/hf" --out "$work/ends.ckpt" >/dev/null 2>&1 && "$BIN/ckpt" export "$work/ends.ckpt" --gguf "$work/ends.gguf" >/dev/null 2>&1
check "in a checkpoint too" "$goes_on" "$("$chat" --model "$work/ends.ckpt" --prompt a 2>&1)"
check "in a GGUF file too" "$goes_on" "$("$chat" --model "$work/ends.gguf" --prompt a 2>/dev/null)"
printf '{"eos_token_id": ' >"$work/hf/generation_config.json"
says "a broken file beside the model" 65 'generation_config.json: not a JSON object' "$chat" --model "$work/hf" --prompt a
long=$(printf '%080d' 0)
says "nothing to begin with" 65 'the tokenizer has no token that begins a document' "$chat" --model "$work/bare.ckpt" --prompt ''
check "with a text it goes on" "$(printf 'bc\303\251\033[')" "$("$chat" --model "$work/bare.ckpt" --prompt a --max-new-tokens 6 2>&1)"
says "message too long" 65 'the context of this model is 64' "$chat" --model "$work/sft.ckpt" --prompt "$long"
says "only one line too long" 0 'the context of this model is 64' "$chat" --model "$work/sft.ckpt" <<EOF
$long
short
EOF
check "the short one is answered" "Hi!" "$(cat "$work/out")"
says "text too long" 0 'the first 34 tokens of the text are left out' "$chat" --model "$work/base.ckpt" --prompt "${long}a"
check "its end is read" "$(printf 'bc\303\251\033[')" "$(cat "$work/out")"

# Ctrl-C ends an answer.
: >"$work/out"
"$chat" --model "$work/long.ckpt" --prompt y --max-new-tokens 1000000 >"$work/out" 2>"$work/err" &
i=0
while [ ! -s "$work/out" ] && [ $i -lt 100 ]; do sleep 0.1; i=$((i + 1)); done
kill -INT $!
wait $!
check "Ctrl-C (code)" 0 $?
check "Ctrl-C" "(stopped)" "$(cat "$work/err")"

# Commands: another answer, another system message, a file of the dialogue, several answers.
commands() { printf '%s\n' "$@" | "$chat" --model "$work/sft.ckpt" 2>"$work/err" | tr '\n' ' '; }
check "regenerate" "Hi! Hi! " "$(commands one /regenerate "/save $work/saved.jsonl")"
check "save" '{"messages":[{"role":"user","content":"one"},{"role":"assistant","content":"Hi!"}]}' "$(cat "$work/saved.jsonl")"
check "system" "Hi! Hi! " "$(commands '/system Be kind.' one /system '/system Be "brief".' two "/save $work/saved.jsonl")"
check "saved system message" '{"messages":[{"role":"system","content":"Be \"brief\"."},{"role":"user","content":"one"}' \
    "$(sed 's/,{"role":"assistant.*//' "$work/saved.jsonl")"
check "system and reset" "Hi! Hi! " "$(commands '/system Be kind.' one /reset two "/save $work/saved.jsonl")"
check "the system message stays" '{"messages":[{"role":"system","content":"Be kind."},{"role":"user","content":"two"}' \
    "$(sed 's/,{"role":"assistant.*//' "$work/saved.jsonl")"
check "nothing to regenerate" "" "$(commands /regenerate /save "/save $work/nowhere/x")"
check "that is told" "no answer yet:needs the name:nowhere:" \
    "$(grep -oE 'no answer yet|needs the name|nowhere' "$work/err" | uniq | tr '\n' ':')"
check "a message that is no command" "Hi! " "$(commands /systematic)"
check "samples" "Hi! Hi! Hi! " "$("$chat" --model "$work/sft.ckpt" --prompt a --samples 3 2>&1 | tr '\n' ' ')"
draw_lines() { printf '%s\n' "$@" | "$chat" --model "$work/base.ckpt" --temperature 100 --top-p 1 --max-new-tokens 9 2>/dev/null | od -c; }
check "an answer anew is the next sample" "$(printf 'q\nq\n' | "$chat" --model "$work/base.ckpt" --temperature 100 --top-p 1 \
    --max-new-tokens 9 2>/dev/null | od -c)" "$(draw_lines q /regenerate)"
check "continued text, saved" '{"text":"abc' "$(printf 'a\n/save %s\n' "$work/saved.jsonl" | "$chat" --model "$work/base.ckpt" \
    >"$work/out" 2>&1; cut -c -12 "$work/saved.jsonl")"

# A terminal: a prompt, and control characters of the model's are shown, not sent.
if [ "$(script -qec "echo there" /dev/null </dev/null 2>/dev/null | tr -d '\r\n')" = there ]; then
    printf 'a\n/quit\n' | script -qec "'$chat' --model '$work/base.ckpt'" /dev/null >"$work/out" 2>&1
    grep -q 'bcé\\x1b\[' "$work/out" && ok || { failed=$((failed + 1)); echo "terminal: $(od -c "$work/out")"; }
    grep -q 'step 7, llama' "$work/out" && ok || wrong "no greeting"
    # types MODEL {WORDS KEYS}...: on a terminal, the keys as soon as the words are there; what it shows into out
    types() {
        model=$1; shift
        : >"$work/out"
        while [ $# -gt 0 ]; do
            i=0
            while ! grep -qaF -- "$1" "$work/out" && [ $i -lt 200 ]; do sleep 0.05; i=$((i + 1)); done
            printf "$2"
            shift 2
        done | { TERM=xterm timeout 60 script -qec "exec '$chat' --model '$work/$model' --max-new-tokens 100000" /dev/null
            echo "code $?"; } >"$work/out" 2>&1         # not said by the shell in there, which Ctrl-C may end
    }
    shows() {      # shows NAME WORDS
        grep -q -- "$2" "$work/out" && ok || { failed=$((failed + 1)); echo "$1: no '$2' in: $(od -c "$work/out")"; }
    }
    types sft.ckpt '> ' '\003' 'Ctrl-C again' '\003' code ''
    shows "Ctrl-C while waiting" 'Ctrl-C again or Ctrl-D: end'
    shows "a second one ends (code)" 'code 0'
    types long.ckpt '> ' 'y\r' yyyyy '\003' '(stopped)' '/help\r' 'this list' '\004' code ''
    shows "Ctrl-C stops an answer" '(stopped)'
    shows "and not the program" 'answer the last message anew'
    shows "Ctrl-D (code)" 'code 0'
    types long.ckpt '> ' 'y\r' yyyyy '\003' '(stopped)' '\003' code ''
    shows "Ctrl-C, twice (code)" 'code 0'
    types sft.ckpt '> ' '/halp\r' Hi! '\004' code ''
    shows "a line that looks like a command" 'no command, so the model reads it: /help'
    # hangs_up NAME TERM: the terminal is gone while chat waits for a line
    mkfifo "$work/keys"
    hangs_up() {
        rm -f "$work/code"
        : >"$work/out"
        TERM=$2 script -qec "trap '' HUP; '$chat' --model '$work/sft.ckpt' 2>'$work/err'; echo code \$? >'$work/code'" \
            /dev/null <"$work/keys" >"$work/out" 2>&1 &
        exec 9>"$work/keys"
        i=0
        while ! grep -qa '> ' "$work/out" && [ $i -lt 200 ]; do sleep 0.05; i=$((i + 1)); done
        kill -KILL $!
        wait $! 2>/dev/null
        exec 9>&-
        i=0
        while [ ! -s "$work/code" ] && [ $i -lt 200 ]; do sleep 0.05; i=$((i + 1)); done
        check "a terminal that is gone, $1 (code)" 'code 74' "$(cat "$work/code")"
        check "a terminal that is gone, $1" 1 "$(grep -c 'chat: the input cannot be read: ' "$work/err")"
    }
    hangs_up "a line as it is" dumb
    if ldd "$chat" 2>/dev/null | grep -q libedit; then
        hangs_up "a line being edited" xterm
        types sft.ckpt '> ' 'thrx\177ee\r' Hi! '\033[A\001on\033[C\005!\r\033[A\r\033[A\033[A\r/help\r' 'this list' "/save $work/saved.jsonl\r" '(saved)' '\004' code ''
        check "lines edited and from the history, where a repeated one stands once (the oldest message is forgotten)" \
            '{"role":"user","content":"onthree!"} {"role":"user","content":"onthree!"} {"role":"user","content":"three"} ' \
            "$(grep -o '{"role":"user"[^}]*}' "$work/saved.jsonl" | tr '\n' ' ')"
    else
        omit "chat was built without libedit"
    fi
else
    omit "no program 'script' here, or no pseudo-terminal for it"
fi

# Refusals.
head -c 5000 "$work/sft.ckpt" >"$work/cut.ckpt"
says "reward model" 78 'stage rm, expected pretrain, sft, rlhf or imported' "$chat" --model "$work/rm.ckpt" --prompt a
: >"$work/nothing.jsonl"
says "a file without prompts" 65 'no prompt is left (of at most 32 tokens): there are no rows' "$chat" --model "$work/base.ckpt" \
    --prompts "$work/nothing.jsonl"
says "no such model" 66 'nowhere' "$chat" --model "$work/nowhere" --prompt a
says "half a model" 65 'cut.ckpt' "$chat" --model "$work/cut.ckpt" --prompt a
says "no averaged weights" 78 'holds no averaged weights' "$chat" --model "$work/sft.ckpt" --ema --prompt a
says "system without template" 64 'needs a model with a chat template' "$chat" --model "$work/base.ckpt" --system a --prompt a
says "no model" 64 'model' "$chat" --prompt a
says "bad number" 64 'temperature' "$chat" --model "$work/sft.ckpt" --temperature -1
cp "$work/sft.ckpt" "$work/bad.ckpt"
printf x | dd of="$work/bad.ckpt" bs=1 seek=$(($(wc -c <"$work/bad.ckpt") / 2)) conv=notrunc 2>/dev/null
says "weights that changed, and their file once" 65 "chat: $work/bad.ckpt: tensor " "$chat" --model "$work/bad.ckpt" --prompt a
says "a temperature too small to divide by" 64 "expected 0, or 0.01 to 100" "$chat" --model "$work/sft.ckpt" --temperature 1e-40
says "unknown option" 64 'did you mean --top-k' "$chat" --model "$work/sft.ckpt" --topk 5
says "closed input" 74 'input cannot be read' sh -c "'$chat' --model '$work/sft.ckpt' <&-"
says "full disk" 74 'answer cannot be written' sh -c "'$chat' --model '$work/sft.ckpt' --prompt a >/dev/full"

finish
