"""Learn a stream of tasks, as the original's main.py does: see src/metareplay/original/main.py."""

import sys

from metareplay.original.main import main

if __name__ == "__main__":
    sys.exit(main())
