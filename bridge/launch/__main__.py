"""`python -m bridge.launch` is what run.sh does."""

import sys

from . import launcher, tdengine

sys.exit(launcher.main(tdengine))
