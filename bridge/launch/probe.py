"""Run as a process of its own, because a call of taosws can hang: does TDengine answer?

The DSN is in the environment's PROBE_DSN. Prints its version, or in one line why not. Exit status: 0 it answers, 2 the
DSN can't be used, 3 user or password refused, 4 no answer, 1 the client's package is missing or broken.
"""

import os
import re
import sys

from .. import dsn


def tdengine(text):
    """(status, text) of the TDengine at a DSN; without its database, which the producer makes when it is missing."""
    import taosws

    found = dsn.tdengine(text)
    try:
        connection = taosws.connect(found.url)  # named: a result is read only while its connection lives
        return 0, next(iter(connection.query("SELECT SERVER_VERSION()")))[0]
    except taosws.Error as error:
        line = found.hide(str(error))
        return 3 if re.search("0x0357|0x0351", line) else 4, line


def main(probe):
    """Probes the database at PROBE_DSN by a function like tdengine()."""
    try:
        status, text = probe(os.environ["PROBE_DSN"])
    except ValueError as error:  # dsn.Invalid, or an option that the client does not know
        status, text = 2, error
    except ImportError as error:
        status, text = 1, error
    print(text)
    sys.exit(status)


if __name__ == "__main__":
    main(tdengine)
