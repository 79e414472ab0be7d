"""What all tests need: that Ctrl-C can end what they start."""

import signal

# A shell lets background jobs ignore it, and they pass that on to the processes they start.
signal.signal(signal.SIGINT, signal.default_int_handler)
