#!/usr/bin/env bash
# Three etcd members on 127.0.0.31 to .33 with their data below DIR, in the foreground until killed: etcd.sh DIR
set -eu
dir=$1
cluster=e1=http://127.0.0.31:2380,e2=http://127.0.0.32:2380,e3=http://127.0.0.33:2380
pids=()
trap 'kill "${pids[@]}" 2>/dev/null; wait' EXIT
trap 'exit 0' TERM INT
for n in 1 2 3; do
    ip=127.0.0.3$n
    etcd --name "e$n" --data-dir "$dir/e$n" --log-level error --logger zap \
        --listen-peer-urls "http://$ip:2380" --initial-advertise-peer-urls "http://$ip:2380" \
        --listen-client-urls "http://$ip:2379" --advertise-client-urls "http://$ip:2379" \
        --initial-cluster "$cluster" --initial-cluster-state new --initial-cluster-token bench &
    pids+=($!)
done
wait
