#!/usr/bin/env bash
# Resolves every environment into a pinned file with hashes. Run it after changing a pyproject.toml: make lock
# Hash-pinned files without an index address install from any registry mirror; uv.lock would name one on each line.
set -euo pipefail
cd "$(dirname "$0")/.."
lock() { # OUTPUT, INPUT...
  local out=requirements/$1; shift
  uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
    --custom-compile-command "make lock" --output-file "$out" "$@" ${UPGRADE:+--upgrade}
  echo "$out"
}
airflow=(deployments/ingest/pyproject.toml deployments/training/pyproject.toml)
lock main.txt pyproject.toml "${airflow[@]}" deployments/serving/pyproject.toml deployments/lineage/pyproject.toml --group dev
for name in ingest training serving lineage; do
  lock $name.txt "deployments/$name/pyproject.toml" --constraints requirements/main.txt
done
lock llm.txt deployments/llm/pyproject.toml
# The server's packages and the trainer's. torch's build depends on the machine, so it has a file of its own.
lock trainer.txt deployments/llm/pyproject.toml --extra trainer --constraints requirements/llm.txt \
  --no-emit-package torch --no-emit-package triton $(printf -- '--no-emit-package %s ' cuda-bindings cuda-pathfinder cuda-toolkit \
  nvidia-cublas nvidia-cuda-cccl nvidia-cuda-cupti nvidia-cuda-nvrtc nvidia-cuda-runtime nvidia-cudnn-cu13 nvidia-cufft \
  nvidia-cufile nvidia-cusolver nvidia-cusparse nvidia-cusparselt-cu13 nvidia-nccl-cu13 nvidia-nvjitlink nvidia-nvshmem-cu13 nvidia-nvtx)
lock torch.txt requirements/torch.in --constraints requirements/trainer.txt
# Other people's clients, which the end-to-end tests let speak to the server.
lock clients.txt requirements/clients.in
lock uv.txt requirements/uv.in
lock go.txt requirements/go.in
lock java.txt requirements/java.in
