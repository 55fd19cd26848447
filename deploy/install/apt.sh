#!/bin/sh
# Install Debian packages, for the other scripts here: apt.sh PACKAGE=PROGRAM ...
# A package whose program is there already (or, with PROGRAM "-", that dpkg knows as installed) is skipped.
# Needs root or sudo, and says what it does. A service that comes with a package installed here is switched off:
# the tests and measurements start these programs themselves, on addresses of their own.
set -eu

PATH=$PATH:/usr/sbin:/sbin
missing=
for pair in "$@"; do
    package=${pair%%=*} program=${pair#*=}
    if [ "$program" = - ]; then
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok installed' && continue
    elif command -v "$program" >/dev/null 2>&1; then
        continue
    fi
    missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
    echo "install: this machine has no apt-get; install by hand:$missing" >&2
    exit 1
fi
sudo=
if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null 2>&1 || { echo "install: not root and no sudo; run as root: apt-get install$missing" >&2; exit 1; }
    sudo=sudo
fi

echo "install: apt-get install$missing${sudo:+ (by sudo)}"
$sudo apt-get update -q
# shellcheck disable=SC2086 # one word per package
$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing

if [ -d /run/systemd/system ]; then
    for package in $missing; do
        for unit in $(dpkg -L "$package" | sed -n 's,^.*/systemd/system/\([^/@]*\.service\)$,\1,p'); do
            echo "install: switching off $unit, which came with $package"
            $sudo systemctl disable --now "$unit" >/dev/null 2>&1 || true
        done
    done
fi
