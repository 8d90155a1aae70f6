#!/bin/bash
# run.sh - the job scripts of docs/batch, submitted as they are to a private Slurm on this machine (cluster.sh), with the programs
# themselves: whatever ends a job, the run goes on to the bits of a run that nobody disturbed, or stays ended where it should.
# CASES="chain preempted" runs only these; KEEP=1 keeps the folder.  About three minutes, because Slurm's limits are whole minutes.
cd "$(dirname "$0")/../.." || exit 1
. test/lib.sh
. test/slurm/cluster.sh
if missing=$(cluster_missing); then
    echo "skipped: no $missing (on Debian: apt-get install slurm-wlm munge, their services need not run)"
    echo "slurm: 0 passed, 0 failed, 1 skipped"
    exit 0
fi
cluster=$work/cluster
BIN=$(cd "$BIN" && pwd) top=$PWD
if [ -x "$RANKS/pretrain" ]; then RANKS=$(cd "$RANKS" && pwd); else RANKS=; fi
leave() {
    [ "$BASHPID" = $$ ] || return
    trap '' INT TERM HUP
    jobs -p | xargs -r kill 2>/dev/null
    cluster_down
    if [ -n "$KEEP" ]; then echo "kept: $work"; else rm -rf "$work"; fi
}
trap leave EXIT
trap 'exit 130' INT TERM HUP
cluster_up || { echo "slurm: 0 passed, 1 failed (the private Slurm does not start)"; exit 1; }
cd "$work" || exit 1

# ---- a stage that takes some seconds, and its undisturbed run -----------------------------------------------------------------
sh "$top/test/small_data.sh" "$work"
tiny="--vocab-size 300 --layers 1 --channels 32 --heads 2 --ffn 64 --context 64 --batch-tokens 256 --micro-tokens 256"
stage="$BIN/pretrain --data text.txt --shards shards $tiny --save-every 100 --keep 2 --steps"
endless="$stage 1000000" stage="$stage ${STEPS:-12000}"
expect 0 "done:" $stage --out reference --threads 1
rm -f "$work/out"

# submit FOLDER SBATCH-OPTIONS... [-- command...]: the stage above (or the command) with --out FOLDER; prints the job's number
submit() {
    local run=$1 options=()
    shift
    while [ $# -gt 0 ] && [ "$1" != -- ]; do options+=("$1"); shift; done
    [ $# -gt 0 ] && shift || set -- $stage
    sbatch --parsable --cpus-per-task=1 --job-name="$run" --output="$run.log" "${options[@]}" "$top/docs/batch/stage.sbatch" "$@" --out "$run"
}

job() { scontrol -o show job "$1" 2>/dev/null | tr ' ' '\n' | sed -n "s/^$2=//p" | head -n 1; }     # job NUMBER JobState|Restarts|ExitCode|...

# until SECONDS "what" command...: the command is true within this time
until_so() {
    local i limit=$1 what=$2
    shift 2
    for ((i = 0; i < 5 * limit; i++)); do "$@" && { ok; return 0; }; sleep 0.2; done
    wrong "$what: not within $limit s"
    return 1
}
is_over() { case $(job "$1" JobState) in COMPLETED | FAILED | CANCELLED | TIMEOUT | NODE_FAIL) ;; *) false ;; esac; }
is_held() { [ "$(job "$1" Priority)" = 0 ]; }
requeued() { [ "$(job "$1" Restarts)" -gt 0 ]; }
state_is() { [ "$(job "$1" JobState)" = "$2" ]; }
trains() { [ "$(wc -l <"$1/metrics.jsonl")" -gt "${2:-100}" ] && [ -s "$1/latest" ]; } 2>/dev/null
pids_of() { pgrep -f "^$BIN/[a-z]+ .*--out $1( |\$)"; }

# ended NUMBER STATE CODE RESTARTS: so it ends, and stays
ended() {
    until_so 240 "job $1 ends" is_over "$1"
    check "job $1: $(job "$1" JobState), expected $2" state_is "$1" "$2"
    check "job $1: exit code $(job "$1" ExitCode), expected $3" [ "$(job "$1" ExitCode)" = "$3" ]
    check "job $1: started $(job "$1" Restarts) times more, expected $4" [ "$(job "$1" Restarts)" = "$4" ]
}
same_bits() { check "$1 ends with other bits" "$BIN/ckpt" diff --tensors "${2:-reference}/final.ckpt" "$1/final.ckpt" >/dev/null; }

