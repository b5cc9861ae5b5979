#!/usr/bin/env bash
# run.sh HOST,HOST,... ARGUMENTS...: the command dasksne on a cluster that SSH starts.
set -euo pipefail
here=$(dirname "$0")
exec "$here/../tls.sh" ~/.dasksne-tls python "$here/cluster.py" "$@"
