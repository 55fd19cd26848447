#!/bin/sh
# What compiling needs beside Rust: a linker and C compiler. Skips what is there.
set -eu
here=$(dirname "$0")
if ! command -v cargo >/dev/null 2>&1; then
    echo "install: no cargo; install Rust first: https://rustup.rs" >&2
    exit 1
fi
exec "$here/apt.sh" gcc=cc libc6-dev=-