# ---- the cases ----------------------------------------------------------------------------------------------------------------
case_chain() {
    export PRETRAIN="--data text.txt $tiny --steps 60" SFT="--data chats.jsonl --steps 20 --batch-tokens 256 --micro-tokens 256"
    export RM="--data ranked.jsonl --steps 10 --batch-tokens 256 --micro-tokens 256"
    export RLHF="--prompts chats.jsonl --steps 2 --episodes 8 --minibatches 2 --max-new-tokens 8 --micro-tokens 256"
    local jobs
    jobs=$(BIN=$BIN RUNS=chain "$top/docs/batch/chain.sh" --cpus-per-task=1 --output=chain.log) || { wrong "chain.sh"; return; }
    set -- $jobs
    for job in "$@"; do ended "$job" COMPLETED 0:0 0; done
    mkdir plain
    "$BIN/pretrain" $PRETRAIN --out plain/base && "$BIN/sft" --model plain/base $SFT --out plain/sft &&
        "$BIN/rm" --model plain/sft $RM --out plain/rm && "$BIN/rlhf" --policy plain/sft --reward plain/rm $RLHF --out plain/rlhf
    for run in base sft rm rlhf; do same_bits chain/$run plain/$run; done
}

case_refused() {            # a stage that cannot start ends, and the stages after it are cancelled
    local first second
    first=$(submit refused -- "$BIN/sft" --model nowhere --data chats.jsonl)
    second=$(submit never -d "afterok:$first")
    ended "$first" FAILED 66:0 0
    ended "$second" CANCELLED 0:0 0
    check "a job without --out is refused" [ -e refused.log ]
    first=$(sbatch --parsable --cpus-per-task=1 --output=no-out.log "$top/docs/batch/stage.sbatch" "$BIN/sft")
    ended "$first" FAILED 64:0 0
}

case_signal() {             # what --signal=B:USR1 sends: stop, save, requeue
    local number
    number=$(submit signal)
    until_so 60 "it trains" trains signal
    scancel --batch --signal=USR1 "$number"
    until_so 30 "it is requeued" requeued "$number"
    check "the run is stopped, not done" grep -q '"state":"stopped"' signal/status.json
    ended "$number" COMPLETED 0:0 1
    same_bits signal
}

case_limit() {              # Slurm's own time limit: a minute, and the signal 50 seconds before
    local number
    number=$(submit limit --time=1 --signal=B:USR1@50 -- $endless)
    until_so 90 "the time limit requeues it" requeued "$number"
    check "the run is stopped, not done" grep -q '"state":"stopped"' limit/status.json
    check "the log says why" grep -q "SIGUSR1" limit.log
    scancel "$number"
}

case_scancel() {            # stops, saves, and stays dead; submitted again it goes on
    local number
    number=$(submit scancel)
    until_so 60 "it trains" trains scancel
    scancel "$number"
    until_so 30 "it ends" state_is "$number" CANCELLED
    until_so 15 "it has saved" grep -q '"state":"stopped"' scancel/status.json
    sleep 12
    check "a cancelled job came back" state_is "$number" CANCELLED
    check "a cancelled job runs" [ -z "$(pids_of scancel)" ]
    ended "$(submit scancel)" COMPLETED 0:0 0
    same_bits scancel
}

case_preempted() {          # Slurm takes the node for a more urgent job and requeues this one
    local number urgent
    number=$(submit preempted --partition=low)
    until_so 60 "it trains" trains preempted
    urgent=$(sbatch --parsable --partition=urgent --nodelist=n4 --exclusive --output=/dev/null --wrap="sleep 1")
    until_so 60 "it gives way" requeued "$number"
    until_so 60 "the urgent job runs" state_is "$urgent" COMPLETED
    ended "$number" COMPLETED 0:0 1
    same_bits preempted
}

case_graced() {             # a partition with GraceTime: only the step gets TERM, and its end within the time must not lose the job
    local number
    number=$(submit graced --partition=patient)
    until_so 60 "it trains" trains graced
    sbatch --partition=urgent --nodelist=n3 --exclusive --output=/dev/null --wrap="sleep 1" >graced.urgent
    until_so 60 "it gives way" requeued "$number"
    ended "$number" COMPLETED 0:0 1
    same_bits graced
}

case_node() {               # the node dies with all that runs on it
    local number
    number=$(submit node --partition=frail)
    until_so 60 "it trains" trains node
    kill -9 $(cat "$cluster/slurmd.n2.pid") $(cluster_processes SLURMD_NODENAME=n2) $(pgrep -f "^slurmstepd: \[$number\.")
    until_so 60 "it is requeued" requeued "$number"
    node_up n2
    ended "$number" COMPLETED 0:0 1
    same_bits node
}

