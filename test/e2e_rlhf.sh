#!/bin/sh
# e2e_rlhf.sh - the program rlhf as a user meets it, at the end of a tiny chain: base -> sft -> rm -> rlhf.  What it promises at
# its first batch, rewards from programs good and bad, the pretraining mix, parents that do not belong together, and a run
# killed in the middle of all its state (adaptive penalty, running reward statistics, averaged weights, text cursor).
cd "$(dirname "$0")/.." || exit 1
. test/lib.sh

# number RUN KEY first|last: a number of metrics.jsonl (records of updates alone)
number() {
    grep '"updates"' "$1/metrics.jsonl" | grep -o "\"$2\":[-0-9.e+a-z]*" | "$([ "$3" = first ] && echo head || echo tail)" -n 1 | cut -d: -f2
}
same_weights() { "$BIN/ckpt" diff --tensors "$1/final.ckpt" "$2/final.ckpt" >"$work/diff" 2>&1; }

# ---- the chain ---------------------------------------------------------------------------------------------------------------
awk -v out="$work" 'BEGIN {
    srand(4)
    split("red blue green small big old round bright", adjective, " ")
    split("cat dog bird fox stone river tree house", noun, " ")
    split("sees finds likes hears follows leaves", verb, " ")
    for (i = 1; i <= 500; i++) {
        a = adjective[1 + int(8 * rand())]; n = noun[1 + int(8 * rand())]; v = verb[1 + int(6 * rand())]; m = noun[1 + int(8 * rand())]
        text = "The " a " " n " " v " the " m "."
        print text "\n" (i % 5 ? "" : "<|endoftext|>") >(out "/corpus.txt")
        if (i > 160) continue
        ask = "What does the " a " " n " do?"
        printf "{\"prompt\":\"%s\",\"response\":\"The %s %s the %s.\"}\n", ask, n, v, m >(out "/chats.jsonl")
        printf "{\"prompt\":\"%s\",\"chosen\":\"The %s %s the %s.\",\"rejected\":\"No %s.\"}\n", ask, n, v, m, a >(out "/ranked.jsonl")
        printf "{\"prompt\":\"%s\",\"known\":%d}\n", ask, i >(out "/prompts.jsonl")
    }
}'
common="--threads 2 --seed 3"
base="--preset llama --layers 2 --channels 32 --heads 2 --ffn 64 --context 64 --steps 50 --batch-tokens 1024 --micro-tokens 512 --lr 3e-3"
small="--batch-tokens 1024 --micro-tokens 512 $common"
expect 0 "done" "$BIN/pretrain" --data "$work/corpus.txt" --vocab-size 300 $base --out "$work/base" $common
expect 0 "done" "$BIN/sft" --model "$work/base" --data "$work/chats.jsonl" --steps 60 --lr 3e-3 --out "$work/sft" $small
expect 0 "done" "$BIN/rm" --model "$work/sft" --data "$work/ranked.jsonl" --steps 20 --lr 1e-3 --out "$work/rm" $small

# rlhf RUN options...: a short run with its own defaults
bare="$BIN/rlhf --policy $work/sft --episodes 32 --minibatches 2 --ppo-epochs 2 --max-new-tokens 14 --micro-tokens 512 \
    --critic-warmup 1 --lr 1e-3 $common"
rlhf="$bare --prompts $work/prompts.jsonl"

# ---- with the reward model ---------------------------------------------------------------------------------------------------
expect 0 "ratio 1, and KL to the reference 0, to the last bit" $rlhf --reward "$work/rm" --steps 6 --out "$work/rlhf"
check "the first KL is exactly 0" [ "$(number "$work/rlhf" kl first)" = 0 ]
check "the warm-up leaves the policy alone" [ "$(number "$work/rlhf" kl_token last)" != 0 ]
check "the phases of every iteration add up to its seconds" sh -c 'grep "\"updates\"" "$1" | tr ",{}" "\n\n\n" |
    awk -F: "/^\"seconds\"/ { all = \$2; n++ } /^\"seconds_/ { all -= \$2 } /^\"seconds_update/ { bad += all > 1e-5 || all < -1e-5 }
        END { exit !(n == 6 && bad == 0) }"' - "$work/rlhf/metrics.jsonl"
