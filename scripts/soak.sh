#!/usr/bin/env bash
# The repeated proofs of scripts/proofs.txt at full count: the code of `make test`, more seeds.
# Parts that passed on this commit are remembered in the cache and not run again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/env.sh
commit="$(git rev-parse --short=12 HEAD)"
[ -z "$(git status --porcelain)" ] || commit="$commit-changed-$(git diff HEAD | cksum | cut -d' ' -f1)"
record="$HEADWATER_CACHE/soak/$commit"
mkdir -p "$(dirname "$record")"
touch "$record"
cargo test --release --workspace --no-run
parts=0
while read -r suite _ runs part; do
    for ((first = 1; first <= runs; first += part)); do
        count=$((first + part - 1 > runs ? runs - first + 1 : part))
        line="$suite: seeds $first to $((first + count - 1))"
        grep -qx "$line" "$record" && continue
        if [ "$parts" -ge "${SOAK_PARTS:-1000000}" ]; then
            echo "soak: stopped after $parts parts; run it again to go on"
            exit 0
        fi
        echo "==> $line"
        HEADWATER_FIRST_SEED="$first" HEADWATER_RUNS="$count" timeout --kill-after=20 600 \
            cargo test --release --workspace --test "$suite" -- --nocapture </dev/null
        echo "$line" >>"$record"
        parts=$((parts + 1))
    done
done < <(grep -v '^#' scripts/proofs.txt)
echo "soak: complete on $commit"
cat "$record"
