"""Run a command that cannot write files of more than some bytes, as on a full disk: `python limited.py BYTES COMMAND...`.

A program of its own, since a process that uses JAX cannot be forked to do this.
"""

import os
import resource
import sys

limit = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
os.execvp(sys.argv[2], sys.argv[2:])
