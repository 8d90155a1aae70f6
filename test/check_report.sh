#!/bin/sh
# check_report.sh - ckpt report: its points are those of metrics.jsonl, damage is noted, hostile text is harmless, long
# runs stay small, ancestors are found, a running run is followed, and a browser has nothing to complain about.
. test/lib.sh
ckpt=$BIN/ckpt
page=$work/report.html

# start FOLDER PROGRAM STATE: a run folder without metrics
start() {
    mkdir -p "$1"
    printf '# %s 0.1.0\n\n# Data\ndata = a.txt\nlr = 0.001\n' "$2" >"$1/run.conf"
    printf '{"program":"%s","state":"%s","step":1,"steps":9,"time":"","text":"step 1/9"}\n' "$2" "$3" >"$1/status.json"
}

# steps N: records of step 0 (evaluation) to N; no learning rate in steps 51..60
steps() {
    awk -v n="$1" 'BEGIN {
        srand(7)
        print "{\"step\":0,\"val_loss\":5.5}"
        for (i = 1; i <= n; i++)
            printf "{\"step\":%d,\"loss\":%.9g,\"lr\":%s,\"grad_norm\":%.6g,\"tokens\":%d,\"seconds\":0.1%s}\n", i,
                5 / sqrt(i) + rand() / 10, (i > 50 && i <= 60 ? "null" : 0.001 * i / n), 1 + rand(), 100 * i,
                (i % 50 ? "" : ",\"val_loss\":" 5.5 / sqrt(i))
    }'
}

# agree PAGE METRICS KEY: every number of the key is a point of the curve, to a tenth of a pixel, in order, and no other
# point is there; prints "points parts".
agree() {
    grep -o "<svg .* data-key=\"$3\" d=\"[^\"]*\"" "$1" | head -n 1 |
        sed "s/.* data-box=/data-box=/; s/data-log=\(\"[01]\"\).* d=/\1/; s/data-[a-z]*=//g; s/\"/ /g" >"$work/curve"
    awk -v key="\"$3\":" '
        function near(a, b) { return a - b <= 0.0501 && b - a <= 0.0501 }
        FNR == NR {
            n = k = 0; parts = gsub(/M/, " "); gsub(/L|h0/, " ")
            for (i = 1; i <= 4; i++) box[i] = $i
            x0 = $5; x1 = $6; y0 = $7; y1 = $8; logarithmic = $9
            for (i = 10; i <= NF; i += 2) { px[n] = $i; py[n++] = $(i + 1) }
            next
        }
        /}$/ && (at = index($0, key)) {
            value = substr($0, at + length(key)); sub(/[,}].*/, "", value)
            step = $0; sub(/.*"step":/, "", step); sub(/[,}].*/, "", step)
            if (value == "null") next
            share = logarithmic ? log(value / y0) / log(y1 / y0) : (value - y0) / (y1 - y0)
            if (k < n && near(px[k], box[1] + (step - x0) / (x1 - x0) * (box[3] - box[1])) &&
                near(py[k], box[4] - share * (box[4] - box[2]))) good++
            k++
        }
        END {
            if (n > 0 && k == n && good == n) print n, parts
            else print "points: " n ", numbers: " k ", equal: " good + 0
        }
    ' "$work/curve" "$2"
}
same() { [ "$(agree "$1" "$2" "$3")" = "$4" ] && ok || wrong "$3: $(agree "$1" "$2" "$3"), expected $4"; }

# ---- points ----
start "$work/run" pretrain done
steps 300 >"$work/run/metrics.jsonl"
expect 0 "1 run" "$ckpt" report "$work/run" --out "$page"
same "$page" "$work/run/metrics.jsonl" loss "300 1"
same "$page" "$work/run/metrics.jsonl" val_loss "7 1"
same "$page" "$work/run/metrics.jsonl" lr "290 2"
same "$page" "$work/run/metrics.jsonl" grad_norm "300 1"
sed 's/^\({"step":7,"loss":\)[0-9]/\19/' "$work/run/metrics.jsonl" >"$work/other"
check "a wrong point is found" [ "$(agree "$page" "$work/other" loss)" = "points: 300, numbers: 300, equal: 299" ]
check "gains" grep -q '<code>val_loss</code><td class=n>5.5<td class=n>0.3175<td class="n change">-5.18' "$page"
check "no note" sh -c "! grep -q 'note bad' '$page'"

