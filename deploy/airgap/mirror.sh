#!/bin/bash
# Carries the images of a release on Kubernetes to a registry that has no way out.
# usage: mirror.sh list [VALUES.yaml]...          images that the chart with these values needs, and those of deploy/k8s
#        mirror.sh save DIR [VALUES.yaml]...      each as a file, with a bill of materials (CycloneDX) and checksums
#        mirror.sh verify DIR                     checks the files
#        mirror.sh push DIR REGISTRY[/PATH]       checks, loads, and pushes each under the registry's name
# Variables, all optional:
#   SAFESCALE_KAFKA_IMAGE, SAFESCALE_ELASTICSEARCH_IMAGE   take the place of those in deploy/k8s (see images.env)
#   MIRROR_CHART_ONLY                                      1: leaves those of deploy/k8s out
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
index=images.txt
sums=SHA256SUMS

fail() { echo "mirror.sh: $*" >&2; exit 2; }
need() { command -v "$1" > /dev/null || fail "$1 is not in PATH; $2"; }

images_of() { # values of `image:` in Kubernetes objects on standard input
  awk '/^[[:space:]]*(- )?image:[[:space:]]/ { gsub(/["'\'']/, "", $NF); print $NF }'
}

chart_images() { # VALUES...
  local arguments=() file rendered
  need helm "it renders the chart"
  for file in "$@"; do
    [ -r "$file" ] || fail "$file cannot be read; expected a file of values"
    arguments+=(--values "$file")
  done
  rendered=$(helm template safescale "$root/charts/safescale" --namespace safescale "${arguments[@]}") \
    || fail "the chart cannot be rendered with ${*:-its defaults}"
  images_of <<< "$rendered"
}

trial_images() {
  local image
  while read -r image; do
    case $image in
      */elasticsearch:*) echo "${SAFESCALE_ELASTICSEARCH_IMAGE:-$image}" ;;
      */kafka:*) echo "${SAFESCALE_KAFKA_IMAGE:-$image}" ;;
      *) echo "$image" ;;
    esac
  done < <(cat "$root"/deploy/k8s/*.yaml | images_of)
}

list() {
  local all image
  all=$(chart_images "$@") || exit
  if [ -z "${MIRROR_CHART_ONLY:-}" ]; then all+=$'\n'$(trial_images); fi
  while read -r image; do
    case $image in
      "") continue ;;
      *@*) fail "$image is named by its digest, which a push changes; expected a tag" ;;
      *:*) echo "$image" ;;
      *) fail "$image has no tag; expected name:tag" ;;
    esac
  done <<< "$all" | LC_ALL=C sort -u
}

engine() {
  need docker "it holds the images"
  docker info > /dev/null 2>&1 || fail "no Docker engine answers"
}

here_already() { docker image inspect "$1" > /dev/null 2>&1; }

bill() { # ARCHIVE IMAGE FILE: a bill of materials, by syft where it is there
  if command -v syft > /dev/null; then
    syft scan "docker-archive:$1" --quiet --output "cyclonedx-json=$3"
  else
    need python3 "it writes the bill of materials, where syft is not there"
    python3 "$here/sbom.py" "$1" "$2" > "$3"
  fi || fail "the bill of materials of $2 cannot be made"
}

save() { # DIR VALUES...
  local dir=$1 all image name
  shift
  engine
  all=$(list "$@") || exit
  mkdir -p "$dir" || fail "$dir cannot be made"
  [ -z "$(ls -A "$dir")" ] || fail "$dir is not empty; expected a new folder"
  while read -r image; do
    if ! here_already "$image"; then
      docker pull --quiet "$image" > /dev/null < /dev/null \
        || fail "$image is neither here nor can be pulled; build.sh makes ours, and the values must name official images"
    fi
    name=$(tr '/:' '__' <<< "$image")
    [ ! -e "$dir/$name.tar" ] || fail "$image has the file name of another image: $name.tar"
    echo "$image"
    docker save --output "$dir/$name.tar" "$image" || fail "$image cannot be saved in $dir"
    bill "$dir/$name.tar" "$image" "$dir/$name.cdx.json"
    printf '%s %s\n' "$name.tar" "$image" >> "$dir/$index"
  done <<< "$all"
  # Written last: a folder without it is not whole.
  (cd "$dir" && LC_ALL=C sha256sum -- *.tar *.cdx.json "$index" > ".$sums" && mv ".$sums" "$sums")
  echo "saved in $dir: $(wc -l < "$dir/$index") images"
}

verify() { # DIR
  local listed there name
  [ -r "$1/$sums" ] || fail "$1/$sums is not there; expected a folder that save has finished"
  (cd "$1" && sha256sum --check --strict --quiet "$sums") || fail "$1 is damaged; see above"
  listed=$(sed 's/^[0-9a-f]*  //' "$1/$sums" | LC_ALL=C sort)
  there=$(cd "$1" && find . -mindepth 1 ! -name "$sums" -printf '%P\n' | LC_ALL=C sort)
  [ "$listed" = "$there" ] \
    || fail "$1 has files without a checksum: $(comm -13 <(echo "$listed") <(echo "$there") | tr '\n' ' ')"
  while read -r name _; do
    grep -qxF "$name" <<< "$listed" || fail "$1/$index names $name, which has no checksum"
  done < "$1/$index"
  echo "whole: $(wc -l < "$1/$index") images"
}

target_of() { # REGISTRY IMAGE: the name without its registry, below ours
  local first=${2%%/*} rest=$2
  if [ "$first" != "$2" ]; then
    case $first in *.* | *:* | localhost) rest=${2#*/} ;; esac
  fi
  echo "$1/$rest"
}

push() { # DIR REGISTRY
  local registry=${2%/} file image target
  [[ $registry =~ ^[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*$ ]] \
    || fail "the registry $2 is no name; expected host[:port][/path] without https://"
  engine
  verify "$1"
  while read -r file image; do
    target=$(target_of "$registry" "$image")
    docker load --quiet --input "$1/$file" > /dev/null < /dev/null || fail "$1/$file cannot be loaded"
    docker tag "$image" "$target" || fail "$image cannot be tagged $target"
    docker push --quiet "$target" > /dev/null < /dev/null || fail "$target cannot be pushed; docker login $registry?"
    echo "$target"
  done < "$1/$index"
}

case ${1:-} in
  list) shift; list "$@" ;;
  save) [ $# -ge 2 ] || fail "expected save DIR [VALUES.yaml]..."; shift; save "$@" ;;
  verify) [ $# -eq 2 ] || fail "expected verify DIR"; verify "$2" ;;
  push) [ $# -eq 3 ] || fail "expected push DIR REGISTRY[/PATH]"; push "$2" "$3" ;;
  *) fail "expected list, save, verify or push" ;;
esac
