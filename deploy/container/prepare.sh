#!/bin/sh
# Configs and data directories for compose.yaml: the first node is initialised, the two others join it while it runs.
# Prints the operator's token. Needs docker and the image (`docker compose -f deploy/container/compose.yaml build`).
set -eu
cd "$(dirname "$0")"
tandem() { docker run --rm --network host --user 10001:10001 "$@"; }

[ ! -e data ] || { echo "prepare: $PWD/data is there already; remove it to begin anew" >&2; exit 1; }
for n in 1 2 3; do
    mkdir -p "data/n$n"
    sed "s/@N@/$n/g" node.toml >"data/n$n/tandem.toml"
done
chown -R 10001:10001 data

token=$(tandem -v "$PWD/data/n1:/data" tandem cluster init --config /data/tandem.toml)
first=$(docker run -d --network host --user 10001:10001 -v "$PWD/data/n1:/data" tandem)
trap 'docker stop -t 20 "$first" >/dev/null; docker rm "$first" >/dev/null' EXIT
ask() { tandem -e TANDEM_TOKEN="$token" tandem "$@" --api http://127.0.0.1:8080; }
for _ in $(seq 60); do
    ask cluster status >/dev/null 2>&1 && break
    sleep 0.5
done
for n in 2 3; do
    tandem -v "$PWD/data/n$n:/data" tandem cluster join "$(ask cluster invite)" --config /data/tandem.toml
done
echo "the operator's token: $token"
