#!/bin/sh
# check_serve.sh - chat --serve spoken to with curl: answers, events, stops, limits, hostile requests, clients that leave,
# load (wrk), the end by SIGTERM.  The model's every word is known (tool_talker.c).
cd "$(dirname "$0")/.." || exit 1
. test/lib.sh
chat=$BIN/chat

"$BUILD/test/tool_talker" "$work" base.ckpt 1 none 64 && "$BUILD/test/tool_talker" "$work" sft.ckpt 2 quartet 64 &&
    "$BUILD/test/tool_talker" "$work" long.ckpt 1 none 30000 || { wrong "no models"; finish; }
"$chat" --model "$work/sft.ckpt" --serve 127.0.0.1:nowhere >"$work/out" 2>&1
[ $? -eq 69 ] && grep -q libmicrohttpd "$work/out" && skip "chat was built without libmicrohttpd"
command -v curl >/dev/null || skip "curl is not installed"

# serve MODEL OPTIONS...: starts a server at a free port; its process in $server, its address in $url
serve() {
    model=$1; shift
    : >"$work/log"
    "$chat" --model "$work/$model" --serve 127.0.0.1:0 --threads 2 "$@" >"$work/log" 2>&1 &
    server=$!
    i=0
    while ! grep -q 'served at' "$work/log" && [ $i -lt 200 ]; do sleep 0.05; i=$((i + 1)); done
    url=$(sed -n 's/.*served at \(http[^ ]*\)\/v1:.*/\1/p' "$work/log")
}
# stop NAME: SIGTERM, and it ends with code 0
stop() { kill -TERM "$server"; wait "$server"; same "$1 (code)" 0 $?; }
trap 'kill $server 2>/dev/null; rm -rf "$work"' EXIT
server=

ask() { path=$1 body=$2; shift 2; curl -s -m 20 -H 'Content-Type: application/json' "$@" -d "$body" "$url$path"; }
text() { ask /v1/completions "$@"; }
talk() { ask /v1/chat/completions "$@"; }
# begin BODY FILE: a text as it comes, by a curl of its own whose process is $client
begin() { curl -s -N -m 20 -H 'Content-Type: application/json' -d "$1" "$url/v1/completions" >"$2" & client=$!; }
same() { if [ "$2" = "$3" ]; then ok; else wrong "$1: expected '$2', found '$3'"; fi; }
# has NAME WORDS: in $work/reply
has() { grep -qF -- "$2" "$work/reply" && ok || wrong "$1: no '$2' in $(head -c 600 "$work/reply")"; }
# refused NAME STATUS WORDS: the last reply (curl -w) has the status, an error object and the words
refused() { same "$1" "$2" "$(tail -n 1 "$work/reply")"; has "$1" '{"error":{"message":'; has "$1" "$3"; }
status='\n%{http_code}'
hi='"messages":[{"role":"user","content":"hi"}]'

# ---- dialogues ----
serve sft.ckpt --max-body 20K --queue 8
talk "{$hi}" >"$work/reply"
has "an answer" '"object":"chat.completion","created":'
has "its text" '"choices":[{"index":0,"message":{"role":"assistant","content":"Hi!","refusal":null},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":6,"completion_tokens":3,"total_tokens":9}}'
talk "{$hi,\"model\":\"sft.ckpt\",\"max_completion_tokens\":2,\"n\":2,\"user\":\"x\",\"stop\":null,\"logprobs\":true,\"top_logprobs\":1,\"tools\":[],\"presence_penalty\":0}" >"$work/reply"
has "two choices, cut" '"index":1,"message":{"role":"assistant","content":"Hi","refusal":null},"logprobs":{"content":[{"token":"H","logprob":'
has "length" '"finish_reason":"length"'
has "alternatives" '"bytes":[105],"top_logprobs":[{"token":"i","logprob":'
talk '{"messages":[{"role":"developer","content":"Be kind."},{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]},{"role":"assistant","content":null,"tool_calls":null},{"role":"user","content":"c"}]}' >"$work/reply"
has "parts and roles" '"content":"Hi!"'
talk "{$hi,\"stream\":true,\"stream_options\":{\"include_usage\":true}}" >"$work/reply"
same "events" 7 "$(grep -c '^data: ' "$work/reply")"
has "the first event" '"choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"usage":null}'
has "the last but two" '"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}],"usage":null}'
has "usage" '"choices":[],"usage":{"prompt_tokens":6,'
same "the last" "data: [DONE]" "$(grep . "$work/reply" | tail -n 1)"
text '{"prompt":"a"}' >"$work/reply"
has "a text" '"object":"text_completion"'
same "models" '{"object":"list","data":[{"id":"sft.ckpt","object":"model","created":0,"owned_by":"quartet"}]}' "$(curl -s "$url/v1/models")"
same "a model" '{"id":"sft.ckpt","object":"model","created":0,"owned_by":"quartet"}' "$(curl -s "$url/v1/models/sft.ckpt")"
same "health" '{"status":"ok"}' "$(curl -s "$url/health")"

