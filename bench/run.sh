#!/usr/bin/env bash
# Tandem beside Kamailio, rtpengine and etcd, in one run on this machine: medians of three, as a table and in FIGURES.md.
#
#   BENCH_QUICK=1  one short round instead of three    BENCH_ONLY="register calls relay commits failover binary avalanche storage"  a part
#
# Everything runs on 127.0.0.x: Kamailio and rtpengine .20, etcd .31 to .33, phones .41; Tandem's nodes on 127.0.40.1 to .3.
# Only processes started here are ended.
set -u -o pipefail
cd "$(dirname "$0")/.." || exit 2
export PATH=$PATH:/usr/sbin:/sbin
target=${CARGO_TARGET_DIR:-$PWD/target}
bin=$target/release
phones=$bin/tandem-phones
only=${BENCH_ONLY:-register calls relay commits failover binary avalanche storage}
rounds=3 registers=2000 calls=1500 hold=40 commit_s=6 kills=100 town=20000 commands=1000000
if [ -n "${BENCH_QUICK:-}" ]; then rounds=1 registers=500 calls=300 hold=10 commit_s=2 kills=10 town=2000 commands=50000; fi

for program in "$phones" "$bin/tandem" kamailio rtpengine etcd jq; do
    command -v "$program" >/dev/null || { echo "bench: no $program; run make bench" >&2; exit 1; }
done
work=$(mktemp -d "$target/bench.XXXXXX") || exit 2
rows=$work/rows
: >"$rows"
export PHONES_PASSWORD=bench-phones
domain=bench.example
ulimit -n 65536 2>/dev/null || ulimit -n "$(ulimit -Hn)"

started=()
start() { # start LOG COMMAND...: sets $pid
    local log=$1
    shift
    "$@" >"$work/$log" 2>&1 &
    pid=$!
    started+=("$pid")
}
stop() { # stop PID: asks, and insists after ten seconds
    kill -TERM "$1" 2>/dev/null
    for _ in $(seq 100); do
        kill -0 "$1" 2>/dev/null || break
        sleep 0.1
    done
    kill -KILL "$1" 2>/dev/null
    wait "$1" 2>/dev/null
}
ending() {
    for p in "${started[@]}"; do stop "$p"; done
    rm -rf "$work/cluster" "$work/etcd" "$work/commits"
}
trap ending EXIT
trap 'exit 130' INT TERM
say() { echo "bench: $*" >&2; }

