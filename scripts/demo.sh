#!/usr/bin/env bash
# The main path, start to end, on sample speakers: no camera, no GPU and no account are needed.
# Usage: scripts/demo.sh FOLDER
# SAMPLE_OPTIONS, TRAIN_OPTIONS and EVAL_OPTIONS make it smaller or larger; the tests run it small.
set -euo pipefail
folder=${1:?usage: scripts/demo.sh FOLDER}
sample_options=${SAMPLE_OPTIONS---people 24 --turns 50 --rate-hz 10}
train_options=${TRAIN_OPTIONS-}
eval_options=${EVAL_OPTIONS-}

# 24 people talk; 6 of them and 30 of their messages are held out.
nvllm sample "$folder/sessions" $sample_options
# Video → latents; then every token gets its time and its stretch of them.
nvllm extract "$folder/sessions"
nvllm align "$folder/sessions"
# The model and its text-only twin; training that was broken off goes on, what is trained stays.
resume=
if grep -qs '"trained": true' "$folder/run/run.json" || compgen -G "$folder/run/checkpoints/[0-9]*" >/dev/null; then
    resume=--resume
fi
nvllm train "$folder/sessions" --out "$folder/run" --config "$(dirname "$0")/starter.toml" $train_options $resume
# Does the face matter, and is it the right face at the right time?
nvllm eval "$folder/run" $eval_options

cat <<END

The report, in any browser: $folder/run/report.html

Next:
  nvllm serve $folder/run --open           talk to it on a page, with your camera; the picture stays on this machine
  nvllm chat $folder/run                   the same in the terminal
  nvllm chat $folder/run --video FILE      the same with a video file in the camera's place
  nvllm import CLIPS sessions              your own clips with word timings; then extract, align, train, eval
END
