#!/usr/bin/env bash
# Fetches the jars of every Kafka version that the tests run, through Maven into the cache, once.
# A version appears whole or not at all.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/env.sh

# fetch VERSION FOLDER
fetch() {
    [ -d "$2" ] && return
    echo "deps: fetching Kafka $1's jars with Maven into $2"
    mkdir -p "$(dirname "$2")"
    local scratch
    scratch="$(mktemp -d "$2.XXXXXX")"
    cp scripts/kafka-jars.pom.xml "$scratch/pom.xml"
    for attempt in 1 2 3; do
        if mvn -B -q -ntp -f "$scratch/pom.xml" -Dkafka.version="$1" \
            org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies \
            -DincludeScope=runtime -DoutputDirectory="$scratch/libs" </dev/null; then
            mv "$scratch/libs" "$2"
            rm -rf "$scratch"
            echo "deps: $(ls "$2" | wc -l) jars"
            return
        fi
        echo "deps: Maven failed (attempt $attempt of 3)" >&2
    done
    rm -rf "$scratch"
    return 1
}

fetch 4.3.1 "$KAFKA_JARS"
# The oldest line that is still common: exactly-once must work there too.
fetch 3.9.1 "$(dirname "$KAFKA_JARS")/kafka-3.9.1"
