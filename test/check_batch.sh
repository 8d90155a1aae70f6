#!/bin/bash
# check_batch.sh - docs/batch/stage.sbatch with a fake program, srun and scontrol: which ends are requeued, that signals reach the
# program and its exit code comes back.  make test-slurm has the real ones.
cd "$(dirname "$0")/.." || exit 1
. test/lib.sh
mkdir "$work/path"
printf '#!/bin/sh\necho "$@" >>%s/told\n' "$work" >"$work/path/scontrol"
printf '#!/bin/sh\necho "$SLURM_MPI_TYPE" >%s/mpi\nwhile [ "${1#--}" != "$1" ]; do shift; done\nexec "$@"\n' "$work" >"$work/path/srun"
cat >"$work/program" <<'END2'
#!/bin/bash
# program HOW --out FOLDER ...: ends with code HOW, or on a signal a moment later with 75
echo "$@" >"$0.args"
mkdir -p "$3"
case $1 in
0) echo '{"state":"done"}' >"$3/status.json"; exit 0 ;;
silent) exit 0 ;;
[0-9]*) exit "$1" ;;
killed) kill -9 $$ ;;
esac
trap 'echo USR1 >>"$0.heard"; stop=yes' USR1
trap 'echo TERM >>"$0.heard"; stop=yes' TERM
echo ready >"$0.ready"
for ((i = 0; i < 400; i++)); do [ -z "$stop" ] || break; sleep 0.05; done
sleep 0.3
exit 75
END2
chmod +x "$work"/path/* "$work/program"

# job CODE TOLD "what" SIGNALS HOW: runs the script and sends it the signals, one after the other; TOLD: what scontrol hears
job() {
    rm -f "$work"/told "$work"/program.*
    PATH="$work/path:$PATH" SLURM_JOB_ID=7 bash docs/batch/stage.sbatch "$work/program" "$5" --out "$work/run" 2>"$work/out" &
    local pid=$! i=0 signal
    for signal in $4; do
        while [ $i -lt 200 ] && [ ! -e "$work/program.ready" ]; do sleep 0.05; i=$((i + 1)); done
        kill "-$signal" $pid
        sleep 0.1
    done
    wait $pid
    local code=$? told
    told=$(cut -d ' ' -f 1 "$work/told" 2>/dev/null)
    if [ $code -eq "$1" ] && [ "${told:-nothing}" = "$2" ]; then ok; else wrong "$3: code $code, ${told:-nothing}"; fi
}
fresh() { rm -rf "$work/run"; }

job 0 nothing "a stage that is done" "" 0
PATH="$work/path:$PATH" SLURM_JOB_ID=7 bash docs/batch/stage.sbatch true "--out=$work/run" 2>"$work/out"
check "--out=FOLDER is understood" [ $? -eq 0 ]
fresh
job 71 requeue "an end that says nothing of being done" "" silent
job 75 requeue "a stage out of time" "" 75
touch "$work/run/stop"
job 75 nothing "a stage that somebody wants stopped" "" 75
fresh
job 69 requeue "a folder in use" "" 69
job 137 requeue "a program that is killed" "" killed
job 71 nothing "a third loss without a checkpoint" "" 71
echo step-00000008.ckpt >"$work/run/latest"
job 71 requeue "a loss after a new checkpoint" "" 71
for code in 64 65 66 70 78; do job $code nothing "a stage that ends with $code" "" $code; done
job 74 requeuehold "a full disk" "" 74
fresh
job 75 requeue "the signal before the end" USR1 waits
check "USR1 reaches the program" grep -q USR1 "$work/program.heard"
job 75 nothing "scancel" TERM waits
check "TERM reaches the program" grep -q TERM "$work/program.heard"
job 75 nothing "scancel while it stops already" "USR1 TERM" waits
check "a job without SLURM_CPUS_PER_TASK" grep -q -- "--threads 0" "$work/program.args"
check "one task needs no MPI" grep -qx "" "$work/mpi"
SLURM_CPUS_PER_TASK=16 SLURM_NTASKS=2 job 0 nothing "a job with cores" "" 0
check "the job's cores are used" grep -q -- "--threads 16" "$work/program.args"
check "several tasks meet by PMIx" grep -qx pmix "$work/mpi"
expect 64 "no --out FOLDER" bash docs/batch/stage.sbatch "$work/program" 0
finish
