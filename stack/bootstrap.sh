#!/usr/bin/env bash
# Brings our environments to what requirements/ locks; quick when they are. Needs bash, Python 3.11 to 3.13, a network.
#   main     .venv          everything but the LLM server
#   llm      .venv-llm      the LLM server: no torch
#   trainer  .venv-trainer  what fine-tunes and scores, and serves on a GPU: torch, larger than all the rest together
#   clients  .venv-clients  other people's clients, for the tests
# Usage: stack/bootstrap.sh [main|llm|trainer|clients]...   (default: main llm)
# llm brings the trainer's along where torch is what serves: on a GPU, on an old CPU, or by GHOSTWRITER_LLM_CHAT_ENGINE.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
cache=${GHOSTWRITER_CACHE_DIR:-$HOME/.cache/ghostwriter}
began=$SECONDS
parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(main llm)

say() { printf '[%4d s] %s\n' $((SECONDS - began)) "$*"; }

fail() { # MESSAGE, LOG, WHAT TO DO
  printf '\n%s\n' "$1" >&2
  [ -z "${2:-}" ] || { tail -n 12 "$2" | sed 's/^/  | /' >&2; printf '  log: %s\n' "$2" >&2; }
  printf '  to do: %s\n' "$3" >&2
  exit 1
}

hash_of() { # FILES... (sha256sum on Linux, shasum on macOS)
  if command -v sha256sum >/dev/null; then cat "$@" | sha256sum | cut -d' ' -f1; else cat "$@" | shasum -a 256 | cut -d' ' -f1; fi
}

# What each environment is made from; its hash in the environment says whether it is current.
main_files=(requirements/main.txt pyproject.toml stack/bootstrap.sh)
llm_files=(requirements/llm.txt stack/bootstrap.sh)
trainer_files=(requirements/trainer.txt requirements/torch.txt stack/bootstrap.sh)
clients_files=(requirements/clients.txt stack/bootstrap.sh)

is_current() { # FOLDER, FILES...
  local folder=$1; shift
  [ -x "$folder/bin/python" ] && [ "$(cat "$folder/.locked" 2>/dev/null)" = "$(hash_of "$@") $root" ]
}

find_python() {
  local name
  for name in ${PYTHON:-} python3.12 python3.11 python3.13 python3 python; do
    if command -v "$name" >/dev/null &&
      "$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null; then
      command -v "$name"
      return
    fi
  done
  return 1
}

find_uv() {
  if command -v uv >/dev/null; then command -v uv; elif [ -x "$cache/uv/bin/uv" ]; then echo "$cache/uv/bin/uv"; else return 1; fi
}

install_uv() {
  local log=$logs/uv.log
  say "installing uv into $cache/uv"
  mkdir -p "$cache"
  { "$python" -m venv "$cache/uv" && "$cache/uv/bin/python" -m pip install --quiet --disable-pip-version-check \
    --require-hashes -r requirements/uv.txt; } >"$log" 2>&1 ||
    fail "uv could not be installed." "$log" "$(advise "$log")"
}

advise() { # LOG -> what a user can do about it
  if grep -qiE 'dns error|failed to lookup|name or service not known|temporary failure in name|connection refused|network is unreachable|error sending request|failed to fetch|timed out|no matching distribution|connecterror|tcp connect' "$1"; then
    echo "connect to the network (or name a reachable package index for pip and uv), then make up again"
  elif grep -qiE 'no space left' "$1"; then
    echo "free some disk space, then make up again"
  elif grep -qiE "ensurepip|No module named venv" "$1"; then
    echo "install your system's venv package (Debian: apt-get install python3-venv), or uv, then make up again"
  elif grep -qiE "(gcc|cc|clang|cl)['\`]? (failed|not found)|command '(gcc|cc|clang|x86_64-linux-gnu-gcc)'|no acceptable C compiler|Failed to build" "$1"; then
    echo "a package has no wheel for this machine and needs a C compiler: install one, or use Python 3.11 or 3.12 (PYTHON=python3.12 make up)"
  else
    echo "read the log, then make up again; it takes up where it stopped"
  fi
}

find_logs() { # a folder that `up` would refuse to work in gets not even a log
  local state=${STATE_DIR:-.state} held
  case $state in '~' | '~/'*) state=$HOME${state#\~} ;; esac
  held=$(ls -A "$state" 2>/dev/null || true)
  case $held in
    '' | logs) ;;
    *) [ -f "$state/.ghostwriter" ] || [ -f "$state/secrets/admin_password" ] || state=.state ;;
  esac
  mkdir -p "$state/logs" && (cd "$state/logs" && pwd)
}

venv() { # FOLDER: an environment of the right Python, kept where it is usable
  if [ ! -x "$1/bin/python" ] || ! "$1/bin/python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null; then
    "$uv" venv --quiet --clear --no-project --python "$python" "$1"
  fi
}

install_main() {
  venv .venv
  "$uv" pip sync --python .venv/bin/python --require-hashes requirements/main.txt
  # Editable and without dependencies: those are locked above. hatchling comes from the lock's index as a build tool.
  "$uv" pip install --python .venv/bin/python --no-deps --editable .
  echo "$(hash_of "${main_files[@]}") $root" >.venv/.locked
}

install_llm() {
  venv .venv-llm
  "$uv" pip sync --python .venv-llm/bin/python --require-hashes requirements/llm.txt
  echo "$(hash_of "${llm_files[@]}") $root" >.venv-llm/.locked
}