check "rollouts are written" [ "$(grep -c '"response":' "$work/rlhf/rollouts.jsonl")" -eq 24 ]
check "held-out prompts are answered" grep -q '"val_reward":' "$work/rlhf/metrics.jsonl"
check "the progress line shows reward, divergence, length and entropy" grep -qE \
    "step 6/6  ETA [^ ]+  reward -?[0-9.e-]+  kl [0-9.e-]+  length [0-9.]+  entropy [0-9.]+  loss " "$work/rlhf/log.txt"
check "every key is there" sh -c 'for k in reward reward_std reward_min reward_max kl kl_token kl_coef objective episodes length eos_rate \
    entropy distinct_2 identical value explained_variance advantage policy_loss approx_kl_k1 approx_kl_k3 clip_fraction ratio_mean \
    ratio_max value_loss value_clip_fraction early_stops grad_norm critic.grad_norm; do
    tail -n 1 "$1" | grep -q "\"$k\":" || { echo "no $k"; exit 1; }; done' - "$work/rlhf/metrics.jsonl"
expect 0 "ok" "$BIN/ckpt" verify "$work/rlhf"
expect 0 "rlhf" "$BIN/ckpt" lineage "$work/rlhf"
for parent in base sft rm; do check "lineage names $parent" grep -q "$parent" "$work/out"; done
expect 0 "" "$BIN/chat" --model "$work/rlhf" --prompt "What does the fox do?" --max-new-tokens 8
expect 0 "step 6 was reached already" $rlhf --reward "$work/rm" --steps 6 --out "$work/rlhf"
expect 0 "KL to the reference 0" $rlhf --policy "$work/rlhf" --reward "$work/rm" --steps 2 --out "$work/again"
expect 0 "to train on" $rlhf --reward "$work/rm" --dry-run
mkfifo "$work/fifo"
{ echo '['; sed '$!s/$/,/' "$work/prompts.jsonl"; echo ']'; } >"$work/fifo" &
expect 0 "to train on" $bare --prompts "$work/fifo" --reward "$work/rm" --dry-run
expect 0 "to train on" "$BIN/rlhf" --policy "$work/sft" --reward "$work/rm" --prompts "$work/prompts.jsonl" --dry-run
check "a dry run shows tokens" grep -q "prompt 1: [0-9]* tokens" "$work/out"
expect 0 "rollouts" $rlhf --reward "$work/rm" --steps 6 --plan
planned=$(grep -o '[0-9.]*k per step' "$work/out")
expect 0 "$planned" $rlhf --reward "$work/rm" --steps 6 --plan --validation 0
expect 0 "ZeRO-3" $rlhf --reward "$work/rm" --steps 6 --plan --cluster "h100 x 8"

# By default: enough iterations for a small set of prompts, a warm-up that is a part of them, and a policy that moves.
expect 0 "the first 5 of 48 iterations train only the critic" "$BIN/rlhf" --policy "$work/sft" --reward "$work/rm" --prompts "$work/prompts.jsonl" \
    --max-new-tokens 14 --out "$work/defaults" $common
check "it makes 48 iterations" [ "$(number "$work/defaults" step last)" = 48 ]
check "the learning rate follows the width" grep -q "^lr = 0.0002$" "$work/defaults/run.conf"
check "by default the reward rises by more than noise" awk -v a="$(number "$work/defaults" reward first)" \
    -v b="$(number "$work/defaults" reward last)" -v s="$(number "$work/defaults" reward_std first)" 'BEGIN { exit !(b > a + s / 8) }'
tiny_warmup() { "$BIN/rlhf" --policy "$work/sft" --reward "$work/rm" --prompts "$work/prompts.jsonl" --episodes 4 --max-new-tokens 4 $common "$@"; }
for steps in 1 2 11; do
    tiny_warmup --steps $steps --out "$work/warmup$steps" >"$work/out" 2>&1
    check "the default warm-up is never the whole run: $steps" sh -c '! grep -q "policy learns nothing" "$1"' - "$work/out"
done

# Rewards and the critic's first values are in units of the normalised reward: the same model without its constants says raw scores.
"$BIN/rm" --model "$work/sft" --data "$work/ranked.jsonl" --steps 20 --lr 1e-3 --normalize none --out "$work/raw-rm" $small >"$work/out" 2>&1
expect 0 "done" $rlhf --reward "$work/raw-rm" --steps 1 --out "$work/raw"
mean=$("$BIN/ckpt" config "$work/rm" score.mean) deviation=$("$BIN/ckpt" config "$work/rm" score.std)
for key in reward value; do
    check "$key is (score - mean) / deviation" awk -v raw="$(number "$work/raw" $key first)" -v mean="$mean" -v deviation="$deviation" \
        -v got="$(number "$work/rlhf" $key first)" 'BEGIN { d = (raw - mean) / deviation - got; exit !(deviation != 1 && d < 1e-4 && d > -1e-4) }'
