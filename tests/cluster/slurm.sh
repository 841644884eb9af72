#!/usr/bin/env bash
# SLURM on the loopback of one machine: start it here, run a command under it, end it.
#
#   bash tests/cluster/slurm.sh COMMAND...
#   SLURM_TWO_NODES=1 bash tests/cluster/slurm.sh COMMAND...    # on those of nodes.sh
#
# It needs slurmctld, slurmd, srun and munged (Debian: slurmctld slurmd slurm-client
# munge), and root. Its daemons are its own, by their process ids and in a folder that
# is removed: a cluster that this machine belongs to is left alone.
set -euo pipefail
for tool in munged slurmctld slurmd srun; do
    PATH="$PATH:/usr/sbin" command -v "$tool" > /dev/null || {
        echo "slurm.sh: $tool is not installed" >&2
        exit 69
    }
done
PATH="$PATH:/usr/sbin"
home="$(mktemp -d)"
chmod 755 "$home"
daemons=() first=()
. "$(dirname "$0")/nodes.sh"
finish() {
    "${first[@]}" scancel --user="$(id -un)" 2> /dev/null || true
    for _ in $(seq 50); do  # a step that outlives the controller would wait for it
        [ -z "$("${first[@]}" squeue --noheader 2> /dev/null)" ] && break
        sleep 0.1
    done
    kill -KILL "${daemons[@]}" 2> /dev/null || true
    remove_nodes
    rm -rf "$home"
}
trap finish EXIT
mkdir "$home"/{state,munge,logs}
chmod 700 "$home/munge"
head -c 1024 /dev/urandom > "$home/munge/key"
chmod 600 "$home/munge/key"
export SLURM_CONF="$home/slurm.conf"
ctl_port="${SLURM_CTL_PORT:-16817}" node_port="${SLURM_NODE_PORT:-16818}"
if [ -n "${SLURM_TWO_NODES:-}" ]; then
    make_nodes
    first=(on_node 0)
    host=node0 address=192.0.2.1
    members="NodeName=node[0-1]"
else
    host="$(hostname -s)" address=127.0.0.1
    members="NodeName=$host NodeAddr=127.0.0.1"
fi
cat > "$SLURM_CONF" << CONF
ClusterName=loopback
SlurmctldHost=$host($address)
SlurmctldPort=$ctl_port
SlurmdPort=$node_port
SlurmUser=root
AuthType=auth/munge
# A job that is requeued waits until its credential expires: by default two minutes.
AuthInfo=socket=$home/munge/socket,cred_expire=10
CredType=cred/munge
StateSaveLocation=$home/state
SlurmdSpoolDir=$home/spool-%h
SlurmctldPidFile=$home/slurmctld.pid
SlurmdPidFile=$home/slurmd-%h.pid
SlurmctldLogFile=$home/logs/slurmctld
SlurmdLogFile=$home/logs/slurmd-%h
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
ReturnToService=2
SchedulerParameters=sched_interval=1,batch_sched_delay=0,requeue_delay=1,defer_batch
MinJobAge=300
KillWait=60
RequeueExit=143
$members CPUs=$(nproc) State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
munged --foreground --force --key-file="$home/munge/key" --socket="$home/munge/socket" \
    --pid-file="$home/munge/pid" --seed-file="$home/munge/seed" \
    --log-file="$home/munge/log" 2> /dev/null &
daemons+=($!)
until [ -S "$home/munge/socket" ]; do sleep 0.1; done
"${first[@]}" slurmctld -D 2> /dev/null &
daemons+=($!)
"${first[@]}" slurmd -D 2> /dev/null &
daemons+=($!)
if [ -n "${SLURM_TWO_NODES:-}" ]; then
    on_node 1 slurmd -D 2> /dev/null &
    daemons+=($!)
fi
are_idle() {  # all of one state
    [ "$("${first[@]}" sinfo --noheader --format=%T 2> /dev/null)" = idle ]
}
for _ in $(seq 300); do
    are_idle && break
    sleep 0.1
done
are_idle || {
    tail "$home"/logs/* >&2
    exit 1
}
"${first[@]}" "$@"
