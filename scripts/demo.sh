#!/usr/bin/env bash
# The main path, start to end, on sample speakers: no camera, no GPU and no account are needed.
# Usage: scripts/demo.sh FOLDER
set -euo pipefail
folder=${1:?usage: scripts/demo.sh FOLDER}

nvllm sample "$folder/sessions"                                  # 24 people talk; 6 of them and 30 messages are held out
nvllm extract "$folder/sessions"                                 # video → latents
nvllm align "$folder/sessions"                                   # every token gets its time and its face
nvllm train "$folder/sessions" --out "$folder/run" --context-turns 0   # the messages have nothing to do with each other
nvllm eval "$folder/run"                                         # does the face matter, and is it the right one?

cat <<END

Next:
  nvllm chat $folder/run --camera 0                 talk to it; the picture stays on this machine
  nvllm chat $folder/run --video CLIP               the same with a video file in the camera's place
  nvllm import CLIPS sessions                       your own clips with word timings; then extract, align, train, eval
END