done

# rm --score reads rollouts.jsonl as it is; answers that were cut get the reward they had: both read at an end token.
expect 0 "done" $rlhf --reward "$work/rm" --steps 1 --max-new-tokens 3 --rollouts 32 --validation 0 --out "$work/cut"
"$BIN/rm" --score --model "$work/rm" "$work/cut/rollouts.jsonl" 2>&1 | grep -o '"reward": [-0-9.e]*' | cut -d' ' -f2 >"$work/scores"
sed -E 's/.*"stopped":([a-z]*),"reward":([-0-9.e+]*),.*/\1 \2/' "$work/cut/rollouts.jsonl" | paste -d' ' - "$work/scores" >"$work/pairs"
check "rm --score and rlhf agree on cut answers" awk '
    $1 == "false" { cut++; d = $2 - $3; agree += d < 1e-4 && d > -1e-4 }      # not where the text has a shorter tokenisation
    END { exit !(cut >= 8 && agree >= 0.75 * cut) }' "$work/pairs"

# ---- reward programs ---------------------------------------------------------------------------------------------------------
# Fewer bytes are better: a rule that a few iterations can learn.
cat >"$work/short.sh" <<'END'
while IFS= read -r line; do answer=${line#*\"response\":\"}; answer=${answer%\",\"stopped\"*}; echo "-$((${#answer} / 4))"; done
END
expect 0 "done" $rlhf --reward-cmd "sh $work/short.sh" --steps 15 --kl-coef 0.01 --lr 3e-3 --target-kl 0 --out "$work/short"
check "the rule is learned: reward" below "$(number "$work/short" reward first)" "$(number "$work/short" reward last)"
check "the rule is learned: length" below "$(number "$work/short" length last)" "$(number "$work/short" length first)"
# The request: prompt, messages, the row of the file, the answer; and both rewards added.
cat >"$work/both.sh" <<'END'
while IFS= read -r line; do printf '%s\n' "$line" >>"$1"; echo 1000; done
END
expect 0 "done" $rlhf --reward "$work/rm" --reward-cmd "sh $work/both.sh $work/requests" --reward-cmd-coef 2 \
    --validation 0 --steps 1 --out "$work/both"
both=$(number "$work/both" reward last) alone=$(number "$work/rlhf" reward first)
check "both rewards are added: $alone and $both" below 1800 "$(awk -v a="$both" -v b="$alone" 'BEGIN { print a - b }')"
check "a request is whole" grep -qE \
    '^\{"prompt":"What .*","messages":\[\{"role":"user","content":".*"\}\],"row":\{"prompt":".*","known":[0-9]+\},"response":".*","stopped":(true|false)\}$' "$work/requests"
check "a request an answer" [ "$(wc -l <"$work/requests")" -eq 32 ]

# A program that fails in the middle ends the run; the checkpoints before it stand, and the run goes on with a better one.
cat >"$work/dies.sh" <<'END'
n=0; while IFS= read -r line; do n=$((n + 1)); [ $n -gt 80 ] && [ -e "$1" ] && exit 7; echo 1; done
END
touch "$work/die"
dies="$rlhf --reward-cmd 'sh $work/dies.sh $work/die' --validation 0 --steps 4 --save-every 1 --out $work/dies"
timeout 120 sh -c "$dies" >"$work/out" 2>&1
check "a program that dies: code 65" [ $? -eq 65 ]
check "a program that dies is named" grep -q "ended with exit code 7 after 16 of 32 rewards" "$work/out"
expect 0 "ok" "$BIN/ckpt" verify "$work/dies"
rm "$work/die"
timeout 120 sh -c "$dies" >"$work/out" 2>&1
check "the run goes on when the program is mended" [ $? -eq 0 ] && check "from its last step" grep -q "resumes from step 2" "$work/out"
expect 65 "ended with exit code 7 after 1 of" $rlhf --validation 0.5 --reward-cmd "read -r x; echo 1; exit 7" --steps 2 --out "$work/dies-early"
check "it died during the first evaluation" [ ! -s "$work/dies-early/metrics.jsonl" ]
check "a program that dies during an evaluation: the status" grep -q '"state":"failed"' "$work/dies-early/status.json"
check "a program that dies during an evaluation: the log" grep -q "ended with exit code 7 after 1 of" "$work/dies-early/log.txt"
expect 65 "silent for 0.3 seconds" $rlhf --reward-cmd "sleep 60" --reward-timeout 0.3 --steps 2 --out "$work/hangs"
expect 65 "expected one finite number" $rlhf --reward-cmd "while read -r x; do echo good; done" --steps 2 --out "$work/rubbish"
expect 65 "expected one finite number" $rlhf --reward-cmd "while read -r x; do echo nan; done" --steps 2 --out "$work/nan"
expect 65 "ended with exit code 127" $rlhf --reward-cmd "no-such-program" --steps 2 --out "$work/none"

# ---- the pretraining mix -----------------------------------------------------------------------------------------------------
one="--reward-cmd 'sh $work/short.sh' --validation 0 --steps 3"
sh -c "$rlhf $one --out $work/plain" >/dev/null 2>&1
sh -c "$rlhf $one --ptx-data $work/corpus.txt --ptx-coef 0 --out $work/ptx0" >/dev/null 2>&1
sh -c "$rlhf $one --ptx-data $work/corpus.txt --ptx-coef 1 --ptx-tokens 600 --out $work/ptx1" >"$work/out" 2>&1
check "coefficient 0 has the bits of no mix" same_weights "$work/plain" "$work/ptx0"
second() { grep '"step":2,' "$work/$1/metrics.jsonl" | grep -o '"tokens":[0-9]*'; }           # the policy has not moved before
check "the text's tokens do not count" [ "$(second plain)" = "$(second ptx1)" ]
check "coefficient 1 has not" sh -c "! $BIN/ckpt diff --tensors $work/plain/final.ckpt $work/ptx1/final.ckpt >/dev/null 2>&1"
check "both norms are there" below 0 "$(number "$work/ptx1" grad_norm_ptx last)"
check "both norms are there (ppo)" below 0 "$(number "$work/ptx1" grad_norm_ppo last)"
check "the text's loss falls or stays" below "$(number "$work/ptx1" ptx_loss last)" 6
# 63 tokens between two end marks: a row of 64, and one of the last mark only, which has no target.
printf '%063d' 0 | tr 0 '~' >"$work/tail.txt"
sh -c "$rlhf $one --ptx-data $work/tail.txt --ptx-tokens 1 --out $work/tail" >"$work/out" 2>&1
check "a row without a target is no loss" [ "$(number "$work/tail" ptx_loss last)" != null ] && check "and no norm" below 0 "$(number "$work/tail" grad_norm_ptx last)"
# One update with coefficients 0, 1 and 2: g = g_ppo + coefficient * g_ptx, so the text's norm doubles to the bit, that of PPO stays, and
# |g(2)|^2 - 2 |g(1)|^2 + |g(0)|^2 = 2 |g_ptx|^2.
for coef in 0 1 2; do
    sh -c "$rlhf $one --steps 1 --minibatches 1 --ppo-epochs 1 --critic-warmup 0 --ptx-data $work/corpus.txt --ptx-tokens 600 --ptx-coef $coef \
        --out $work/mix$coef" >"$work/out" 2>&1
done
mix() { number "$work/mix$1" "$2" last; }
check "the mix is one update" [ "$(mix 0 updates) $(mix 1 updates) $(mix 2 updates)" = "1 1 1" ]
check "the mix leaves the gradient of PPO alone" [ "$(mix 0 grad_norm) $(mix 0 grad_norm)" = "$(mix 1 grad_norm_ppo) $(mix 2 grad_norm_ppo)" ]
check "the mix is proportional to its coefficient" awk -v a="$(mix 1 grad_norm_ptx)" -v b="$(mix 2 grad_norm_ptx)" 'BEGIN { exit !(a > 0 && b == 2 * a) }'
check "the mix adds to the gradient of PPO" awk -v zero="$(mix 0 grad_norm)" -v one="$(mix 1 grad_norm)" -v two="$(mix 2 grad_norm)" \
    -v text="$(mix 1 grad_norm_ptx)" 'BEGIN { d = (two ^ 2 - 2 * one ^ 2 + zero ^ 2) / (2 * text ^ 2) - 1; exit !(d < 1e-3 && d > -1e-3) }'

# ---- killed in the middle, everything on ---------------------------------------------------------------------------------------
all="--reward $work/rm --reward-cmd 'sh $work/short.sh' --ptx-data $work/corpus.txt --ptx-coef 0.5 --ptx-tokens 128 --ema 0.9 --kl-target 1 \
    --kl-horizon 200 --reward-norm whiten --reward-clip 2 --target-kl 0.01 --dual-clip 3 --entropy-coef 0.001 --temperature 0.9 --steps 12 \
    --save-every 1 --eval-every 4"
sh -c "exec $rlhf $all --out $work/whole" >"$work/out" 2>&1
check "a run with everything on ends" [ $? -eq 0 ]
check "beta has moved" [ "$(number "$work/whole" kl_coef last)" != "$(number "$work/whole" kl_coef first)" ]
for life in 2 5 8; do                                    # killed while they work on the step after this one
    sh -c "exec $rlhf $all --out $work/killed" >/dev/null 2>&1 &
    until grep -q "\"step\":$life," "$work/killed/metrics.jsonl" 2>/dev/null || ! kill -0 $! 2>/dev/null; do sleep 0.01; done
    kill -9 $! 2>/dev/null
    wait $! 2>/dev/null
done
sh -c "exec $rlhf $all --recompute block --slots 5 --threads 1 --out $work/killed" >"$work/out" 2>&1
check "it ends after three kills" [ $? -eq 0 ]
check "it went on in the middle" grep -q "resumes from step [1-9]" "$work/killed/log.txt"
check "with the same bits: weights, critic, moments, averages" same_weights "$work/whole" "$work/killed"
for file in metrics rollouts; do
    for run in whole killed; do
        sed -E 's/,"([a-z0-9_.]*second[a-z0-9_.]*|peak_share|host_bytes|device_bytes)":[^,}]*//g' "$work/$run/$file.jsonl" >"$work/$run.$file"
    done
    check "the same $file.jsonl" cmp -s "$work/whole.$file" "$work/killed.$file"
done

# Stopped while the policy waits: positions are counted as in a run that was not.
wait="$rlhf --reward $work/rm --critic-warmup 2 --schedule constant"
expect 0 "done: 2 steps" $wait --steps 2 --out "$work/waits"
check "a run of nothing but warm-up is warned of" said "the policy learns nothing: --critic-warmup 2 covers all 2 iterations"
expect 0 "done: 1 step," $wait --steps 1 --out "$work/halts"
expect 0 "done: 2 steps" $wait --steps 2 --out "$work/halts"
check "the same tokens" [ "$(number "$work/waits" tokens last)" = "$(number "$work/halts" tokens last)" ]

# ---- what does not belong together -----------------------------------------------------------------------------------------
head -c 6000 "$work/corpus.txt" | tr a-z b-za >"$work/other.txt"
"$BIN/pretrain" --data "$work/other.txt" --vocab-size 290 $base --steps 2 --out "$work/other-base" $common >/dev/null 2>&1
"$BIN/sft" --model "$work/other-base" --data "$work/chats.jsonl" --steps 2 --out "$work/other-sft" $small >/dev/null 2>&1
"$BIN/rm" --model "$work/other-sft" --data "$work/ranked.jsonl" --steps 2 --out "$work/other-rm" $small >/dev/null 2>&1
expect 78 "different tokenizers" $rlhf --reward "$work/other-rm" --steps 2 --out "$work/m1"
# A tokenizer with the special tokens of two templates: sft in one, reward model in the other.
"$BIN/sft" --model "$work/sft" --data "$work/chats.jsonl" --template chatml --steps 2 --out "$work/chatml" $small >/dev/null 2>&1
"$BIN/rm" --model "$work/chatml" --data "$work/ranked.jsonl" --steps 2 --out "$work/chatml-rm" $small >/dev/null 2>&1
"$BIN/sft" --model "$work/chatml" --data "$work/chats.jsonl" --template quartet --steps 2 --out "$work/quartet" $small >/dev/null 2>&1
expect 78 "chat template quartet" $rlhf --policy "$work/quartet" --reward "$work/chatml-rm" --steps 2 --out "$work/m2"
check "both templates are named" grep -q "in chatml" "$work/out"
expect 78 "--template chatml" $rlhf --reward "$work/rm" --template chatml --steps 2 --out "$work/m3"
expect 78 "of stage pretrain" $rlhf --policy "$work/base" --reward "$work/rm" --steps 2 --out "$work/m4"
expect 78 "of stage sft, expected rm" $rlhf --reward "$work/sft" --steps 2 --out "$work/m5"
cp -r "$work/sft" "$work/moved"
moved="$bare --policy $work/moved --prompts $work/prompts.jsonl --reward $work/rm --out $work/m0"
expect 0 "done" $moved --steps 2
cp "$work/again/final.ckpt" "$work/moved"
expect 78 "--policy holds other weights" $moved --steps 3
sed 's/"known":/"known":1/' "$work/prompts.jsonl" >"$work/known.jsonl"
cp "$work/prompts.jsonl" "$work/moved"
expect 0 "done: 8 steps" $bare --prompts "$work/moved/prompts.jsonl" --reward "$work/rm" --steps 8 --out "$work/rlhf"
expect 78 "started on other prompts" $bare --prompts "$work/known.jsonl" --reward "$work/rm" --steps 9 --out "$work/rlhf"
expect 78 "kl-coef" $rlhf --reward "$work/rm" --kl-coef 0.2 --steps 8 --out "$work/rlhf"
expect 64 "--episodes 32 / --kl-horizon 20 must be below 1" $rlhf --reward "$work/rm" --kl-target 6 --kl-horizon 20 --steps 2 --out "$work/m5a"
expect 64 "--kl-coef, which is 0" $rlhf --reward "$work/rm" --kl-target 6 --kl-coef 0 --steps 2 --out "$work/m5b"
check "refused options leave no run" [ ! -e "$work/m5a/metrics.jsonl" ]
expect 64 "no reward" $rlhf --steps 2 --out "$work/m6"
expect 64 "leaves no room for a prompt" $rlhf --reward "$work/rm" --max-new-tokens 64 --steps 2 --out "$work/m7"
expect 64 "less than the longest episode" $rlhf --reward "$work/rm" --micro-tokens 16 --steps 2 --out "$work/m8"
expect 64 "--minibatches 64 is more than" $rlhf --reward "$work/rm" --minibatches 64 --steps 2 --out "$work/m9"
expect 64 "--out is missing" $rlhf --reward "$work/rm" --steps 2
expect 65 "no prompt is left" $rlhf --reward "$work/rm" --max-prompt-tokens 3 --steps 2 --out "$work/m10"
echo '{"answer": 1}' >"$work/bad.jsonl"
expect 65 "bad.jsonl:1" $bare --prompts "$work/bad.jsonl" --reward "$work/rm" --steps 2 --out "$work/m11"
# what begins like JSON and is not is no question, in any of its rows; skipped where that is asked for
printf '{"prompt":"Hi","id":17911891234567890123}\n{"prompt":"Ho","score":NaN}\n{"prompt":"Hu\n' >"$work/cut.jsonl"
expect 65 "cut.jsonl:3: not JSON" $bare --prompts "$work/cut.jsonl" --reward "$work/rm" --dry-run
expect 0 "1  bad rows" $bare --prompts "$work/cut.jsonl" --reward "$work/rm" --validation 0 --skip-bad-rows 1 --dry-run
check "and the others are asked" said "2  prompts read"
expect 66 "no-such" $bare --prompts "$work/no-such.jsonl" --reward "$work/rm" --steps 2 --out "$work/m12"

# ---- prompts in every form ------------------------------------------------------------------------------------------------------
printf 'What does the cat do?\n\nWhat does the dog do?\n' >"$work/lines.txt"
printf '"What does the cat do?"\n"What does the cat do?"\n' >"$work/strings.jsonl"
printf '[{"messages":[{"role":"system","content":"Be kind."},{"role":"user","content":"Hi"},{"role":"assistant","content":"Yes."}]},{"turns":["A?","B?"]}]' >"$work/forms.json"
printf '{"instruction":"Count.","input":"1 2"}\n{"context":"Go on:","continuation":"x"}\n{"question":"Why?","answer":"So."}\n' | gzip >"$work/forms.jsonl.gz"
expect 0 "9  prompts read" $bare --prompts "$work/lines.txt" "$work/strings.jsonl" "$work/forms.json" \
    "$work/forms.jsonl.gz" --reward "$work/rm" --validation 0 --dry-run
check "all are kept" grep -qE " 9  to train on" "$work/out"
if [ -d "$SHARED/data/prompts-oasst" ]; then
    expect 0 "to train on" $bare --prompts "$SHARED"/data/prompts-*/*.jsonl --reward "$work/rm" --dry-run
else
    omit "no data collection at $SHARED"
fi

finish
