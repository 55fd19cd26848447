#!/usr/bin/env bash
# Looks at everything in deploy/ that can be looked at without the machines it is for: the unit, the alerts, the scripts, the
# container's compose file. What can't be tried here (building the image, running under systemd) it does not claim.
set -eu -o pipefail
cd "$(dirname "$0")/.."
export PATH=$PATH:/usr/sbin:/sbin
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
say() { echo "deploy: $*"; }

say "the unit is sound, and little of the system is open to it"
sed 's,^ExecStart=/usr/local/bin/tandem.*,ExecStart=/bin/true,; s,^User=.*,User=nobody,; s,^Group=.*,Group=nogroup,' \
    deploy/systemd/tandem.service >"$work/tandem.service"
systemd-analyze verify --man=no "$work/tandem.service"
systemd-analyze security --offline=true --no-pager --threshold=25 "$work/tandem.service" >"$work/security" ||
    { cat "$work/security"; exit 1; }
tail -1 "$work/security"

say "the alerts are sound, fire when they should, and watch figures that nodes have"
promtool check rules deploy/prometheus/alerts.yaml
promtool test rules deploy/prometheus/alerts_test.yaml
for name in $(grep -o 'tandem_[a-z_]*' deploy/prometheus/alerts.yaml | sed 's/_bucket$//' | sort -u); do
    grep -rqs "\"$name\"" --include='*.rs' api actors cluster transport media sip switching src ||
        { say "no node has the figure $name"; exit 1; }
done
for name in $(grep -o 'alert: .*' deploy/prometheus/alerts.yaml | sed 's/alert: //'); do
    grep -q "alertname: $name\$" deploy/prometheus/alerts_test.yaml || { say "no test of the alert $name"; exit 1; }
done

say "each runbook that is named is there"
for book in $(grep -rhoE 'deploy/[a-zA-Z/-]+\.md' deploy src cluster/src api/src README.md | sort -u); do
    [ -f "$book" ] || { say "no $book"; exit 1; }
done

say "the scripts are sound"
for script in deploy/*.sh deploy/*/*.sh; do bash -n "$script"; done
sed 's/@N@/1/g' deploy/container/node.toml >"$work/tandem.toml"
grep -q 'name = "n1"' "$work/tandem.toml"
