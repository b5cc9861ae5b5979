#!/usr/bin/env bash
# jobs.sh ARGUMENTS...: the command dasksne here, its workers in SLURM jobs that are replaced when
# they are lost. JOBS sets their number; CPUS, MEMORY and MINUTES are what each asks for.
set -euo pipefail
here=$(dirname "$0")
# Jobs are lost by the way: no task is to blame, and a message may be sent again. See the README.
export DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="${DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES:-10}"
export DASK_DISTRIBUTED__COMM__RETRY__COUNT="${DASK_DISTRIBUTED__COMM__RETRY__COUNT:-3}"
exec "$here/../tls.sh" ~/.dasksne-tls python "$here/jobs.py" "$@"
