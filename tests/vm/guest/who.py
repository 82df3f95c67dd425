#!/usr/bin/python3
"""Clients of the broker's of which the question is who they are. One word says which."""
import os
import socket
import struct
import sys
import time

import wire
from wire import GRANT, REFUSAL, connect

REASONS = {1: "policy", 2: "busy", 12: "failed"}


def claim(s, address):
    s.send(wire.claim(wire.selector(address=wire.address(address))))


def answer(s):
    while True:
        packet, fds, flags, _ = socket.recv_fds(s, 4096, 16)
        for fd in fds:
            os.close(fd)
        if not packet:
            return "dropped"
        kind, reason = struct.unpack("=II", packet[:8])
        if kind == GRANT:
            return "granted"
        if kind == REFUSAL:
            return "refused " + REASONS.get(reason, str(reason))


def become(uid):
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def as_child(work):
    """In a child; what it says comes back."""
    r, w = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(r)
        try:
            os.write(w, work().encode())
        except BaseException as e:
            os.write(w, repr(e).encode())
        os._exit(0)
    os.close(w)
    said = os.read(r, 1000).decode()
    os.close(r)
    os.waitpid(pid, 0)
    return said


def back(address):
    """Until the host has it."""
    link = f"/sys/bus/pci/devices/{address}/driver"
    end = time.time() + 60
    while time.time() < end:
        if os.path.realpath(link).endswith("/bochs-drm"):
            return
        time.sleep(0.02)
    raise SystemExit(f"{address} is not back")


def uids():
    """Each of the uids claims the device."""
    for uid in map(int, sys.argv[3:]):
        def work():
            become(uid)
            while True:  # the host may have it before the broker has written that down
                s = connect()
                claim(s, sys.argv[2])
                said = answer(s)
                if said != "refused busy":
                    return said
                time.sleep(0.1)
        print(uid, as_child(work), flush=True)
        back(sys.argv[2])


def itself():
    s = connect()
    claim(s, sys.argv[2])
    print(os.getuid(), answer(s))


def handed():
    """One uid connects and hands the connection to a process of another, which claims."""
    ours, theirs = socket.socketpair()

    def connects():
        become(int(sys.argv[3]))
        s = connect()
        socket.send_fds(ours, [b"x"], [s.fileno()])
        return "handed"

    def claims():
        become(int(sys.argv[4]))
        _, fds, _, _ = socket.recv_fds(theirs, 1, 1)
        s = socket.socket(fileno=fds[0])
        s.settimeout(60)
        claim(s, sys.argv[2])
        return answer(s)

    assert as_child(connects) == "handed"
    print(as_child(claims))
    back(sys.argv[2])


def orphan():
    """The process that connected ends; its child claims by the connection."""
    r, w = os.pipe()
    pid = os.fork()
    if not pid:
        become(int(sys.argv[3]))
        s = connect()
        child = os.fork()
        if child:
            os._exit(0)
        while os.getppid() != 1:
            time.sleep(0.01)
        claim(s, sys.argv[2])
        os.write(w, answer(s).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    os.close(w)
    print(os.read(r, 100).decode())
    back(sys.argv[2])


def leaves():
    """Claims, and is gone after some milliseconds, or, with a driver's name, when that has it."""
    for when in sys.argv[4:]:
        pid = os.fork()
        if not pid:
            become(int(sys.argv[3]))
            s = connect()
            claim(s, sys.argv[2])
            link = f"/sys/bus/pci/devices/{sys.argv[2]}/driver"
            if when.isdigit():
                time.sleep(int(when) / 1000)
            else:
                while not os.path.realpath(link).endswith("/" + when):
                    pass
            os._exit(0)
        os.waitpid(pid, 0)
        time.sleep(0.5)  # so that what was begun is seen to be undone
        back(sys.argv[2])
        print(when, "back", flush=True)


globals()[sys.argv[1]]()
