"""The program between a process that needs a daemon and the daemon: the second half of the double fork.

Run as `python -I -S launcher.py COMMAND...`, in a session of its own and with its final descriptors; imports nothing of
ours. It forks and goes, so the daemon is nobody's child, leads no session (so no terminal becomes its own), and its
starter has no zombie to collect. A process with threads should not fork by itself; this one has none.
"""

import os
import sys

if __name__ == "__main__":
    if os.fork():
        os._exit(0)
    os.execv(sys.argv[1], sys.argv[1:])
