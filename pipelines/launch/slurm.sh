#!/bin/bash
# A Slurm job array over one output folder on a shared file system: every task takes every N-th
# shard; the last one to finish finalizes. Resubmit it as it stands after any failure: committed
# shards are skipped, and no image is done twice.
#
#   sbatch --array=0-7 pipelines/launch/slurm.sh IMAGES OUT MODEL
#
# The model must be there before (`vqtok train`): tasks that find none would all want to train it.
#SBATCH --job-name=vqtok
#SBATCH --cpus-per-task=16
#SBATCH --requeue
set -euo pipefail
exec vqtok tokenize "$1" --out "$2" --model "$3" \
    --rank-from slurm --threads "${SLURM_CPUS_PER_TASK:-16}" --json
