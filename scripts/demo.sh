#!/usr/bin/env bash
# The main path, start to end, on sample speakers: no camera, no GPU and no account are needed.
# Usage: scripts/demo.sh FOLDER
# SAMPLE_OPTIONS and TRAIN_OPTIONS make it smaller or larger; the tests run it small.
set -euo pipefail
folder=${1:?usage: scripts/demo.sh FOLDER}
sample_options=${SAMPLE_OPTIONS---people 24 --turns 50 --rate-hz 10}
train_options=${TRAIN_OPTIONS-}

# 24 people talk; 6 of them and 30 of their messages are held out.
nvllm sample "$folder/sessions" $sample_options
# Video → latents; then every token gets its time and its stretch of them.
nvllm extract "$folder/sessions"
nvllm align "$folder/sessions"
# The model and its text-only twin.
nvllm train "$folder/sessions" --out "$folder/run" --config "$(dirname "$0")/starter.toml" $train_options
# Does the face matter, and is it the right face at the right time?
nvllm eval "$folder/run"

cat <<END

Next:
  nvllm chat $folder/run                   talk to it with your camera; the picture stays on this machine
  nvllm chat $folder/run --video FILE      the same with a video file in the camera's place
  nvllm import CLIPS sessions              your own clips with word timings; then extract, align, train, eval
END
