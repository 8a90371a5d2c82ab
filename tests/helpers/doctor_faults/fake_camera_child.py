# SPDX-License-Identifier: Apache-2.0
"""A camera whose driver hangs or dies, as a child process of the doctor."""

import os
import sys
import time

if __name__ == "__main__":
    if sys.argv[1] == "hang":
        time.sleep(600)
    sys.stderr.write("assertion failed in driver\n")
    sys.stderr.flush()
    os._exit(7)
