#!/bin/bash
# check_batch.sh - the job script of docs/batch-jobs.md, taken from the page, with a fake program and a fake scontrol: which ends
# are requeued, and that signals reach the program and its exit code comes back.
cd "$(dirname "$0")/.." || exit 1
. test/lib.sh
sed -n '/^```bash$/,/^```$/{/^```/!p; /^```$/q}' docs/batch-jobs.md >"$work/stage.sbatch"
mkdir "$work/path"
printf '#!/bin/sh\necho "$@" >>%s/requeued\n' "$work" >"$work/path/scontrol"
cat >"$work/program" <<'END'
#!/bin/bash
# program HOW ...: ends with code HOW, or on a signal a moment later with 75
echo "$@" >"$0.args"
case $1 in [0-9]*) exit "$1" ;; killed) kill -9 $$ ;; esac
trap 'echo USR1 >>"$0.heard"; stop=yes' USR1
trap 'echo TERM >>"$0.heard"; stop=yes' TERM
echo ready >"$0.ready"
for ((i = 0; i < 400; i++)); do [ -z "$stop" ] || break; sleep 0.05; done
sleep 0.3
exit 75
END
chmod +x "$work/path/scontrol" "$work/program"

# job CODE REQUEUED(yes|no) "what" SIGNALS HOW: runs the script and sends it the signals, one after the other
job() {
    rm -f "$work"/requeued "$work"/program.*
    PATH="$work/path:$PATH" SLURM_JOB_ID=7 bash "$work/stage.sbatch" "$work/program" "$5" 2>"$work/out" &
    local pid=$! i=0 signal
    for signal in $4; do
        while [ $i -lt 200 ] && [ ! -e "$work/program.ready" ]; do sleep 0.05; i=$((i + 1)); done
        kill "-$signal" $pid
        sleep 0.1
    done
    wait $pid
    local code=$? requeued=no
    [ -e "$work/requeued" ] && requeued=yes
    if [ $code -eq "$1" ] && [ $requeued = "$2" ]; then ok; else wrong "$3: code $code, requeued: $requeued"; fi
}

job 0 no "a stage that is done" "" 0
job 75 yes "a stage out of time" "" 75
job 69 yes "a folder in use" "" 69
SLURM_RESTART_COUNT=20 job 69 no "a folder in use for ever" "" 69
job 78 no "a stage that is refused" "" 78
job 137 no "a program that is killed" "" killed
job 75 yes "the signal before the end" USR1 waits
check "USR1 reaches the program" grep -q USR1 "$work/program.heard"
job 75 no "scancel" TERM waits
check "TERM reaches the program" grep -q TERM "$work/program.heard"
job 75 no "scancel while it stops already" "USR1 TERM" waits
check "a job without SLURM_CPUS_PER_TASK" grep -q -- "--threads 0" "$work/program.args"
SLURM_CPUS_PER_TASK=16 job 0 no "a job with cores" "" 0
check "the job's cores are used" grep -q -- "--threads 16" "$work/program.args"
echo "check_batch: $passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