# ---- what is refused ----
try() { name=$1 code=$2 words=$3 body=$4; talk "$body" -w "$status" >"$work/reply"; refused "$name" "$code" "$words"; }
try "no JSON" 400 'not valid JSON' '{"messages":'
try "no object" 400 'not a JSON object' '[]'
try "empty" 400 'not valid JSON' ''
try "unknown field" 400 'Unrecognized request argument supplied: foo' "{$hi,\"foo\":1}"
try "field of the other endpoint" 400 'supplied: prompt' '{"prompt":"a"}'
try "another model" 404 '"code":"model_not_found"' "{$hi,\"model\":\"gpt-4\"}"
try "no messages" 400 "'messages': expected a list" '{}'
try "no message" 400 "'messages': expected a list" '{"messages":[]}'
try "bad role" 400 "'messages[0]': expected a role" '{"messages":[{"role":"tool","content":"x"}]}'
try "image" 400 'parts of type text only' '{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{}}]}]}'
try "no content" 400 'expected content' '{"messages":[{"role":"user","content":null}]}'
try "no user" 400 'no user message' '{"messages":[{"role":"system","content":"x"}]}'
try "late system" 400 'a system message after the first place' "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"system\",\"content\":\"b\"}]}"
try "temperature" 400 "a number from 0 to 2" "{$hi,\"temperature\":3}"
try "negative" 400 "a number from 0 to 2" "{$hi,\"temperature\":-1}"
try "NaN" 400 'not valid JSON' "{$hi,\"temperature\":NaN}"
try "infinite" 400 'not valid JSON' "{$hi,\"temperature\":1e999}"
try "huge" 400 'not valid JSON' "{$hi,\"seed\":123456789012345678901234567890}"
try "text for a number" 400 "'top_p': expected a number" "{$hi,\"top_p\":\"1\"}"
try "fraction" 400 "'max_tokens': expected a whole number" "{$hi,\"max_tokens\":1.5}"
try "no tokens" 400 "'max_tokens': expected a whole number" "{$hi,\"max_tokens\":0}"
try "two limits" 400 "only one of 'max_tokens' and" "{$hi,\"max_tokens\":3,\"max_completion_tokens\":4}"
try "number for a flag" 400 "'stream': expected true or false" "{$hi,\"stream\":1}"
try "too many choices" 400 "'n': expected a whole number from 1 to 128" "{$hi,\"n\":1000}"
try "more choices than there is room" 400 'at most 24 at a time' "{$hi,\"n\":25}"
try "stops" 400 "'stop': expected a string, or up to 4" "{$hi,\"stop\":[\"1\",\"2\",\"3\",\"4\",\"5\"]}"
try "empty stop" 400 "'stop': expected a string" "{$hi,\"stop\":\"\"}"
try "top_logprobs alone" 400 "needs 'logprobs'" "{$hi,\"top_logprobs\":2}"
try "stream_options alone" 400 "only allowed when 'stream'" "{$hi,\"stream_options\":{}}"
try "penalty" 400 "'presence_penalty' is not supported" "{$hi,\"presence_penalty\":1}"
try "tools" 400 "'tools' is not supported" "{$hi,\"tools\":[{\"type\":\"function\"}]}"
try "format" 400 "'response_format' is not supported" "{$hi,\"response_format\":{\"type\":\"json_object\"}}"
try "long prompt" 400 '"code":"context_length_exceeded"' "{\"messages\":[{\"role\":\"user\",\"content\":\"$(printf '%0100d' 0)\"}]}"
try "invalid UTF-8" 400 'not valid JSON' "$(printf '{"messages":[{"role":"user","content":"\377"}]}')"
try "deep" 400 'not valid JSON' "$(printf '%08000d' 0 | tr 0 '[')"
awk 'BEGIN { printf "{\"user\":\""; for (i = 0; i < 30000; i++) printf "x"; printf "\"}" }' >"$work/large"
try "large" 413 'larger than 20480 bytes' "@$work/large"
talk "@$work/large" -H 'Transfer-Encoding: chunked' -w "$status" >"$work/reply"
refused "large, in chunks" 413 'larger than 20480 bytes'
talk "@$work/large" -H 'Expect: 100-continue' -w "$status" >"$work/reply"
refused "large, announced" 413 'larger than 20480 bytes'
curl -s -w "$status" "$url/v1/nothing" >"$work/reply"
refused "nowhere" 404 'Nothing is at GET /v1/nothing'
curl -s -w "$status" "$url/v1/completions" >"$work/reply"
refused "method" 405 'GET is not answered at /v1/completions'
curl -s -w "$status" -X DELETE "$url/v1/models" >"$work/reply"
refused "another method" 405 'DELETE is not answered'
curl -s -w "$status" -d '{}' "$url/v1/completions" >"$work/reply"
refused "content type" 415 'application/json'
curl -s -w "$status" "$url/v1/models/other" >"$work/reply"
refused "no such model" 404 'model_not_found'
{ printf 'X-Long: '; awk 'BEGIN { for (i = 0; i < 1000000; i++) printf "x" }'; } >"$work/header"
same "a header of 1 MB" 431 "$(curl -s -o /dev/null -w '%{http_code}' -H "@$work/header" "$url/health")"
same "still well" '{"status":"ok"}' "$(curl -s "$url/health")"
stop "the end"
check "says why" grep -q 'stopped by SIGTERM' "$work/log"

