#!/bin/sh
# The 57 runs of the MER paper: ./mer_examples.sh SEED. What it does is in src/metareplay/original/examples.py.
for python in python3 "$(dirname "$0")/.venv/bin/python"; do
    if "$python" -c 'import importlib.util, sys; sys.exit(not importlib.util.find_spec("metareplay"))' 2>/dev/null; then
        exec "$python" -m metareplay.original.examples "$@"
    fi
done
echo 'mer_examples.sh: metareplay is not installed: pip install -r requirements.txt' >&2
exit 2
