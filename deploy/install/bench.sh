#!/bin/sh
# The peers that `make bench` measures beside Tandem: Kamailio, rtpengine (userspace), etcd; and jq for the tables.
set -eu
exec "$(dirname "$0")/apt.sh" kamailio=kamailio rtpengine-daemon=rtpengine etcd-server=etcd jq=jq curl=curl
