#!/bin/bash
# segments.sh N JOB... - where jobs may not requeue themselves: N jobs of one name, one at a time, each resuming the last.
# segments.sh 10 --job-name=base stage.sbatch bin/pretrain ... --out runs/base
# Prints their numbers.  The last one succeeds only if the stage is done: the next stage waits for it with -d afterok:NUMBER.
n=$1 jobs=
shift
for ((i = 0; i < n; i++)); do jobs="$jobs $(sbatch --parsable --no-requeue --dependency=singleton "$@")" || exit; done
echo $jobs
