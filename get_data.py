"""Get the data that the published runs learn from, as the original's get_data.py does."""

import sys

from metareplay.original.get_data import main

if __name__ == "__main__":
    sys.exit(main())