# ---- damage ----
start "$work/hurt" pretrain failed
steps 90 | awk 'NR == 31 { print substr($0, 1, 20); next }
    NR == 41 { print "\001\377 {}"; next }
    NR == 51 { print "{\"step\":3,\"loss\":1}"; next }
    1
    END { printf "{\"step\":91,\"lo" }' >"$work/hurt/metrics.jsonl"
expect 0 "1 run" "$ckpt" report "$work/hurt" --out "$page"
check "damaged lines" grep -q '2 lines of metrics.jsonl could not be read' "$page"
check "disordered lines" grep -q '1 line of metrics.jsonl repeats an earlier step and is left out' "$page"
check "half a line" grep -q 'The last line of metrics.jsonl is incomplete' "$page"
grep -av '"step":3,"loss":1}' "$work/hurt/metrics.jsonl" >"$work/other"
same "$page" "$work/other" loss "87 4"
rm "$work/hurt/metrics.jsonl"
expect 0 "1 run" "$ckpt" report "$work/hurt" --out "$page"
check "no metrics" grep -q 'There is no metrics.jsonl' "$page"
mkfifo "$work/hurt/metrics.jsonl"
expect 0 "1 run" "$ckpt" report "$work/hurt" --out "$page"

# ---- refusals ----
expect 66 "$work/none: there is no run here" "$ckpt" report "$work/none" --out "$work/no.html"
mkdir "$work/empty"
expect 66 "$work/empty: there is no run here" "$ckpt" report "$work/empty" --out "$work/no.html"
expect 64 "--out" "$ckpt" report "$work/run"
expect 74 "$work/none" "$ckpt" report "$work/run" --out "$work/none/report.html"
check "nothing written" [ ! -e "$work/no.html" ]
check "a folder stays one" [ "$("$ckpt" report "$work/run" --out "$work/empty" 2>&1)" = \
    "ckpt: $work/empty: cannot be written: Is a directory" ]
"$ckpt" report "$work/run" --out /dev/stdout | cat >"$work/piped"
check "through a pipe" grep -q '</html>' "$work/piped"

check "- is stdout" sh -c "cd '$work' && '$(cd "$BIN" && pwd)/ckpt' report run --out - >dash 2>&1 && [ ! -e - ] && head -n 1 dash | grep -qx '<!doctype html>' && tail -n 1 dash | grep -qx '</main></body></html>'"
expect 64 "leaves no place for --json" "$ckpt" report "$work/run" --out - --json

# ---- comparing ----
start "$work/two" pretrain done
steps 200 >"$work/two/metrics.jsonl"
sed -i 's/lr = .*/lr = 0.002/' "$work/two/run.conf"
expect 0 "2 runs" "$ckpt" report "$work/run" "$work/two" --compare --out "$page"
check "both curves" [ "$(grep -o 'data-key="loss"' "$page" | wc -l)" = 2 ]
check "differing setting" grep -q '<tr class=differs><th>lr<td>0.001<td>0.002' "$page"
mkdir "$work/x" "$work/y"
cp -r "$work/run" "$work/x/run"
cp -r "$work/two" "$work/y/run"
expect 0 "2 runs" "$ckpt" report "$work/x/run" "$work/y/run/" --compare --out "$page"
check "runs of one name are told apart" grep -q '<h1>x/run<span class=sep>vs</span>y/run<' "$page"
start "$work/sft" sft done
expect 78 "--compare takes runs of one stage" "$ckpt" report "$work/run" "$work/sft" --compare --out "$work/no.html"

