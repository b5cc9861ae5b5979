#!/usr/bin/env bash
# tls.sh FOLDER COMMAND...: run a command whose Dask speaks TLS only.
#
# FOLDER gets a key and a certificate that is its own authority, unless they are there. Who holds
# the key may do anything on the cluster, and nobody else may do anything. Without a COMMAND the
# two files are made and nothing is run.
set -euo pipefail

mkdir -p "$1"
folder=$(cd "$1" && pwd)
shift

if [[ ! -e $folder/cert.pem ]]; then
    umask 077
    openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:prime256v1 -out "$folder/key.pem"
    openssl req -x509 -new -key "$folder/key.pem" -days 365 -subj "/CN=dasksne" \
        -out "$folder/cert.pem"
fi

export DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION=true
export DASK_DISTRIBUTED__COMM__TLS__CA_FILE=$folder/cert.pem
for role in CLIENT SCHEDULER WORKER; do
    export "DASK_DISTRIBUTED__COMM__TLS__${role}__CERT=$folder/cert.pem"
    export "DASK_DISTRIBUTED__COMM__TLS__${role}__KEY=$folder/key.pem"
done
[[ $# -eq 0 ]] || exec "$@"
