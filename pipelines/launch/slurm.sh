#!/bin/bash
# A Slurm job array over one output folder on a shared file system, or in an object store: each task
# takes every N-th partition; the last one to finish finalizes. Submit it as it stands again after any
# failure: committed shards are skipped, and no image is done twice.
#
#   sbatch --array=0-7 pipelines/launch/slurm.sh IMAGES OUT MODEL [FLAGS of vqtok tokenize]
#
# The model must be there before (`vqtok train`): tasks that find none would all want to train it.
# Preemption and time limits: Slurm sends SIGTERM, vqtok drops the partition in work and says 143;
# this script puts the task back into the queue, as it does after exit code 75 (a store that doesn't
# answer, a folder that another job is at). What doesn't end within 10 seconds is killed, which costs
# no more than that partition either.
#SBATCH --job-name=vqtok
#SBATCH --cpus-per-task=16
#SBATCH --requeue
#SBATCH --open-mode=append
# To this script rather than to its steps, a minute before the time limit.
#SBATCH --signal=B:TERM@60
set -uo pipefail
if [ $# -lt 3 ]; then
    echo "usage: sbatch --array=0-7 $0 IMAGES OUT MODEL [FLAGS]" >&2
    exit 2
fi
images=$1 out=$2 model=$3
shift 3

child='' stopped=''
stop() {
    stopped=1
    if [ -n "$child" ]; then
        kill -TERM "$child" 2>/dev/null
        (sleep 10; kill -KILL "$child" 2>/dev/null) &
    fi
}
trap stop TERM
vqtok tokenize "$images" --out "$out" --model "$model" --rank-from slurm \
    --threads "${SLURM_CPUS_PER_TASK:-16}" --json "$@" &
child=$!
[ -z "$stopped" ] || stop

wait "$child"
status=$?
# A signal to this script ends the wait, not the child.
while kill -0 "$child" 2>/dev/null; do
    wait "$child"
    status=$?
done

case $status in
    0 | 1) # 1: some images failed; they are in failures/, and the output is whole.
        exit 0
        ;;
    75 | 130 | 137 | 143) # Nothing is lost: this task goes on where it stopped.
        sleep "${VQTOK_REQUEUE_WAIT:-30}"
        scontrol requeue "${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}"
        exit "$status"
        ;;
    *)
        exit "$status"
        ;;
esac
