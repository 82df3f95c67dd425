#!/usr/bin/python3
"""
terminal.py COMMAND...: runs COMMAND on a terminal of its own, by the lines of standard input:
  > TEXT    types TEXT and Enter          ^C, ^Z     types that
  < REGEX   waits until it is printed     ? COMMAND  waits until a shell's COMMAND succeeds
  hangup    closes the terminal, and waits until COMMAND has ended
Prints what the terminal showed, and ends with 0 if all came to pass. A line waits for a minute.
"""
import os
import pty
import re
import select
import subprocess
import sys
import time

pid, terminal = pty.fork()
if pid == 0:
    os.execvp(sys.argv[1], sys.argv[1:])
shown, seen = "", 0


def listen(seconds):
    global shown
    try:
        if select.select([terminal], [], [], seconds)[0]:
            shown += os.read(terminal, 4096).decode(errors="replace").replace("\r", "")
    except OSError:  # EIO: nobody has the other end open
        time.sleep(seconds)


def until(condition):
    end = time.monotonic() + 60
    while not condition():
        if time.monotonic() > end:
            return False
        listen(0.2)
    return True


def printed(regex):
    global seen
    match = re.compile(regex, re.M).search(shown, seen)
    if match:
        seen = match.end()
    return match


def play(line):
    word, _, rest = line.strip().partition(" ")
    if word == ">":
        os.write(terminal, rest.encode() + b"\n")
    elif word in ("^C", "^Z"):
        os.write(terminal, bytes([ord(word[1]) - 64]))
    elif word == "<":
        return until(lambda: printed(rest))
    elif word == "?":
        return until(lambda: subprocess.call(rest, shell=True, stdout=subprocess.DEVNULL,
                                             stderr=subprocess.DEVNULL) == 0)
    elif word == "hangup":
        os.close(terminal)
        return until(lambda: os.waitpid(pid, os.WNOHANG)[0] == pid)
    else:
        sys.exit(f"terminal.py: {line}")
    return True


for line in sys.stdin:
    if line.strip() and not play(line):
        print(shown)
        sys.exit(f"terminal.py: never came: {line}")
print(shown)
