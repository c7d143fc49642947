#!/bin/bash
# Images for places without an image registry: from Debian and Maven packages, and the service images on top of them.
# usage: build.sh [base|python|java|kafka|elasticsearch|prometheus|services|compose|all]...     (default: all)
# Needs root (debootstrap) and a running Docker engine; `engine.sh start` brings one. Variables, all optional:
#   AIRGAP_PREFIX                   begin of the names of images (localhost)
#   AIRGAP_CA_FILE                  CA certificates (PEM) of a proxy or mirror (the value of SSL_CERT_FILE)
#   AIRGAP_DEBIAN_MIRROR            Debian mirror (the one that debootstrap knows)
#   AIRGAP_DEBIAN_SECURITY_MIRROR   mirror of Debian's security updates (none)
#   AIRGAP_MAVEN_SETTINGS           Maven's settings.xml, for a mirror or a proxy
#   AIRGAP_PIP_CONF                 pip.conf, for an index of your own
#   AIRGAP_STATE                    folder of logs and work files (/var/lib/safescale-airgap)
#   AIRGAP_REBUILD                  1: build anew what is there
#   http_proxy, https_proxy, no_proxy
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
kafka_version=4.4.0
elasticsearch_version=9.5.3
prefix=${AIRGAP_PREFIX:-localhost}
state=${AIRGAP_STATE:-/var/lib/safescale-airgap}
ca=${AIRGAP_CA_FILE-${SSL_CERT_FILE:-}}
base=$prefix/debian:13

say() { printf '[%(%H:%M:%S)T] %s\n' -1 "$*"; }
fail() { echo "build.sh: $*" >&2; exit 2; }

logged() { # NAME COMMAND...: output into a log, shown when the command fails
  local log=$state/log/$1.log
  shift
  if ! "$@" > "$log" 2>&1; then
    tail -40 "$log" >&2
    fail "failed: $*; the whole log is $log"
  fi
}

client() { # A client that builds with BuildKit: a new one needs buildx, Debian 12's has it built in.
  local candidate
  for candidate in docker /usr/bin/docker; do
    command -v "$candidate" > /dev/null || continue
    if "$candidate" buildx version > /dev/null 2>&1; then echo "$candidate"; return; fi
    case $("$candidate" version --format '{{.Client.Version}}' 2> /dev/null) in
      20.* | 19.*) echo "$candidate"; return ;;
    esac
  done
  fail "no Docker client that can build with BuildKit; install docker-buildx or run engine.sh start"
}

recipe() { # PATH...: what an image is made from, as a digest; written into its label `recipe`
  (cd "$here" && find "$@" -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum | cut -c 1-16)
}

present() { # IMAGE RECIPE: it is there and of this recipe
  [ -z "${AIRGAP_REBUILD:-}" ] \
    && [ "$("$docker" image inspect --format '{{index .Config.Labels "recipe"}}' "$1" 2> /dev/null)" = "$2" ]
}

options() { # Options of each build, one a line
  local name
  for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY; do
    if [ -n "${!name:-}" ]; then printf '%s\n' --build-arg "$name"; fi
  done
  if [ -n "$ca" ]; then printf '%s\n' --secret "id=ca,src=$ca"; fi
  if [ -n "${AIRGAP_REBUILD:-}" ]; then echo --no-cache; fi
}

build() { # TARGET IMAGE ARGUMENTS...
  local target=$1 image=$2 opts digest
  shift 2
  digest=$(recipe Dockerfile debian maven kafka elasticsearch)
  if present "$image" "$digest"; then return; fi
  say "$image"
  mapfile -t opts < <(options)
  if [ -n "${AIRGAP_MAVEN_SETTINGS:-}" ]; then opts+=(--secret "id=maven,src=$AIRGAP_MAVEN_SETTINGS"); fi
  logged "$target" "$docker" build --progress=plain "${opts[@]}" --build-arg "AIRGAP_BASE=$base" \
    --label "recipe=$digest" --target "$target" --tag "$image" "$@" "$here"
}

