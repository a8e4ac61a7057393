#!/bin/sh
# Bring the image named in kustomization.yaml to the cluster that kubectl points at: migrate first, then roll out.
# The Secret `kernex` must be there; docs/infrastructure.md says how it is made.
set -eu
cd "$(dirname "$0")"
rendered=$(mktemp)
trap 'rm -f "$rendered"' EXIT
kubectl kustomize . >"$rendered"

kubectl apply -f namespace.yaml
kubectl -n kernex get secret kernex >/dev/null
kubectl -n kernex delete job kernex-migrate --ignore-not-found --wait
# The settings are named by their content, so the old ones stay for the pods that still run.
kubectl apply -f "$rendered" --selector 'kernex/step!=serve'
if ! kubectl -n kernex wait --for=condition=complete --timeout=610s job/kernex-migrate; then
	kubectl -n kernex logs job/kernex-migrate --tail=50
	echo "The migration did not finish; what served before serves on." >&2
	exit 1
fi
kubectl apply -f "$rendered"
kubectl -n kernex rollout status deployment/kernex-web --timeout=300s
kubectl -n kernex rollout status deployment/kernex-scheduler --timeout=300s
