#!/bin/sh
# check_hosts.sh - ranks on two hosts, which are network namespaces joined by a bridge: the bits of one rank, also over a network that
# is slow and loses packets; and when the link goes down, both sides leave within seconds, and the same command goes on.  As root.
# FULL=1: also a link that is gone for a moment, and one that goes down when the ranks have just met.
cd "$(dirname "$0")/.." || exit 1
. test/lib.sh
case $BUILD in *-*san*) skip "under a sanitizer: the ranks are built without" ;; esac
. test/mpi.sh
[ "$(id -u)" = 0 ] && command -v ip >/dev/null || skip "network namespaces need root and iproute2"
q=qt$$ net=10.77.$(($$ % 200))
ip netns add $q-1 2>/dev/null || skip "no network namespaces may be made here"
clean() {
    for n in 1 2; do
        for p in $(ip netns pids $q-$n 2>/dev/null); do kill -KILL "$p" 2>/dev/null; done
        ip netns del $q-$n 2>/dev/null
    done
    ip link del $q 2>/dev/null
    rm -rf "$work"
}
trap clean EXIT
ip netns add $q-2
# one pair of interfaces is a network of two hosts
{ ip link add $q type veth peer name $q-x && ip link set $q netns $q-1 name eth0 && ip link set $q-x netns $q-2 name eth0; } 2>"$work/out" ||
    skip "no pair of network interfaces may be made here: $(cat "$work/out")"
for n in 1 2; do
    ip -n $q-$n addr add $net.$n/24 dev eth0 && ip -n $q-$n link set eth0 up && ip -n $q-$n link set lo up || skip "no network in a namespace"
done
# in place of ssh: options, the address, the command
cat >"$work/agent" <<AGENT
#!/bin/sh
while :; do case \$1 in -*) shift ;; *) break ;; esac; done
n=\${1##*.}
shift
exec ip netns exec $q-\$n unshare --uts sh -c "hostname $q-\$n; \$*"
AGENT
chmod +x "$work/agent"
case $library in
openmpi) launch="$launch --mca plm_rsh_agent $work/agent --mca btl tcp,vader,self
    --mca btl_tcp_if_include eth0 --mca oob_tcp_if_include eth0 --host $net.1:1,$net.2:1" ;;
*) launch="$launch -launcher ssh -launcher-exec $work/agent -iface eth0 -hosts $net.1,$net.2" ;;
esac
printf '#!/bin/sh\nexec ip netns exec %s unshare --uts sh -c "hostname %s; exec \\"\$@\\"" sh "$@"\n' $q-1 $q-1 >"$work/first"
chmod +x "$work/first"
build_ranks "$build/bin" all
ranks=$PWD/$build/bin
sh test/small_data.sh "$work"
text="--data $work/text.txt --vocab-size 300 --layers 2 --channels 32 --heads 2 --context 32 --schedule constant --slices 2 --threads 1
    --batch-tokens 256 --micro-tokens 128 --save-every 10 --eval-every 20 --validation 0.1 --steps 40"
# start OUT options...: two ranks, one on each host, in the background
start() {
    out=$work/$1
    shift
    timeout 120 "$work/first" $launch -n 2 "$ranks/pretrain" $text "$@" --out "$out" >"$work/out" 2>&1 </dev/null &
    job=$!
}
ran() { start "$@"; wait $job; }
same() { "$BIN/ckpt" diff "$work/$1" "$work/$2" >"$work/out" 2>&1; grep -q ' 0 of [1-9][0-9]* tensors differ, 0 only in A, 0 only in B' "$work/out"; }
link() { ip -n $q-2 link set eth0 "$1"; }
# ranks are left on a host (the launcher, which has no network either, is not ours)
left() {
    for n in 1 2; do
        for p in $(ip netns pids $q-$n); do [ "$(cat /proc/"$p"/comm 2>/dev/null)" = pretrain ] && return 0; done
    done
    return 1
}

check "one rank" "$BIN/pretrain" $text --out "$work/one" >"$work/out" 2>&1
check "two hosts" ran two
check "there are two hosts" grep -q "2 ranks, 1 of them on this host" "$work/two/log.txt"
check "two hosts have the bits of one rank" same one two
if ip netns exec $q-1 tc qdisc add dev eth0 root netem delay 5ms loss 2% 2>/dev/null; then
    check "a slow network that loses packets" ran slow --steps 10
    ip netns exec $q-1 tc qdisc del dev eth0 root
    check "and the rest of it on a good one" ran slow
    check "a slow network that loses packets leaves the bits" same one slow
else
    omit "delay and loss (no tc with netem)"
fi
if [ "$FULL" ]; then
    start gap --steps 300
    for i in $(seq 300); do [ -e "$out/latest" ] && break; sleep 0.05; done
    link down
    sleep 2
    link up
    check "the link is gone for two seconds: the run goes on" wait $job
    check "and has the bits" "$BIN/pretrain" $text --steps 300 --out "$work/whole" >"$work/out" 2>&1
    check "of one rank" same gap whole
fi
for after in ${FULL:+meeting} steps; do
    start cut$after --steps 5000 --stall-limit 5
    if [ $after = steps ]; then what=latest; else what=log.txt; fi
    for i in $(seq 300); do [ -e "$out/$what" ] && break; sleep 0.05; done
    link down
    begun=$(date +%s)
    for i in $(seq 250); do left || break; sleep 0.1; done
    took=$(($(date +%s) - begun))
    check "the link goes down after $what: all ranks have left in time ($took s)" [ $took -le 15 ]
    # (each side misses the other, and here both can write to the folder)
    check "and a silent rank and its host are named" grep -q "rank \(1 (process [0-9]* on $q-2\|0 (process [0-9]* on $q-1\)) is silent" "$out/status.json"
    link up
    kill -TERM $job 2>/dev/null
    sleep 0.3
    kill -KILL $job 2>/dev/null
    wait $job 2>/dev/null
    for n in 1 2; do for p in $(ip netns pids $q-$n); do kill -KILL "$p" 2>/dev/null; done; done
done
rm -rf "$work/again"
cp -r "$work/cutsteps" "$work/again"
step=$("$BIN/ckpt" info "$work/again" 2>/dev/null | awk '$1 == "step" { print $2; exit }')
check "the same command goes on" ran cutsteps --steps $((step + 5))
check "and so does one rank" "$BIN/pretrain" $text --steps $((step + 5)) --out "$work/again" >"$work/out" 2>&1
check "with the same bits" same cutsteps again
finish
