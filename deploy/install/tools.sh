#!/bin/sh
# What `make test` checks deploy/ with: promtool (in Debian's prometheus), systemd-analyze.
set -eu
exec "$(dirname "$0")/apt.sh" prometheus=promtool systemd=systemd-analyze
