"""``python -m mfavbs`` is the command line."""

from mfavbs.cli import main

main()