case_killed() {             # the process is killed once: the job comes back
    local number
    number=$(submit killed)
    until_so 60 "it trains" trains killed
    pids_of killed | xargs kill -9
    until_so 30 "it is requeued" requeued "$number"
    ended "$number" COMPLETED 0:0 1
    check "a loss is written down" [ "$(wc -l <killed/lost)" -eq 1 ]
    same_bits killed
}

case_doomed() {             # killed whenever it starts: after two new starts without a new checkpoint the job ends, and its children too
    local first second
    first=$(submit doomed -- sh -c 'kill -9 $$' sh)
    second=$(submit orphan -d "afterok:$first")
    ended "$first" FAILED 137:0 2
    ended "$second" CANCELLED 0:0 0
}

case_silent() {             # a step that ends with 0 before the stage is done counts as lost
    ended "$(submit silent -- true)" FAILED 71:0 2
}

case_busy() {               # another process has the folder: the job tries again later
    local number
    $stage --out busy --threads 1 >busy.holder 2>&1 &
    until_so 30 "the other one trains" trains busy 10
    kill -STOP $!
    number=$(submit busy)
    until_so 30 "it is requeued" requeued "$number"
    kill -CONT $!
    kill $!
    ended "$number" COMPLETED 0:0 1
    same_bits busy
}

case_held() {               # what only a person can mend (code 74): held, and released it goes on
    local number
    echo "not a folder" >held
    number=$(submit held)
    until_so 30 "it is held" is_held "$number"
    rm held
    scontrol release "$number"
    ended "$number" COMPLETED 0:0 1
    same_bits held
}

case_stop() {               # the file stop in the run folder: the job ends with 75 and does not come back
    local number
    number=$(submit stop -- $endless)
    until_so 60 "it trains" trains stop
    touch stop/stop
    ended "$number" FAILED 75:0 0
}

case_ranks() {              # two tasks are two ranks; one is killed once, and the job comes back
    local number
    if [ -z "$RANKS" ]; then skipped=1; echo "skipped: no mpicc, so no programs of make MPI=1"; return; fi
    set -- "$RANKS/pretrain" --data text.txt --shards shards $tiny --micro-tokens 64 --save-every 100 --keep 2 --steps 1500
    expect 0 "done:" "$BIN/pretrain" "${@:2}" --slices 2 --threads 1 --out one-rank
    number=$(submit ranks --ntasks=2 -- "$@")
    until_so 90 "it trains" trains ranks
    pgrep -f "^$RANKS/pretrain .*--out ranks( |\$)" | tail -n 1 | xargs kill -9
    until_so 60 "it is requeued" requeued "$number"
    ended "$number" COMPLETED 0:0 1
    check "two ranks trained" grep -q '"ranks":2\|2 ranks' ranks.log
    same_bits ranks one-rank
}

case_array() {              # several runs: %a is the number in the array
    local number i
    number=$(submit "array-%a" --array=1-3 --output=array.log -- $stage --seed %a)
    for i in 1 2 3; do until_so 240 "run $i is done" grep -q '"state":"done"' "array-$i/status.json"; done
    check "the seeds differ" grep -q '^seed *= *3' array-3/run.conf
}

case_row() {                # segments as an array of which one task runs at a time
    local number
    number=$(submit row --array=1-3%1 --no-requeue)
    until_so 60 "it trains" trains row
    scancel --batch --signal=USR1 "${number}_1"
    ended "${number}_1" FAILED 75:0 0
    ended "${number}_3" COMPLETED 0:0 0
    same_bits row
}

case_segments() {           # jobs that may not be requeued: the next one of the same name goes on
    local first last
    read -r first _ last < <("$top/docs/batch/segments.sh" 3 --cpus-per-task=1 --job-name=segments --output=segments.log "$top/docs/batch/stage.sbatch" $stage --out segments)
    until_so 60 "it trains" trains segments
    scancel --batch --signal=USR1 "$first"
    ended "$first" FAILED 75:0 0
    ended "$last" COMPLETED 0:0 0
    same_bits segments
}

every="limit chain refused signal scancel preempted graced node killed doomed
    silent busy held stop ranks array row segments"
: "${CASES:=$every}"
for name in $CASES; do
    (
        passed=0 failed=0
        case_$name
        echo "$passed $failed $skipped" >"$work/$name.count"
    ) >"$work/$name.said" 2>&1 &
done
wait
for name in $CASES; do
    read -r p f k <"$work/$name.count" || p=0 f=1 k=0
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + k))
    grep '^skipped:' "$work/$name.said"
    if [ "$f" -gt 0 ]; then echo "== $name"; cat "$work/$name.said"; tail -n 20 "$work/$name.log" | cut -c1-300; fi
done
echo "slurm: $passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
