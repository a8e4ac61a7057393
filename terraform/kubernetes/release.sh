#!/bin/sh
# Release the image named in kustomization.yaml to kubectl's current cluster: migrate first, then roll out.
# Needs the Secrets `kernex` and `kernex-backups`; docs/infrastructure.md says how to create them.
set -eu
cd "$(dirname "$0")"
rendered=$(mktemp)
trap 'rm -f "$rendered"' EXIT
kubectl kustomize . >"$rendered"

kubectl apply -f namespace.yaml
kubectl -n kernex get secret kernex kernex-backups >/dev/null
kubectl -n kernex delete job kernex-migrate --ignore-not-found --wait
# The name of the settings depends on their content, so running pods keep the old settings.
kubectl apply -f "$rendered" --selector 'kernex/step!=serve'
if ! kubectl -n kernex wait --for=condition=complete --timeout=610s job/kernex-migrate; then
	kubectl -n kernex logs job/kernex-migrate --tail=50
	echo "The migration did not finish. The previous release keeps running." >&2
	exit 1
fi
kubectl apply -f "$rendered"
kubectl -n kernex rollout status deployment/kernex-web --timeout=300s
kubectl -n kernex rollout status deployment/kernex-scheduler --timeout=300s
