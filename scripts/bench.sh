#!/usr/bin/env bash
# Runs the benches (all, or those named), one JSON line each on standard output.
# BENCH_ARGS are given to each. Assertions are off for our own crates alone; nothing of others is compiled again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/env.sh
names=("$@")
if [ "${#names[@]}" = 0 ]; then
    for file in benches/src/bin/*.rs; do
        names+=("$(basename "$file" .rs)")
    done
fi
bins=()
for name in "${names[@]}"; do
    bins+=(--bin "$name")
done
cargo --config benches/no-assertions.toml build --release --workspace "${bins[@]}" >&2
# One core: the figures of the embedded log are for one, and the other is left to the machine.
pin=()
pair=()
command -v taskset >/dev/null && pin=(taskset -c 0) && pair=(taskset -c 0,1)
for name in "${names[@]}"; do
    echo "bench: $name" >&2
    binary="$CARGO_TARGET_DIR/release/$name"
    # shellcheck disable=SC2086 # BENCH_ARGS are words
    case "$name" in
    # Broker and contestants share all cores.
    peers) HEADWATER_PEERS="$(scripts/peers.sh)" "$binary" ${BENCH_ARGS:-} ;;
    # Its figures are for two cores.
    platform_load) "${pair[@]}" "$binary" ${BENCH_ARGS:-} ;;
    *) "${pin[@]}" "$binary" ${BENCH_ARGS:-} ;;
    esac
done
