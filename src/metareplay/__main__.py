"""``python -m metareplay`` is the command ``metareplay``."""

import sys

from metareplay.cli import main

if __name__ == "__main__":
    sys.exit(main())