can_reach_torch_index() { # uv knows where it is; without a way there it says so within seconds
  [ "${TORCH_BACKEND:-auto}" != pypi ] &&
    UV_HTTP_TIMEOUT=3 UV_HTTP_CONNECT_TIMEOUT=3 UV_HTTP_RETRIES=0 "$uv" pip install --dry-run --quiet --no-deps \
      --python .venv-trainer/bin/python --reinstall-package torch --torch-backend="${TORCH_BACKEND:-auto}" "$1"
}

install_trainer() {
  venv .venv-trainer
  touch .venv-trainer/.installing # until it is gone the LLM server starts nothing there
  version=$(sed -n 's/^\(torch==[^ ]*\).*/\1/p' requirements/torch.txt | head -1)
  if can_reach_torch_index "$version"; then
    # The build that fits this machine (its GPU, or the small one for CPUs) has no hash that a lock could name.
    "$uv" pip sync --python .venv-trainer/bin/python --require-hashes requirements/trainer.txt
    "$uv" pip install --python .venv-trainer/bin/python --torch-backend="${TORCH_BACKEND:-auto}" "$version"
  else
    "$uv" pip sync --python .venv-trainer/bin/python --require-hashes requirements/trainer.txt requirements/torch.txt
  fi
  echo "$(hash_of "${trainer_files[@]}") $root" >.venv-trainer/.locked
  rm -f .venv-trainer/.installing
}

install_clients() {
  venv .venv-clients
  "$uv" pip sync --python .venv-clients/bin/python --require-hashes requirements/clients.txt
  echo "$(hash_of "${clients_files[@]}") $root" >.venv-clients/.locked
}

is_trainer_current() { is_current .venv-trainer "${trainer_files[@]}" && [ ! -e .venv-trainer/.installing ]; }

torch_serves() {
  local engine=${GHOSTWRITER_LLM_CHAT_ENGINE:-}
  [ -n "$engine" ] || engine=$(sed -n "s/^GHOSTWRITER_LLM_CHAT_ENGINE=[\"']*\([a-z_]*\).*/\1/p" .env 2>/dev/null | tail -n 1)
  [ "$(GHOSTWRITER_LLM_CHAT_ENGINE=${engine:-auto} .venv-llm/bin/python -m deployments.llm.engines.choice 2>/dev/null)" = torch ]
}

finish() { # what is left once the parts are there
  case " ${parts[*]} " in *" trainer "*) exit 0 ;; *" llm "*) ;; *) exit 0 ;; esac
  if is_trainer_current; then exit 0; fi
  [ ! -d .venv-trainer ] || touch .venv-trainer/.installing # no job starts there until it is renewed
  if ! torch_serves; then exit 0; fi
  exec stack/bootstrap.sh trainer
}

todo=()
for part in "${parts[@]}"; do
  case $part in
    main) is_current .venv "${main_files[@]}" || todo+=(main) ;;
    llm) is_current .venv-llm "${llm_files[@]}" || todo+=(llm) ;;
    trainer) is_trainer_current || todo+=(trainer) ;;
    clients) is_current .venv-clients "${clients_files[@]}" || todo+=(clients) ;;
    *) fail "unknown part: $part" "" "stack/bootstrap.sh [main] [llm] [trainer] [clients]" ;;
  esac
done
[ ${#todo[@]} -gt 0 ] || finish

logs=$(find_logs)
python=$(find_python) || fail "Python 3.11, 3.12 or 3.13 is needed and none was found." "" "install one, or name it: PYTHON=/path/to/python3.12 make up"
uv=$(find_uv) || { install_uv; uv=$(find_uv); }
export UV_LINK_MODE=${UV_LINK_MODE:-} UV_NO_PROGRESS=1
[ -n "$UV_LINK_MODE" ] || unset UV_LINK_MODE
needed_gb=0
for part in "${todo[@]}"; do
  case $part in trainer) needed_gb=$((needed_gb + 7)) ;; *) needed_gb=$((needed_gb + 2)) ;; esac
done
free_gb=$(df -Pk . | awk 'NR == 2 {print int($4 / 1048576)}')
[ "$free_gb" -ge "$needed_gb" ] || [ "${GHOSTWRITER_SKIP_CHECKS:-0}" != 0 ] ||
  fail "$free_gb GB of disk is free at $root and about $needed_gb GB is needed to install." "" "free some, or set GHOSTWRITER_SKIP_CHECKS=1 to try anyway"

# Side by side: one waits for the network while the other unpacks.
pids=()
trap 'for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done; printf "\nstopped; make up takes up where it was\n" >&2; exit 130' INT TERM
for part in "${todo[@]}"; do
  case $part in
    main) what="Python packages" ;;
    llm) what="the LLM server's packages" ;;
    trainer) what="the trainer's packages (torch among them, some GB; fine-tuning waits for them)" ;;
    clients) what="other people's clients, for the tests" ;;
  esac
  say "installing $what with $(basename "$python") and $("$uv" --version | cut -d' ' -f1,2); log: $logs/install-$part.log"
  ( set -e; "install_$part" ) >"$logs/install-$part.log" 2>&1 &
  pids+=($!)
done
for index in "${!todo[@]}"; do
  part=${todo[$index]}
  next=$((SECONDS + 15))
  while kill -0 "${pids[$index]}" 2>/dev/null; do
    sleep 0.3
    if [ $SECONDS -ge $next ]; then
      say "installing $part: $(tail -n 1 "$logs/install-$part.log" 2>/dev/null | cut -c1-80)"
      next=$((SECONDS + 15))
    fi
  done
  case $part in trainer) without="; until it is, fine-tuning waits" ;; *) without="" ;; esac
  wait "${pids[$index]}" || fail "$part could not be installed$without." "$logs/install-$part.log" "$(advise "$logs/install-$part.log")"
  say "$part installed"
done
finish