# ---- warnings of rlhf ----
# iterations REWARD ENTROPY: 40 in which the reward rises; held-out reward ends at REWARD, entropy at ENTROPY
iterations() {
    awk -v r="$1" -v e="$2" 'BEGIN { for (i = 0; i <= 40; i++)
        printf "{\"step\":%d,\"reward\":%g,\"kl\":%g,\"entropy\":%g,\"distinct_2\":0.3,\"identical\":0.1%s}\n", i,
            i / 40, i / 8, 1 + (e - 1) * i / 40,
            (i % 20 ? "" : ",\"val_kl\":" i / 8 ",\"val_reward\":" (i < 40 ? i / 40 : r)) }'
}
start "$work/po" rlhf done
iterations 0.9 0.7 >"$work/po/metrics.jsonl"
expect 0 "1 run" "$ckpt" report "$work/po" --out "$page"
check "nothing to warn of" sh -c "! grep -q 'note bad' '$page'"
dots=$(grep -o 'data-key="reward".*' "$page" | head -n 1 | sed 's,</g>.*,,' | grep -o '<circle' | wc -l)
check "reward over KL" [ "$dots" = 41 ]
iterations 0.1 0.1 >"$work/po/metrics.jsonl"
expect 0 "1 run" "$ckpt" report "$work/po" --out "$page"
check "held-out reward" grep -q 'note bad.*Reward rises in training, not on held-out prompts' "$page"
check "diversity" grep -q 'note bad.*The policy is losing its diversity' "$page"

# ---- hostile text ----
evil='</pre></title></style><script>document.title="taken"</script><img src=x onerror=alert(1)>&amp;"'"'"
start "$work/bad" rm done
mkdir "$work/bad<b>&"
cp "$work/bad/run.conf" "$work/bad/status.json" "$work/bad<b>&"
h="$work/bad<b>&"
steps 20 >"$h/metrics.jsonl"
printf -- '--- step 5\n%s\n\342\200\256 \033[2J \377\n' "$evil" >"$h/samples.txt"
printf '2026-01-01 00:00:00  data:\n   3  %s\n2026-01-01 00:00:00  warning: %s\n' "$evil" "$evil" >"$h/log.txt"
printf 'name = %s\n' "$evil" >>"$h/run.conf"
expect 0 "1 run" "$ckpt" report "$h" --out "$page"
check "no markup from files" sh -c "! grep -qE '<(script|img|b>&)' '$page'"
check "made visible" grep -qF 'x1b[2J \xff' "$page"
check "no direction of its own" grep -qF '\xe2\x80\xae' "$page"
check "shown" grep -qF '&lt;script&gt;document.title=&quot;taken&quot;&lt;/script&gt;' "$page"
start "$work/roll" rlhf done
cat >"$work/roll/rollouts.jsonl" <<'END'
{"step":1,"prompt":"old"
{"step":2,"prompt":"<i>Q","response":"<script>\u0000\u202e","reward":0.5,"kl":1,"stopped":false}
[1]
END
expect 0 "1 run" "$ckpt" report "$work/roll" --out "$page"
check "a rollout" grep -qF '<b>&lt;i&gt;Q</b>' "$page"
check "its answer" grep -qF '&lt;script&gt;\x00\xe2\x80\xae<small>reward 0.5' "$page"

# ---- long runs: size, time, memory, and what stands out ----
lines=$([ -n "$FULL" ] && echo 1000000 || echo 200000)
start "$work/long" pretrain done
awk -v n=$lines 'BEGIN { for (i = 1; i <= n; i++)
    printf "{\"step\":%d,\"loss\":%.12f,\"lr\":0.001,\"grad_norm\":%.6f,\"updates\":%d,\"skipped\":0,\"tokens\":%d," \
        "\"seconds\":0.077727,\"tokens_per_second\":26348.8,\"peak_share\":0.6541,\"host_bytes\":129716224}\n", i,
        i == int(n * 0.7) ? 50 : 2 + rand(), rand(), i, i * 2048 }' >"$work/long/metrics.jsonl"
began=$(date +%s)
limit=$(grep -q __asan_init "$ckpt" || echo 'ulimit -v 200000;')               # a sanitizer reserves more
expect 0 "1 run" sh -c "$limit exec '$ckpt' report '$work/long' --jobs 2 --out '$page'"
expect 0 "1 run" "$ckpt" report "$work/long" --jobs 1 --out "$work/one.html"
check "a page does not depend on the number of threads" cmp "$page" "$work/one.html"
check "$lines lines within 30 s" [ $(($(date +%s) - began)) -le 30 ]
check "the page stays small" [ "$(wc -c <"$page")" -lt 300000 ]
peaks=$(grep -o 'data-key="loss" d="[^"]*"' "$page" | sed 's/.* d=//' | tr '"ML ' '\n' |
    awk '/^[0-9]/ && ++n % 2 == 0 && $1 < 20' | wc -l)
