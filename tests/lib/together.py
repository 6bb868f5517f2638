"""Tests that wait most of their time, several at once."""
import os
import sys
import tempfile


def begin(test, passes, said):
    """In a process of its own. Returns its id."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        good = False
        try:
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
            good = passes(test)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0 if good else 1)
    return pid


def all_pass(tests, passes, at_once):
    """All are run; what a test says is printed when it has ended. Returns whether passes(test) was true for each."""
    waiting, running, good = list(tests), {}, True
    while waiting or running:
        if waiting and len(running) < at_once:
            said = tempfile.TemporaryFile()
            running[begin(waiting.pop(0), passes, said)] = said
            continue
        pid, status = os.wait()
        good = good and status == 0
        with running.pop(pid) as said:
            said.seek(0)
            print(said.read().decode(errors="replace"), end="", flush=True)
    return good
