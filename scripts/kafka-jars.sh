#!/usr/bin/env bash
# Fetches Apache Kafka's jars through Maven into the cache, once. They appear whole or not at all.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/env.sh
[ -d "$KAFKA_JARS" ] && exit 0
echo "deps: fetching Kafka's jars with Maven into $KAFKA_JARS"
mkdir -p "$(dirname "$KAFKA_JARS")"
scratch="$(mktemp -d "$KAFKA_JARS.XXXXXX")"
trap 'rm -rf "$scratch"' EXIT
cp scripts/kafka-jars.pom.xml "$scratch/pom.xml"
for attempt in 1 2 3; do
    if mvn -B -q -ntp -f "$scratch/pom.xml" \
        org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies \
        -DincludeScope=runtime -DoutputDirectory="$scratch/libs" </dev/null; then
        mv "$scratch/libs" "$KAFKA_JARS"
        echo "deps: $(ls "$KAFKA_JARS" | wc -l) jars"
        exit 0
    fi
    echo "deps: Maven failed (attempt $attempt of 3)" >&2
done
exit 1
