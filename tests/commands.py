"""The command line as a process, for tests of what only a process shows."""

import contextlib
import os
import pty
import subprocess
import sys
from typing import Any

METAREPLAY = (sys.executable, "-m", "metareplay")


PATIENT = '''
from metareplay import Method, setting


class Patient(Method):
    """Several SGD steps on each batch as it comes."""

    lr: float = setting(0.01, "(0, inf)", help="the learning rate, 100 % of it")
    times: int = setting(2, "[1, inf)", help="the steps taken on each batch")

    def observe(self, rows):
        for _ in range(self.times):
            self.learner.sgd(rows, self.lr)
'''
"""A user's file."""


def ran(*command: object, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*map(str, command)], **{"capture_output": True, "text": True} | options)


def python(code: str, *arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """The same of a few lines of Python."""
    return ran(sys.executable, "-c", code, *arguments, **options)


def start(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen((*METAREPLAY, *arguments), **pipes | options)


def on_terminal(*arguments: str) -> str:
    """What a command shows where both its outputs are a terminal."""
    ours, theirs = pty.openpty()
    process = start(*arguments, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = rest_of(ours)
    assert process.wait() == 0
    return shown


def rest_of(terminal: int) -> str:
    """What is written to a terminal until its other end is closed."""
    shown = b""
    with contextlib.suppress(OSError), os.fdopen(terminal, "rb", buffering=0) as output:
        while part := output.read(4096):
            shown += part
    return shown.decode()
