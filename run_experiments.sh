#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs those experiments of a grid that have no result yet, with GNU Parallel.
usage='Usage: ./run_experiments.sh [GRID] [options] [-- options of GNU Parallel]

GRID is a table of flags, by default experiments/paper.tsv: the 32 published runs.
The same command again goes on where the last one was stopped. Paths are relative to
the repository.

  --jobs N             runs at once on a machine (default: one per GPU, else per core)
  --only CONDITION     rows of the grid, e.g. "ncm==decay and learning_rate==0.1"
  --runs DIR           folder of the runs (default: runs)
  --results DIR        finished runs that are not run again (default: experiments/results)
  --sshloginfile FILE  machines that share the work, with the same files in the same place
  --dry-run            print the commands of the runs that are not done
  --status             print a table of the runs
  --watch [SECONDS]    print it every 10 seconds until all are done
  --help               print this text'
set -euo pipefail
cd "$(dirname "$0")"
minimum=20221122 # the oldest GNU Parallel that this was tried with
die() { printf 'run_experiments.sh: %s\n' "$1" >&2; exit 2; }

whole='^[123456789][0123456789]{0,3}$' # ranges would hold ² in some languages
grid='' action='' jobs='' runs=runs select=() extra=()
while [ $# -gt 0 ]; do
  case $1 in
    --jobs | --only | --runs | --results | --sshloginfile)
      [ -n "${2-}" ] || die "$1 needs a value" ;;&
    --jobs) [[ $2 =~ $whole ]] || die "--jobs must be an integer from 1 to 9999. Received: $2"
      jobs=$2; shift ;;
    --runs) runs=$2 select+=("--runs=$2"); shift ;;
    --only | --results) select+=("$1=$2"); shift ;;
    --sshloginfile) [[ -r $2 && ! -d $2 ]] || die "--sshloginfile must be a file. Received: $2"
      file=$2; [[ $file == /* ]] || file=./$file # not one of GNU Parallel's names for others
      extra+=(--sshloginfile "$file" --workdir .); shift ;;
    --dry-run) action=dry-run ;;
    --status) action=status ;;
    --watch) action=status
      if [[ ${2-} =~ $whole ]]; then select+=("--watch=$2"); shift; else select+=(--watch=10); fi
      [[ ! ${2-} =~ ^[0123456789]+$ ]] || die "--watch must be from 1 to 9999 seconds. Received: $2" ;;
    --help | -h) echo "$usage"; exit ;;
    --) shift; extra+=("$@"); break ;;
    -*) die "there is no option $1; --help lists them" ;;
    '') die "GRID must be a file. Received: ''" ;;
    *) [ -z "$grid" ] || die "GRID must be one file. Received: $grid and $1"
      grid=$1 ;;
  esac
  shift
done
grid=${grid:-experiments/paper.tsv}

python=${PYTHON:-.venv/bin/python}
[ -n "${PYTHON-}" ] || [ -x "$python" ] || python=python3
"$python" -c 'import deepncm_tf, tensorflow_datasets' 2>/dev/null ||
  die "deepncm_tf is not installed for $python. Try: make install, or pip install -e ."
sweep() { "$python" -m experiments.sweep "$1" "$grid" "--python=$python" "${select[@]}"; }
if [ -n "$action" ]; then sweep "$action"; exit; fi

[[ $(parallel --version 2>/dev/null) == GNU\ parallel\ * ]] ||
  die 'GNU Parallel is not installed (moreutils has another program of that name).
On Debian and Ubuntu: apt-get install parallel; on macOS: brew install parallel'
parallel --minversion "$minimum" >/dev/null ||
  die "GNU Parallel $minimum or newer is needed. Received: $(parallel --version | head -n 1)"

plan=$(sweep plan)
jobs=${jobs:-$("$python" -c 'from experiments import job; print(len(job.gpus()) or job.cores())')}
IFS=$'\t' read -r -a columns <<<"$plan"
# Paths are cells of the table, like values: the template would read their braces.
command=('{python}' -m experiments.job "--jobs=$jobs")
for column in "${columns[@]:0:${#columns[@]}-3}"; do command+=("--$column={$column}"); done
[ ! -t 2 ] || extra=(--bar --eta "${extra[@]}")
name=${grid##*/}
# Each run's own lock, checkpoints and result.json decide what happens to it: a lost log costs
# nothing. A run that is told to stop has a minute to write its checkpoint.
PARALLEL_SHELL=$BASH parallel --quote --header : --colsep '\t' --trim n --jobs "$jobs" --delay 1 \
  --memfree 1G --retries 2 --termseq TERM,60000,KILL,25 --results '{log}' \
  --joblog "+$runs/${name%.tsv}.joblog" "${extra[@]}" "${command[@]}" <<<"$plan" >/dev/null || true
sweep report