# ---- texts: stops, seeds, the same as chat ----
serve base.ckpt --slots 4 --queue 100
said() { grep -o '"text":"[^"]*"' "$work/reply" | cut -d'"' -f4 | tr '\n' ' ' | sed 's/ *$//'; }
text '{"prompt":"a"}' >"$work/reply"
same "goes on" 'bcé\u001B[' "$(said)"
text '{"prompt":"a","stop":"é"}' >"$work/reply"
same "stop" bc "$(said)"
has "its reason" '"finish_reason":"stop"'
text '{"prompt":"a","stop":["bcd","c\u00e9\u001b["]}' >"$work/reply"
same "a stop over tokens, and one that is only begun" b "$(said)"
text '{"prompt":"a","stop":["bcd","[]"],"stream":true}' >"$work/reply"
same "what was held back comes" 'bcé \u001B [' "$(said)"
text '{"prompt":"a","stop":"[","stream":true,"logprobs":2}' >"$work/reply"
same "tokens up to a stop" 5 "$(grep -o '"tokens":\["[^"]*"' "$work/reply" | wc -l | tr -d ' ')"
text '{"prompt":["a",[121],"y"],"max_tokens":3,"n":2,"logprobs":0}' >"$work/reply"
same "prompts and choices" 'bc bc yyy yyy yyy yyy' "$(said | sed 's/[^ybcé ]//g')"
has "offsets" '"text_offset":[0,1,2]'
text '{"prompt":[[97],[1000]]}' -w "$status" >"$work/reply"
refused "no such id" 400 'expected 0 to 256'
text '{"prompt":"a","echo":true}' -w "$status" >"$work/reply"
refused "echo" 400 "'echo' is not supported"
talk "{$hi}" -w "$status" >"$work/reply"
refused "no template" 400 'no chat template'
wild='"temperature":2,"top_p":1,"max_tokens":20'
direct=$("$chat" --model "$work/base.ckpt" --prompt q --temperature 2 --top-p 1 --max-new-tokens 20 --seed 5 2>/dev/null | od -An -tx1)
alone=$(text "{\"prompt\":\"q\",$wild,\"seed\":5}" | sed 's/.*"choices"//')
echo "$alone" >"$work/reply"
same "what chat says with this seed" "$direct" "$(printf '%b\n' "$(said | sed 's/\\u00\(..\)/\\x\1/g')" | od -An -tx1)"
[ "$(text "{\"prompt\":\"q\",$wild}" | sed 's/.*"choices"//')" != "$(text "{\"prompt\":\"q\",$wild}" | sed 's/.*"choices"//')" ] && ok ||
    wrong "two requests without a seed say the same"
i=0
while [ $i -lt 24 ]; do
    text "{\"prompt\":\"q$i\",$wild,\"seed\":$i}" >/dev/null &
    text "{\"prompt\":\"q\",$wild,\"seed\":5}" 2>&1 | sed 's/.*"choices"//' >"$work/seeded.$i" &
    i=$((i + 1))
done
i=0
while [ $i -lt 200 ] && [ "$(cat "$work"/seeded.* | wc -l)" -lt 24 ]; do sleep 0.05; i=$((i + 1)); done
same "the same answer among others" "24 $alone" "$(sort "$work"/seeded.* | uniq -c | sed 's/^ *//')"

# 64 clients: each gets its answer, and the right one
if command -v wrk >/dev/null; then
    cat >"$work/load.lua" <<'LUA'
wrk.method = "POST"
wrk.body = os.getenv("BODY")
wrk.headers["Content-Type"] = "application/json"
wrong = 0
local threads = {}
function setup(thread) table.insert(threads, thread) end
function response(status, headers, body)
    if status ~= 200 or not body:find(os.getenv("WANT"), 1, true) then wrong = wrong + 1 end
end
function done(summary, latency, requests)
    local n, e = 0, summary.errors
    for _, thread in ipairs(threads) do n = n + thread:get("wrong") end
    print(("enough: %s, wrong: %d, lost: %d"):format(tostring(summary.requests >= 64), n, e.connect + e.read + e.write + e.status + e.timeout))
end
LUA
    BODY="{\"prompt\":\"q\",$wild,\"seed\":5}" WANT=$(echo "$alone" | grep -o '"text":"[^"]*"') \
        wrk -t2 -c64 -d1s --timeout 20s -s "$work/load.lua" "$url/v1/completions" >"$work/out" 2>&1
    check "under load" grep -q 'enough: true, wrong: 0, lost: 0' "$work/out"
else
    omit "wrk is not installed"
fi
stop "the end after load"

# ---- limits, clients that leave, an end with answers under way ----
serve long.ckpt --slots 1 --queue 1 --grace 0.5
endless='{"prompt":"y","max_tokens":100000,"stream":true}'
begin "$endless" "$work/first"
first=$client
i=0
while [ ! -s "$work/first" ] && [ $i -lt 200 ]; do sleep 0.05; i=$((i + 1)); done
begin '{"prompt":"a"}' "$work/second"
second=$client
sleep 0.3
text '{"prompt":"a"}' -w "$status" >"$work/reply"
refused "the queue is full" 429 'try again later'
kill $first
i=0
while kill -0 $second 2>/dev/null && [ $i -lt 200 ]; do sleep 0.05; i=$((i + 1)); done
check "a client that leaves makes room" grep -q 'finish_reason":"stop"' "$work/second"
begin '{"prompt":"y","max_tokens":100000}' /dev/null
sleep 0.3
kill $client
text '{"prompt":"a"}' >"$work/second"
check "also one that waits for the whole" grep -q 'finish_reason":"stop"' "$work/second"
begin "$endless" "$work/first"
first=$client
sleep 0.3
stop "the end with an endless answer"
wait $first
check "it is told" grep -q '^data: {"error":{"message":"The server is stopping","type":"server_error"' "$work/first"
serve long.ckpt --max-time 0.3
text '{"prompt":"y","max_tokens":100000}' -w "$status" >"$work/reply"
refused "too slow" 503 'took longer than 0.3 seconds'
stop "the end"
serve long.ckpt
begin '{"prompt":"y","max_tokens":3000}' "$work/first"
sleep 0.1
stop "the end with an answer under way"
wait $client
check "which is finished" grep -q '"finish_reason":"length".*"completion_tokens":3000' "$work/first"

# ---- how it begins ----
expect 64 'expected ADDRESS:PORT' "$chat" --model "$work/sft.ckpt" --serve 8080
expect 64 'expected a port from 0 to 65535' "$chat" --model "$work/sft.ckpt" --serve 127.0.0.1:65536
expect 64 '--prompt cannot be given with --serve' "$chat" --model "$work/sft.ckpt" --serve 127.0.0.1:0 --prompt a
expect 64 '--slots means nothing without --serve' "$chat" --model "$work/sft.ckpt" --slots 3
serve sft.ckpt
expect 69 'Address already in use' "$chat" --model "$work/sft.ckpt" --serve "${url#http://}"
stop "the end"
: >"$work/log"
"$chat" --model "$work/sft.ckpt" --serve 0.0.0.0:0 2>"$work/log" &
server=$!
i=0
while ! grep -q 'served at' "$work/log" && [ $i -lt 200 ]; do sleep 0.05; i=$((i + 1)); done
check "a warning for other machines" grep -q 'warning: 0.0.0.0:[0-9]* can be reached from other machines' "$work/log"
stop "the end"
finish
