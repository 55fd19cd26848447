# namespaces PREFIX probe|run WORDS...
# Four network namespaces: PREFIX-0 with a bridge and the phones, PREFIX-1 to -3 with a node each. They are deleted at the
# end, also after a signal or a failure.
set -u
export PATH=$PATH:/usr/sbin:/sbin
prefix=$1 order=$2
shift 2

cleaned() {
    trap - EXIT INT TERM
    for n in 0 1 2 3; do ip netns del "$prefix-$n" 2>/dev/null; done
}
trap cleaned EXIT
trap 'cleaned; exit 130' INT TERM

for n in 0 1 2 3; do
    ip netns add "$prefix-$n" && ip -n "$prefix-$n" link set lo up || exit 1
done
ip -n "$prefix-0" link add bridge0 type bridge && ip -n "$prefix-0" link set bridge0 up || exit 1
for n in 1 2 3; do
    ip -n "$prefix-0" link add "node$n" type veth peer name eth0 netns "$prefix-$n" || exit 1
    ip -n "$prefix-0" link set "node$n" master bridge0 up || exit 1
    ip -n "$prefix-$n" addr add "10.77.0.$n/24" dev eth0 && ip -n "$prefix-$n" link set eth0 up || exit 1
done
for host in $(seq 100 120); do
    ip -n "$prefix-0" addr add "10.77.0.$host/24" dev bridge0 || exit 1
done
if [ "$order" = probe ]; then
    ip netns exec "$prefix-1" nft list ruleset >/dev/null 2>&1 || ip netns exec "$prefix-1" iptables -L >/dev/null 2>&1
    exit
fi
ip netns exec "$prefix-0" "$@" --inside "$prefix" &
child=$!
trap 'kill -TERM $child 2>/dev/null; wait $child; cleaned; exit 130' INT TERM
wait "$child"
