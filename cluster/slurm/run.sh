#!/usr/bin/env bash
# sbatch run.sh ARGUMENTS...: the command dasksne on a cluster inside this job's allocation.
# Task 0 is the scheduler, task 1 the command, all others are workers. Options of sbatch go before
# the file's name and win over those here. A job that was stopped is not begun again by SLURM, as a
# run that is there goes on by: sbatch run.sh resume RUN
#SBATCH --job-name=dasksne
#SBATCH --ntasks=6
#SBATCH --cpus-per-task=4
#SBATCH --mem-per-cpu=4G
#SBATCH --time=1:00:00
#SBATCH --no-requeue
set -euo pipefail

here=$SLURM_SUBMIT_DIR/cluster # SLURM runs a copy of this file, from a folder of its own
folder=$SLURM_SUBMIT_DIR/.dasksne-$SLURM_JOB_ID
trap 'rm -rf "$folder"' EXIT
mkdir -m 700 "$folder"
# A step takes one CPU a task where it is not told: the job's number is not passed on by itself.
"$here/tls.sh" "$folder" srun ${SLURM_CPUS_PER_TASK:+--cpus-per-task="$SLURM_CPUS_PER_TASK"} \
    python "$here/slurm/task.py" "$folder" "$@"