# note ROW VALUE: one measured value; the median of a row's values is shown.
note() { printf '%s\t%s\n' "$1" "$2" >>"$rows"; }
median() { awk -F'\t' -v row="$1" '$1 == row { print $2 }' "$rows" | sort -g | awk '{ v[NR] = $1 } END { if (NR) print v[int((NR + 1) / 2)]; else print "-" }'; }
# take JSON ROW FIELD: notes a field of a result.
take() { note "$2" "$(jq -r "($3) // \"-\"" <<<"$1")"; }
sound() { # sound WHO JSON: complains of a run that isn't clean
    jq -e '.failed == 0 and (.surprises | length) == 0' <<<"$2" >/dev/null || say "$1 was not clean: $(jq -c '{failed, failures, surprises}' <<<"$2")"
}

kamailio_up() { # kamailio_up [define]: sets $kamailio
    local define=${1:-PLAIN}
    sed "s,@LISTEN@,udp:127.0.0.20:5060,; s,@REALM@,$domain,g; s,@PASSWORD@,$PHONES_PASSWORD,; s,@RTPENGINE@,udp:127.0.0.20:2223," \
        bench/kamailio.cfg >"$work/kamailio.cfg"
    start kamailio.log kamailio -f "$work/kamailio.cfg" -A "$define" -DD -E -m 512 -M 16 -Y "$work" -P "$work/kamailio.pid"
    kamailio=$pid
    for _ in $(seq 50); do
        "$phones" register --local 127.0.0.41:0 --target 127.0.0.20:5060 --domain $domain --first 90000 --count 1 2>/dev/null |
            jq -e '.registered == 1' >/dev/null && return
        sleep 0.2
    done
    say "Kamailio doesn't answer: $(cat "$work/kamailio.log")"
    exit 1
}

rtpengine_up() {
    start rtpengine.log rtpengine --table=-1 --interface=127.0.0.20 --listen-ng=127.0.0.20:2223 \
        --port-min=20000 --port-max=29999 --num-threads=2 --foreground --log-stderr --log-level=3
    rtpengine=$pid
    sleep 1
}

tandem_up() { # tandem_up [PHONES MORE]: sets $tandem and the nodes' pids $n1 $n2 $n3
    local more=${1:-0}
    rm -rf "$work/cluster"
    mkdir -p "$work/cluster"
    {
        printf 'tenants:\n  - name: bench\n    domain: %s\n    timezone: UTC\n    extensions:\n' $domain
        seq 1000 6999 | sed "s/.*/      - {number: \"&\", name: Bench &, password: $PHONES_PASSWORD}/"
        [ "$more" = 0 ] || seq 10000 $((9999 + more)) | sed "s/.*/      - {number: \"&\", name: Bench &, password: $PHONES_PASSWORD}/"
        printf '      - {number: "90000", name: Probe, password: %s}\n' "$PHONES_PASSWORD"
    } >"$work/bench.yaml"
    start tandem.log "$bin/tandem" demo --dir "$work/cluster" --file "$work/bench.yaml" --subnet 127.0.40
    tandem=$pid
    for _ in $(seq 600); do
        grep -q '^ready' "$work/tandem.log" && break
        kill -0 "$tandem" 2>/dev/null || { say "tandem demo ended: $(cat "$work/tandem.log")"; exit 1; }
        sleep 0.1
    done
    grep -q '^ready' "$work/tandem.log" || { say "tandem demo is not ready: $(cat "$work/tandem.log")"; exit 1; }
    n1=$(cat "$work/cluster/n1/tandem.pid") n2=$(cat "$work/cluster/n2/tandem.pid") n3=$(cat "$work/cluster/n3/tandem.pid")
}

cpu_s() { awk -v hz="$(getconf CLK_TCK)" '{ print ($14 + $15) / hz }' "/proc/$1/stat"; }

# What a node does without a phone: leases, the archive, timers. It is in each figure per 1,000, by its share of the time.
idle() {
    local before
    before=$(cpu_s "$n1")
    sleep 20
    note idle "$(awk -v a="$before" -v b="$(cpu_s "$n1")" 'BEGIN { print (b - a) / 20 * 100 }')"
}

# What lasts: the growth by more registrations, after the transactions of the earlier ones (32 s, timer J) are over and
# their room is free again.
registration_memory() {
    local one
    sleep 35
    idle
    one=$("$phones" register --local 127.0.0.41:0 --domain $domain --first $((1000 + registers)) --count "$registers" --rate 400 --fresh \
        --target 127.0.40.1:5060 --pid "$n1")
    sound Tandem "$one"
    note memory/registration "$(jq "(.peer_rss_kb_after - .peer_rss_kb_before) / .registered" <<<"$one")"
}

bench_register() {
    local common=(--local 127.0.0.41:0 --domain $domain --first 1000 --count "$registers" --rate 400) one first
    kamailio_up
    for round in $(seq "$rounds"); do
        say "REGISTER, Kamailio, round $round"
        one=$("$phones" register "${common[@]}" --target 127.0.0.20:5060 --pid "$kamailio" --unregister)
        sound Kamailio "$one"
        take "$one" register/refresh/kamailio .peer_cpu_s_per_1000
        one=$("$phones" register "${common[@]}" --fresh --target 127.0.0.20:5060 --pid "$kamailio" --unregister)
        sound Kamailio "$one"
        take "$one" register/new/kamailio .peer_cpu_s_per_1000
    done
    stop "$kamailio"
    for round in $(seq "$rounds"); do
        tandem_up
        say "REGISTER, Tandem, round $round"
        first=$("$phones" register "${common[@]}" --fresh --target 127.0.40.1:5060 --pid "$n1")
        sound Tandem "$first"
        take "$first" register/new/tandem .peer_cpu_s_per_1000
        one=$("$phones" register "${common[@]}" --target 127.0.40.1:5060 --pid "$n1")
        sound Tandem "$one"
        take "$one" register/refresh/tandem .peer_cpu_s_per_1000
        take "$one" register/p99/tandem .latency_ms.p99
        registration_memory
        stop "$tandem"
    done
}

bench_calls() {
    local common=(--local 127.0.0.41:5099 --domain $domain --first 1000 --count 500 --calls "$calls" --rate 50 --hold 1) one
    kamailio_up
    for round in $(seq "$rounds"); do
        say "calls, Kamailio, round $round"
        one=$("$phones" calls "${common[@]}" --target 127.0.0.20:5060 --pid "$kamailio")
        sound Kamailio "$one"
        take "$one" calls/kamailio .peer_cpu_s_per_1000
        take "$one" calls/p99/kamailio .setup_ms.p99
    done
    stop "$kamailio"
    tandem_up
    for round in $(seq "$rounds"); do
        say "calls, Tandem, round $round"
        one=$("$phones" calls "${common[@]}" --target 127.0.40.1:5060 --pid "$n1")
        sound Tandem "$one"
        take "$one" calls/one/tandem .peer_cpu_s_per_1000
        take "$one" calls/p99/tandem .setup_ms.p99
        one=$("$phones" calls "${common[@]}" --target 127.0.40.1:5060 --callee-target 127.0.40.2:5060 --pid "$n1" --pid "$n2" --pid "$n3")
        sound Tandem "$one"
        take "$one" calls/cluster/tandem .peer_cpu_s_per_1000
    done
    stop "$tandem"
}

relay() { # relay WHO COUNT TARGET PIDS...: one plateau
    local who=$1 count=$2 target=$3 one
    shift 3
    one=$("$phones" calls --local 127.0.0.41:5099 --domain $domain --first 1000 --count "$count" --calls "$count" --rate 40 \
        --hold "$hold" --plateau --rtp --target "$target" "$@")
    sound "$who" "$one"
    take "$one" "relay/$count/$who" .peer_cpu_s_per_call_minute
    note "loss/$count/$who" "$(jq '.rtp.lost / ([.rtp.received + .rtp.lost, 1] | max) * 100' <<<"$one")"
    take "$one" "p50/$count/$who" .rtp.delay_ms.p50
    take "$one" "p99/$count/$who" .rtp.delay_ms.p99
    take "$one" "memory/$count/$who" .peer_rss_kb_per_call
    note "back/$count/$who" "$(jq '(.peer_rss_kb_after - .peer_rss_kb_before)' <<<"$one")"
}

bench_relay() {
    local round
    for round in $(seq "$rounds"); do
        # Memory grows from a fresh start, so each round starts the programs anew.
        say "relay, no relay at all, round $round"
        kamailio_up
        relay direct 400 127.0.0.20:5060 --pid "$kamailio"
        stop "$kamailio"
        rtpengine_up
        kamailio_up WITH_RTPENGINE
        for count in 100 400; do
            say "relay of $count calls, Kamailio and rtpengine, round $round"
            relay kamailio $count 127.0.0.20:5060 --pid "$kamailio" --pid "$rtpengine"
        done
        stop "$kamailio"
        stop "$rtpengine"
        tandem_up
        for count in 100 400; do
            say "relay of $count calls, Tandem, round $round"
            relay tandem $count 127.0.40.1:5060 --pid "$n1"
        done
        stop "$tandem"
    done
}

bench_commits() {
    local round writers one leader
    for round in $(seq "$rounds"); do
        rm -rf "$work/etcd"
        mkdir -p "$work/etcd"
        start etcd.log bench/etcd.sh "$work/etcd"
        local etcd=$pid
        leader=
        for _ in $(seq 100); do
            for n in 1 2 3; do
                # The leader's own metrics say so; asking it directly spares etcd a hop.
                [ "$(curl -s "http://127.0.0.3$n:2379/metrics" | awk '$1 == "etcd_server_is_leader" { print $2 }')" = 1 ] && leader=127.0.0.3$n:2379
            done
            [ -n "$leader" ] && break
            sleep 0.2
        done
        for writers in 1 16 256; do
            say "commits, etcd, $writers writers, round $round"
            one=$("$bin/examples/etcd_commits" "$leader" $writers $commit_s 200)
            take "$one" "commits/$writers/etcd" .commits_per_second
        done
        stop "$etcd"
        say "commits, Tandem, round $round"
        rm -rf "$work/commits"
        one=$("$bin/examples/commits" $commit_s "$work/commits")
        for writers in 1 16 256; do
            take "$one" "commits/$writers/tandem" ".steps[] | select(.writers == $writers) | .commits_per_s"
        done
    done
}

# The leader killed again and again, on direct links and on slow ones: each number is over all kills, not a median of rounds.
bench_failover() {
    local delay one
    for delay in 0 10 80; do
        say "$kills leaders killed, links of $delay ms"
        one=$("$bin/examples/failover" "$kills" $delay) || { say "failover over links of $delay ms failed"; continue; }
        for figure in median p99 max; do take "$one" failover/$delay/$figure ".${figure}_ms"; done
    done
}

# How large the program is, and how long a node that is started again takes until its API answers and until it may take calls.
bench_binary() {
    local stripped=$work/stripped begun
    strip -o "$stripped" "$bin/tandem"
    note binary/mb "$(awk -v b="$(stat -c %s "$stripped")" 'BEGIN { print b / 1e6 }')"
    tandem_up
    for _ in $(seq "$rounds"); do
        kill -9 "$n3"
        while kill -0 "$n3" 2>/dev/null; do sleep 0.05; done
        sleep 3
        begun=$(date +%s%N)
        start node.log "$bin/tandem" node run --config "$work/cluster/n3/tandem.toml"
        n3=$pid
        until curl -sf http://127.0.40.3:8080/healthz >/dev/null; do sleep 0.005; done
        note binary/healthz "$((($(date +%s%N) - begun) / 1000000))"
        until curl -sf http://127.0.40.3:8080/readyz >/dev/null; do sleep 0.005; done
        note binary/readyz "$((($(date +%s%N) - begun) / 1000000))"
    done
    stop "$n3"
    stop "$tandem"
}

# All phones of a town in the same second, over three nodes; they obey Retry-After.
bench_avalanche() {
    local one
    tandem_up "$town"
    say "avalanche of $town phones"
    one=$("$phones" register --local 127.0.0.41:0 --domain $domain --first 10000 --count "$town" --avalanche --expires 300 --keep-nonce \
        --rate 400 --rounds 1 --target 127.0.40.1:5060 --target 127.0.40.2:5060 --target 127.0.40.3:5060)
    sound Tandem "$one"
    take "$one" avalanche/seconds .avalanche.seconds
    take "$one" avalanche/p50 .avalanche.wait_ms.p50
    take "$one" avalanche/p99 .avalanche.wait_ms.p99
    take "$one" avalanche/deferred .avalanche.deferred
    stop "$tandem"
}

bench_storage() {
    local lines
    say "a restart after $commands commands, a large snapshot, CDRs on disk"
    lines=$("$bin/examples/storage" "$commands") || { say "storage failed"; return; }
    one() { jq -c "select(.measure == \"$1\")" <<<"$lines"; }
    take "$(one restart)" storage/start .start_s
    take "$(one snapshot)" storage/write .write_s
    take "$(one snapshot)" storage/extra .write_extra_kb
    take "$(one snapshot)" storage/read .read_s
    take "$(one cdrs)" storage/cdrs '(.cdrs_bytes_per_1000 + .events_bytes_per_1000) / 1000'
    take "$(one cdrs)" storage/index '.index_bytes_per_1000 / 1000'
}

began=$(date +%s)
for part in $only; do "bench_$part"; done

number() { # number ROW: the median with a sensible count of places
    median "$1" | awk '{ if ($1 == "-") print "-"; else if ($1 >= 100) printf "%.0f\n", $1; else if ($1 >= 10) printf "%.1f\n", $1; else printf "%.3f\n", $1 }'
}
row() { printf '| %s | %s | %s | %s |\n' "$1" "$(number "$2")" "$([ "$3" = - ] && echo - || number "$3")" "$4"; }
table() {
    echo '| What | Tandem | Peer | Peer is |'
    echo '|---|---|---|---|'
    row 'REGISTER with digest, refresh, CPU-s per 1,000' register/refresh/tandem register/refresh/kamailio 'Kamailio, memory only'
    row 'REGISTER with digest, new binding, CPU-s per 1,000' register/new/tandem register/new/kamailio 'Kamailio, memory only'
    row 'A node with its registrations at rest, % of one core' idle - ''
    row 'REGISTER refresh, p99, ms' register/p99/tandem - ''
    row 'Call set-up and tear-down on one node, CPU-s per 1,000 (that node)' calls/one/tandem calls/kamailio 'Kamailio, no dialog state'
    row 'Call across two nodes, CPU-s per 1,000 (all three nodes)' calls/cluster/tandem - ''
    row 'INVITE with credentials to 200, p99, ms' calls/p99/tandem calls/p99/kamailio 'Kamailio'
    for count in 100 400; do
        row "Relay of $count G.711 calls, CPU-s per call-minute" relay/$count/tandem relay/$count/kamailio 'Kamailio and rtpengine, userspace'
        row "... lost packets, %" loss/$count/tandem loss/$count/kamailio ''
        row "... delay p50, ms" p50/$count/tandem p50/$count/kamailio ''
        row "... delay p99, ms" p99/$count/tandem p99/$count/kamailio ''
        row "... memory per call, KB" memory/$count/tandem memory/$count/kamailio ''
        row "... memory not given back, KB" back/$count/tandem back/$count/kamailio ''
    done
    row 'Delay without any relay at 400 calls, p50, ms (the phones alone)' p50/400/direct - ''
    row 'Delay without any relay at 400 calls, p99, ms (the phones alone)' p99/400/direct - ''
    row 'Memory per registration, KB' memory/registration - ''
    for writers in 1 16 256; do
        row "Commits a second, $writers writers" commits/$writers/tandem commits/$writers/etcd 'etcd, three members, same disk'
    done
    row 'The program, stripped, MB' binary/mb - ''
    row 'A node started again: API answers after, ms' binary/healthz - ''
    row '... may take calls after, ms' binary/readyz - ''
    row "$town phones at once: all back after, s" avalanche/seconds - ''
    row '... waited p50, ms' avalanche/p50 - ''
    row '... waited p99, ms' avalanche/p99 - ''
    row '... sent away for a while (503)' avalanche/deferred - ''
    row "Start after $commands commands, until the node may act, s" storage/start - ''
    row 'Snapshot of 100,000 registrations, 10,000 tenants: written, s' storage/write - ''
    row '... memory that it took, KB' storage/extra - ''
    row '... read again, s' storage/read - ''
    row '1,000 CDRs with their events on disk, KB' storage/cdrs - ''
    row '... their index (rebuilt from them at any time), KB' storage/index - ''
    for delay in 0 10 80; do
        [ $delay = 0 ] && links='one machine' || links="links of $delay ms each way"
        for figure in median p99 max; do row "kill -9 of the leader to the next commit, $links, $figure, ms" failover/$delay/$figure - ''; done
    done
}
# Rows of parts that were not run are left out.
table | grep -vE '^\| .* \| - \| - \|' >"$work/table"
cat "$work/table"
{
    echo "## $(date -u +%Y-%m-%d): \`${BENCH_QUICK:+BENCH_QUICK=1 }${BENCH_ONLY:+BENCH_ONLY=\"$BENCH_ONLY\" }make bench\`"
    echo
    echo "$(nproc) cores, generator included; $(uname -sr); commit $(git rev-parse --short HEAD 2>/dev/null || echo unknown);" \
        "Kamailio $(kamailio -v | awk 'NR==1 {print $3}'), rtpengine $(rtpengine --version 2>&1 | awk 'NR==1 {print $2}')," \
        "etcd $(etcd --version | awk 'NR==1 {print $3}')."
    if [ "$rounds" = 1 ]; then echo "One short round."; else echo "Medians of $rounds."; fi
    echo "CPU seconds of the process tree from /proc; calls and registrations are counted only when they succeeded."
    echo
    cat "$work/table"
    echo
} >"$work/section"
if [ -f FIGURES.md ]; then
    # The newest section comes first, after the head.
    awk -v section="$work/section" 'BEGIN { while ((getline line < section) > 0) text = text line "\n" }
        /^## / && !done { printf "%s", text; done = 1 } { print } END { if (!done) printf "\n%s", text }' FIGURES.md >"$work/figures"
else
    { printf '# Figures\n\nWhat `make bench` measured, newest first. Read ratios, and ignore gaps under 25 %%.\n\n'; cat "$work/section"; } >"$work/figures"
fi
cp "$work/figures" FIGURES.md
say "done in $(($(date +%s) - began)) s; FIGURES.md has the table; logs in $work"
