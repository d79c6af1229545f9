"""Nothing but an import: python import_module.py MODULE. Prints the most memory that it took, in KB."""

import sys

__import__(sys.argv[1])
with open("/proc/self/status") as status:
    print(next(line.split()[1] for line in status if line.startswith("VmHWM:")))
