# cluster.sh - a private Slurm on one machine; sourced.  Four nodes n1 to n4 are four slurmd with folders and ports of their own.
# Nothing outside the folder $cluster is read or written, and no installed configuration or running Slurm is touched.
# Jobs go to "main" (n1).  "frail" is n2, "patient" n3 and "low" n4; a job of "urgent" takes n3 or n4 from these two at once,
# or from "patient" with 20 seconds of grace.
PATH=$PATH:/usr/sbin
cluster_missing() {     # cluster_missing: names the first command that is not there
    local name
    for name in munged slurmctld slurmd sbatch srun scontrol scancel; do command -v $name >/dev/null || { echo $name; return 0; }; done
    return 1
}

# A port P such that nothing listens on P to P+4.
free_ports() {
    local try port i
    for try in $(seq 50); do
        port=$((20000 + RANDOM % 9000))
        for i in 0 1 2 3 4; do (: </dev/tcp/127.0.0.1/$((port + i))) 2>/dev/null && continue 2; done
        echo $port
        return 0
    done
    return 1
}

cluster_configure() {
    local user host port
    user=$(id -un) host=$(hostname -s)
    port=$(free_ports) || return 1
    mkdir -p "$cluster"/{state,tmp} && chmod 700 "$cluster" && mkdir -p "$cluster"/{tmp,spool}/n{1,2,3,4} || return 1
    (umask 077; head -c 1024 /dev/urandom >"$cluster/munge.key")
    cat >"$cluster/slurm.conf" <<CONF
ClusterName=private
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmUser=$user
SlurmdUser=$user
AuthType=auth/munge
AuthInfo=socket=$cluster/munge.socket,cred_expire=5
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StateSaveLocation=$cluster/state
SlurmdSpoolDir=$cluster/spool/%n
TmpFS=$cluster/tmp/%n
SlurmctldPidFile=$cluster/slurmctld.pid
SlurmdPidFile=$cluster/slurmd.%n.pid
SlurmctldLogFile=$cluster/slurmctld.log
SlurmdLogFile=$cluster/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=sched_min_interval=100000,batch_sched_delay=0,bf_interval=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
SlurmdTimeout=5
SlurmctldTimeout=10
BatchStartTimeout=10
MessageTimeout=5
InactiveLimit=0
KillWait=8
WaitTime=0
UnkillableStepTimeout=30
OverTimeLimit=0
SlurmdParameters=config_overrides
NodeName=n1 NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + 1)) CPUs=32
NodeName=n2 NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + 2)) CPUs=4
NodeName=n3 NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + 3)) CPUs=4
NodeName=n4 NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + 4)) CPUs=4
PartitionName=main Nodes=n1 Default=YES
PartitionName=frail Nodes=n2
PartitionName=patient Nodes=n3 PriorityTier=1 GraceTime=20
PartitionName=low Nodes=n4 PriorityTier=1
PartitionName=urgent Nodes=n3,n4 PriorityTier=2
CONF
    export SLURM_CONF=$cluster/slurm.conf
}

node_up() { slurmd -N "$1" >"$cluster/slurmd.$1.out" 2>&1; }

# cluster_up: within 30 seconds all nodes are idle, or it fails and shows the logs.
cluster_up() {
    local node i
    cluster_configure || return 1
    munged --force --key-file="$cluster/munge.key" --socket="$cluster/munge.socket" --pid-file="$cluster/munged.pid" \
        --log-file="$cluster/munged.log" --seed-file="$cluster/munged.seed" >"$cluster/munged.out" 2>&1 || { cat "$cluster/munged.out"; return 1; }
    slurmctld >"$cluster/slurmctld.out" 2>&1 || { cat "$cluster/slurmctld.out"; return 1; }
    for node in n1 n2 n3 n4; do node_up $node || { cat "$cluster/slurmd.$node.out"; return 1; }; done
    for i in $(seq 150); do
        [ "$(sinfo -h -N -t idle -o %N 2>/dev/null | sort -u | wc -l)" -eq 4 ] && return 0
        sleep 0.2
    done
    tail -n 20 "$cluster"/slurm*.log
    return 1
}

# Everything that runs out of this folder ends: daemons by their pid files, steps and jobs by SLURM_CONF in their environment.
cluster_down() {
    local file pid i
    [ -f "$cluster/slurm.conf" ] || return 0
    scancel --full -u "$(id -un)" 2>/dev/null
    for pid in $(cluster_processes); do kill -CONT "$pid" 2>/dev/null; done
    for file in "$cluster"/slurmctld.pid "$cluster"/slurmd.*.pid "$cluster"/munged.pid; do
        [ -f "$file" ] && kill "$(cat "$file")" 2>/dev/null
    done
    for i in $(seq 20); do
        [ -z "$(cluster_processes)" ] && return 0
        sleep 0.2
    done
    for pid in $(cluster_processes); do kill -9 "$pid" 2>/dev/null; done
    sleep 0.2
}

# cluster_processes [NAME=VALUE]: those with this cluster's configuration (and the variable) in their environment.
cluster_processes() {
    local folder pid
    for folder in /proc/[0-9]*; do
        pid=${folder#/proc/}
        [ "$pid" = $$ ] || [ "$pid" = "$BASHPID" ] && continue
        tr '\0' '\n' <"$folder/environ" 2>/dev/null | grep -cxF -e "SLURM_CONF=$SLURM_CONF" -e "${1:-SLURM_CONF=$SLURM_CONF}" |
            grep -qx "$(($# + 1))" && echo "$pid"
    done 2>/dev/null
}
