#!/usr/bin/env bash
# Deletes a pod of a release at random, again and again, as nodes and upgrades do, and tells which.
# usage: chaos.sh [--namespace NAME] [--release NAME] [--every SECONDS] [--for SECONDS] [--seed N] [--force]
# --force kills at once (grace period 0) instead of letting pods drain. Ends with 1 when a deletion failed.
set -euo pipefail
namespace=safescale release=safescale every=10 length=180 seed=$RANDOM force=
while [ $# -gt 0 ]; do
  case $1 in
    --namespace) namespace=$2; shift 2 ;;
    --release) release=$2; shift 2 ;;
    --every) every=$2; shift 2 ;;
    --for) length=$2; shift 2 ;;
    --seed) seed=$2; shift 2 ;;
    --force) force=1; shift ;;
    *) echo "chaos.sh: unknown option $1; expected --namespace, --release, --every, --for, --seed or --force" >&2; exit 2 ;;
  esac
done
for number in "$every" "$length" "$seed"; do
  [[ $number =~ ^[0-9]+$ ]] || { echo "chaos.sh: $number is no whole number" >&2; exit 2; }
done
RANDOM=$seed
echo "chaos: a pod of $release in $namespace every $every s for $length s, seed $seed"
options=(--wait=false)
[ -z "$force" ] || options+=(--grace-period=0 --force)
end=$((SECONDS + length)) deleted=0 failed=0
while [ "$SECONDS" -lt "$end" ]; do
  mapfile -t pods < <(kubectl get pods --namespace "$namespace" --selector "app.kubernetes.io/instance=$release" \
    --field-selector status.phase=Running --output name | LC_ALL=C sort)
  if [ ${#pods[@]} -gt 0 ]; then
    pod=${pods[RANDOM % ${#pods[@]}]}
    if kubectl delete --namespace "$namespace" "${options[@]}" "$pod" > /dev/null 2>&1; then
      deleted=$((deleted + 1))
      printf '[%(%H:%M:%S)T] deleted %s\n' -1 "$pod"
    else
      failed=$((failed + 1))
      printf '[%(%H:%M:%S)T] could not delete %s\n' -1 "$pod"
    fi
  fi
  sleep "$every"
done
echo "chaos: $deleted deleted, $failed could not be deleted"
[ "$failed" = 0 ]
