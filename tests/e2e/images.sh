#!/usr/bin/env bash
# The engine and the images that the tests of the grid need: started and built where they are missing, kept where they
# are as they should be. Run it ahead of run.sh to have them early; run.sh sources it for the names of the images.
# Images of your own: SAFESCALE_KAFKA_IMAGE, SAFESCALE_ELASTICSEARCH_IMAGE, SAFESCALE_PROMETHEUS_IMAGE, and
# SAFESCALE_IMAGES as the begin of the names of the service images.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

docker info > /dev/null 2>&1 || deploy/airgap/engine.sh start

here() { docker image inspect "$1" > /dev/null 2>&1; }
pulled() { here "$1" || timeout 600 docker pull --quiet "$1" > /dev/null 2>&1; }
official() { # every image that is not ours, from a registry
  local image
  for image in apache/kafka:4.4.0 docker.elastic.co/elasticsearch/elasticsearch:9.5.3 prom/prometheus:v3.5.0 python:3.13-slim; do
    pulled "$image" || return 1
  done
}

if [ -n "${SAFESCALE_KAFKA_IMAGE:-}" ]; then
  echo "images as named in the environment"
elif official; then
  docker compose --file deploy/compose.yaml build --quiet
else
  echo "no registry answers: images are built from packages"
  deploy/airgap/build.sh all
  set -a
  # shellcheck source=../../deploy/airgap/images.env
  source deploy/airgap/images.env
  set +a
fi

# It removes containers of tests that were killed; where its image is not to be had, the tests sweep by themselves.
pulled testcontainers/ryuk:0.8.1 || export TESTCONTAINERS_RYUK_DISABLED=true
