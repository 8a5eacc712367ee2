#!/usr/bin/env bash
# A Slurm cluster of one node on this machine, for tests/test_slurm.py:  tests/slurm.sh start|stop,  as root, after
#   apt-get install --no-install-recommends slurmctld slurmd slurm-client munge        (Debian 12: Slurm 22.05)
# The node says that it has two processors, two GPUs and plenty of memory, whatever the machine has.
set -euo pipefail

NAME=chromolib-test # tests submit to a cluster of this name only
SETTINGS=/etc/slurm/slurm.conf # every Slurm command looks here
STATE=/var/spool/$NAME

settings() {
  cat <<END
ClusterName=$NAME
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmUser=root
SlurmctldPidFile=$STATE/slurmctld.pid
SlurmdPidFile=$STATE/slurmd.pid
SlurmctldLogFile=$STATE/slurmctld.log
SlurmdLogFile=$STATE/slurmd.log
StateSaveLocation=$STATE/controller
SlurmdSpoolDir=$STATE/node
AuthType=auth/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MinJobAge=3600
ReturnToService=2
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName=$(hostname -s) NodeAddr=127.0.0.1 CPUs=2 RealMemory=100000 Gres=gpu:2
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE
END
}

ready() { sinfo --noheader --format=%T 2>/dev/null | grep -Eq '^(idle|mixed|allocated|completing)$'; }

start() {
  if [ -e $SETTINGS ] && ! grep -q "^ClusterName=$NAME$" $SETTINGS; then
    echo "$SETTINGS belongs to another cluster; it is left alone" >&2
    exit 1
  fi
  ready && return
  mkdir -p $STATE/controller $STATE/node "$(dirname $SETTINGS)"
  settings >$SETTINGS
  printf 'Name=gpu File=%s\n' /dev/null /dev/zero >"$(dirname $SETTINGS)/gres.conf" # it wants devices; any will do
  if ! munge --no-input >/dev/null 2>&1; then
    install -d -o munge -g munge /run/munge
    runuser -u munge -- munged
  fi
  scontrol ping >/dev/null 2>&1 || slurmctld
  slurmd
  for _ in $(seq 60); do
    ready && return
    sleep 1
  done
  echo "the node is not ready after a minute; see $STATE/*.log" >&2
  sinfo >&2
  exit 1
}

stop() {
  grep -qs "^ClusterName=$NAME$" $SETTINGS || return 0
  scontrol shutdown || true # of slurmctld and slurmd; munged may serve others
}

case "${1:-}" in
  start | stop) "$1" ;;
  *) echo "usage: $0 start|stop" >&2 && exit 2 ;;
esac
