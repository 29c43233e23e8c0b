#!/usr/bin/env bash
# Builds benches/peers (Kafka Streams through Maven) into the cache, once for each version of its
# source, and prints the class path. It appears whole or not at all.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/env.sh
source_sum="$(cat benches/peers/pom.xml benches/peers/src/main/java/*.java | cksum | cut -d' ' -f1)"
built="$HEADWATER_CACHE/jars/peers-$source_sum"
if [ ! -d "$built" ]; then
    echo "deps: building benches/peers with Maven into $built" >&2
    mkdir -p "$(dirname "$built")"
    scratch="$(mktemp -d "$built.XXXXXX")"
    trap 'rm -rf "$scratch"' EXIT
    cp -r benches/peers/pom.xml benches/peers/src "$scratch"
    mvn -B -q -ntp -f "$scratch/pom.xml" compile \
        org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies \
        -DincludeScope=runtime -DoutputDirectory="$scratch/libs" </dev/null >&2
    mv "$scratch" "$built"
fi
echo "$built/target/classes:$built/libs/*"
