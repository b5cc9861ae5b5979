#!/usr/bin/env bash
# run.sh ARGUMENTS...: the command dasksne on a cluster of processes of this machine, all by TLS.
# WORKERS=n sets their number; without it, there is one for each core.
set -euo pipefail
set -m # Ctrl-C reaches the command alone, which says how to go on

folder=$(mktemp -d) # of this user alone: it holds the key and the scheduler's address
trap 'kill $(jobs -p) 2>/dev/null; wait; rm -rf "$folder"' EXIT
tls=("$(dirname "$0")/../tls.sh" "$folder")
"${tls[@]}"

"${tls[@]}" dask scheduler --host tls://127.0.0.1 --port 0 --no-dashboard \
    --scheduler-file "$folder/scheduler.json" 2>"$folder/scheduler.log" &
# One process a core and one thread each; Dask's nannies set one BLAS thread, and start a worker
# again that died.
"${tls[@]}" dask worker --scheduler-file "$folder/scheduler.json" --host 127.0.0.1 --no-dashboard \
    --nworkers "${WORKERS:-$(getconf _NPROCESSORS_ONLN)}" --nthreads 1 \
    --local-directory "$folder" 2>"$folder/workers.log" &

until [[ -s $folder/scheduler.json ]]; do
    kill -0 "$(jobs -p | head -1)" || { cat "$folder/scheduler.log" && exit 1; }
    sleep 0.1
done
"${tls[@]}" dasksne "$@" --scheduler-file "$folder/scheduler.json"
