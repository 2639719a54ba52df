#!/bin/sh
# Proves asrkd on this machine's GPUs, in at most 8 minutes, and writes docs/gpu.md: sh tools/gpu/prove.sh [--device cuda:0] [--out FILE]
cd "$(dirname "$0")/../.." || exit 1
PYTHONPATH="$PWD:$PWD/recipes${PYTHONPATH:+:$PYTHONPATH}" exec python tools/gpu/prove.py "$@"