check "the one peak is shown" [ "$peaks" = 1 ]

# ---- ancestors ----
mkdir "$work/family" "$work/elsewhere"
for stage in base sft rm rlhf; do mkdir "$work/family/$stage"; done
"$BUILD/test/tool_save" chain "$work/family" || wrong "tool_save"
for stage in base:pretrain sft:sft rm:rm rlhf:rlhf; do
    start "$work/family/${stage%:*}" "${stage#*:}" done
    steps 20 >"$work/family/${stage%:*}/metrics.jsonl"
done
expect 0 "4 runs" "$ckpt" report "$work/family/rlhf" --out "$page"
order=$(grep -o '<section id=s[0-9]><h2>[a-z]*' "$page" | sed 's/.*>//' | tr '\n' ' ')
check "in their order" [ "$order" = "base sft rm rlhf " ]
check "lineage" grep -q '&lt;- this file' "$page"
mv "$work/family/rlhf" "$work/elsewhere/rlhf"
expect 0 "1 run" "$ckpt" report "$work/elsewhere/rlhf" --out "$page"
expect 0 "4 runs" "$ckpt" report "$work/elsewhere/rlhf/final.ckpt" --dir "$work/family" --out "$page"

# ---- a running run ----
start "$work/live" pretrain running
steps 5 >"$work/live/metrics.jsonl"
# nobody holds its lock: it has ended
expect 0 "1 run" timeout 20 "$ckpt" report "$work/live" --watch --out "$page"
mkdir "$work/young"
echo "rm 1234" >"$work/young/lock"
expect 66 "there is no run here" "$ckpt" report "$work/young" --out "$page"
flock "$work/young/lock" "$ckpt" report "$work/young" --out "$page" >"$work/out" 2>&1
check "a run that still reads its data" grep -q 'state ">running</span> no steps' "$page"
: >"$work/live/lock"
flock "$work/live/lock" sleep 3 &
holder=$!
sleep 0.3
timeout 60 "$ckpt" report "$work/live" --watch --out "$page" >"$work/watch" 2>&1 &
watcher=$!
sleep 1.5
check "written at once" grep -q 'http-equiv=refresh' "$page"
steps 9 >"$work/live/metrics.jsonl"
start "$work/live" pretrain done
wait $holder
check "the watch ends" wait $watcher
same "$page" "$work/live/metrics.jsonl" loss "9 1"
check "no more refreshing" sh -c "! grep -q 'http-equiv=refresh' '$page'"

# ---- in a browser ----
browse() {
    timeout 120 chromium --headless --no-sandbox --disable-gpu --enable-logging=stderr \
        --user-data-dir="$work/browser" "$@" 2>"$work/console"
}
if command -v chromium >/dev/null; then
    "$ckpt" report "$h" --out "$page" >/dev/null
    check "a browser opens it" browse --dump-dom "file://$page" >"$work/dom"
    check "nothing on the console" sh -c "! grep CONSOLE '$work/console'"
    check "all charts" [ "$(grep -o '<svg' "$work/dom" | wc -l)" = "$(grep -o '<svg' "$page" | wc -l)" ]
    check "the title is the run's" grep -q '<title>Report on bad&lt;b&gt;&amp;</title>' "$work/dom"
    check "hostile text stayed text" sh -c "! grep -qE '<(script|img)' '$work/dom'"
    sed 's,<main>,<main><script>1</script>,' "$page" >"$work/evil.html"
    browse --dump-dom "file://$work/evil.html" >/dev/null
    check "the console is heard, and no script may run" grep -q 'CONSOLE.*Content Security Policy' "$work/console"
else
    omit "chromium is not installed"
fi
check "nothing from a network" sh -c "! grep -qE '(src|href)=.?(http|//)|url\(|@import' '$page'"

finish
