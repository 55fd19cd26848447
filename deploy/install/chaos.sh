#!/bin/sh
# What the fault scripts need for a network namespace per node: ip, and nft to cut nodes off from each other. Without
# them, or without root, they run on loopback addresses.
"$(dirname "$0")/apt.sh" iproute2=ip nftables=nft || echo "install: going on without"
