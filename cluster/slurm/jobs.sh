#!/usr/bin/env bash
# jobs.sh ARGUMENTS...: the command dasksne here, its workers in SLURM jobs that are replaced when
# they are lost. JOBS sets their number; CPUS, MEMORY and MINUTES are what each asks for.
set -euo pipefail
here=$(dirname "$0")
exec "$here/../tls.sh" ~/.dasksne-tls python "$here/jobs.py" "$@"
