"""`python -m vitrim` is the command `vitrim`."""

import sys

from vitrim.cli import main

sys.exit(main())
