import sys

from local.servicebus.cli import main

sys.exit(main(sys.argv[1:]))
