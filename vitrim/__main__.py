"""`python -m vitrim` is the command `vitrim`."""

import sys

from vitrim.cli.main import main

sys.exit(main())
