#!/usr/bin/env bash
# Fetches a schema registry (Apicurio, 142 MB) through Maven into the cache, once. It appears whole
# or not at all.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/env.sh
[ -d "$REGISTRY_HOME" ] && exit 0
echo "deps: fetching a schema registry with Maven into $REGISTRY_HOME"
mkdir -p "$(dirname "$REGISTRY_HOME")"
scratch="$(mktemp -d "$REGISTRY_HOME.XXXXXX")"
trap 'rm -rf "$scratch"' EXIT
artefact=io.apicurio:apicurio-registry-app:2.6.13.Final:tar.gz:all
plugin=org.apache.maven.plugins:maven-dependency-plugin:3.6.1
for attempt in 1 2 3; do
    if (cd "$scratch" \
        && mvn -B -q -ntp "$plugin:get" -Dartifact="$artefact" -Dtransitive=false </dev/null \
        && mvn -B -q -ntp "$plugin:copy" -Dartifact="$artefact" -DoutputDirectory="$scratch" </dev/null); then
        mkdir "$scratch/home"
        tar -xzf "$scratch"/apicurio-registry-app-*.tar.gz -C "$scratch/home"
        # The archive may hold its files in a folder of its own.
        home="$(dirname "$(find "$scratch/home" -maxdepth 2 -name '*-runner.jar' | head -1)")"
        mv "$home" "$REGISTRY_HOME"
        exit 0
    fi
    echo "deps: Maven failed (attempt $attempt of 3)" >&2
done
exit 1