base() {
  local digest
  digest=$(recipe debian)
  if present "$base" "$digest"; then return; fi
  say "$base"
  command -v debootstrap > /dev/null || fail "debootstrap is not installed; engine.sh start installs it"
  [ "$(id -u)" = 0 ] || fail "the base image needs root, for debootstrap"
  local tree=$state/work/debian mirror=${AIRGAP_DEBIAN_MIRROR:-} include=()
  rm -rf "$tree"
  case $mirror in https:*) include=(--include=ca-certificates) ;; esac
  if [ -n "$ca" ]; then
    printf 'ca_certificate = %s\n' "$ca" > "$state/work/wgetrc"
    export WGETRC=$state/work/wgetrc
  fi
  # Debian's signature is checked against the keys in debian-archive-keyring.
  logged debootstrap debootstrap --force-check-gpg --variant=minbase "${include[@]}" trixie "$tree" ${mirror:+"$mirror"}
  unset WGETRC
  if [ -n "${AIRGAP_DEBIAN_SECURITY_MIRROR:-}" ]; then
    echo "deb $AIRGAP_DEBIAN_SECURITY_MIRROR trixie-security main" >> "$tree/etc/apt/sources.list"
  fi
  install -m 0755 "$here/debian/apt-install" "$tree/usr/local/sbin/apt-install"
  install -m 0644 "$here/debian/apt-slim" "$tree/etc/apt/apt.conf.d/90slim"
  install -m 0644 "$here/debian/dpkg-slim" "$tree/etc/dpkg/dpkg.cfg.d/90slim"
  find "$tree/usr/share/doc" -type f ! -name copyright -delete
  find "$tree/usr/share/doc" -depth -type d -empty -delete
  # Folders of manual pages stay: packages put links into them.
  find "$tree"/usr/share/{man,info,locale,lintian} ! -type d -delete
  rm -rf "$tree"/var/lib/apt/lists/* "$tree"/var/log/{*.log,apt} \
    "$tree"/var/cache/apt/{archives/*.deb,*.bin}
  tar -C "$tree" --numeric-owner -c . > "$state/work/debian.tar"
  logged import "$docker" import -c 'CMD ["bash"]' -c "LABEL recipe=$digest" "$state/work/debian.tar" "$base"
  rm -rf "$tree" "$state/work/debian.tar"
}

python() { base; build python "$prefix/python:3.13-slim"; }
java() { base; build java "$prefix/java:21"; }
kafka() { base; build kafka "$prefix/kafka:$kafka_version" --build-arg "KAFKA_VERSION=$kafka_version"; }
prometheus() { base; build prometheus "$prefix/prometheus:debian13"; }

elasticsearch() {
  base
  build elasticsearch "$prefix/elasticsearch:$elasticsearch_version" --build-arg "ELASTICSEARCH_VERSION=$elasticsearch_version"
}

services() { # Always asked for: the builder's own cache knows whether sources have changed.
  python
  local opts name version
  version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' "$root/services/safescale/__init__.py")
  mapfile -t opts < <(options)
  if [ -n "${AIRGAP_PIP_CONF:-}" ]; then opts+=(--secret "id=pip-conf,src=$AIRGAP_PIP_CONF"); fi
  for name in inference retrieval orchestration scoring gateway model-server standalone; do
    say "safescale/$name:$version"
    logged "$name" "$docker" build --progress=plain "${opts[@]}" --build-arg "BASE_IMAGE=$prefix/python:3.13-slim" \
      --build-arg "VERSION=$version" --target "$name" --tag "safescale/$name:$version" \
      --file "$root/services/Dockerfile" "$root"
  done
}

compose() { # docker compose and buildx where the client has none: Debian 13's packages, which hold plain Go programs
  local folder=/usr/local/lib/docker/cli-plugins deb=$state/work/plugins opts=()
  if [ -z "${AIRGAP_REBUILD:-}" ] && "$docker" compose version > /dev/null 2>&1; then return; fi
  base
  say "docker compose in $folder"
  rm -rf "$deb"
  mkdir -p "$deb" "$folder"
  if [ -n "$ca" ]; then opts=(-v "$ca:/run/secrets/ca:ro"); fi
  logged compose "$docker" run --rm -e http_proxy -e https_proxy -e no_proxy "${opts[@]}" -v "$deb:/deb" "$base" sh -c \
    'apt-install docker-compose docker-buildx && cp /usr/libexec/docker/cli-plugins/docker-compose /usr/libexec/docker/cli-plugins/docker-buildx /deb/'
  install -m 0755 "$deb"/docker-* "$folder/"
  rm -rf "$deb"
}

all() { base; python; kafka; elasticsearch; prometheus; services; compose; }

[ $# -gt 0 ] || set -- all
for step in "$@"; do
  case $step in
    base | python | java | kafka | elasticsearch | prometheus | services | compose | all) ;;
    *) fail "unknown step $step; expected base, python, java, kafka, elasticsearch, prometheus, services, compose or all" ;;
  esac
done
for file in "$ca" "${AIRGAP_MAVEN_SETTINGS:-}" "${AIRGAP_PIP_CONF:-}"; do
  [ -z "$file" ] || [ -r "$file" ] || fail "the file $file cannot be read"
done
mkdir -p "$state/log" "$state/work"
export DOCKER_BUILDKIT=1
docker=$(client)
"$docker" info > /dev/null 2>&1 || fail "no Docker engine answers; engine.sh start brings one"
for step in "$@"; do "$step"; done
say "ready"
"$docker" images --format '{{.Size}}\t{{.Repository}}:{{.Tag}}' | grep -E "\s($prefix|safescale)/" | sort -k 2
