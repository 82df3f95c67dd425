#!/usr/bin/python3
"""Clients of the broker's of which the question is who they are. One word says which."""
import ctypes
import os
import pwd
import socket
import struct
import sys
import time

import wire
from wire import END, GRANT, REFUSAL, connect

REASONS = {1: "policy", 2: "busy", 12: "failed", 11: "quota", 15: "limit"}
ASK = 8  # CLAIM_ASK


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
        if kind == END:
            return "granted"  # it would be
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


def asks():
    """A uid, with these groups, asks whether it might claim the device."""
    def work():
        os.setgroups(list(map(int, sys.argv[4:])))
        os.setresgid(*[int(sys.argv[3])] * 3)
        os.setresuid(*[int(sys.argv[3])] * 3)
        return ask(sys.argv[2])
    print(as_child(work))


def ask(address):
    s = connect(greet=False)
    try:
        s.send(wire.HELLO)
        said = s.recv(wire.MESSAGE_MAX)
    except OSError:  # it was turned away before it could say hello, and the answer to that is next
        said = s.recv(wire.MESSAGE_MAX)
    if wire.kind(said) == REFUSAL:
        return "refused " + REASONS[struct.unpack("=II", said[:8])[1]]
    s.send(wire.claim(wire.selector(address=wire.address(address)), flags=ASK))
    return answer(s)


def inside():
    """A user, in a namespace with her subordinate ids, leaves her groups and asks as a uid there."""
    address, user, first, uid = sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
    own = pwd.getpwnam(user)
    down, up = os.pipe(), os.pipe()
    pid = os.fork()
    if not pid:
        os.initgroups(user, own.pw_gid)
        os.setresgid(*[own.pw_gid] * 3)
        os.setresuid(*[own.pw_uid] * 3)
        ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE, so that her maps can be written
        os.unshare(os.CLONE_NEWUSER)
        os.write(up[1], b"x")
        os.read(down[0], 1)
        os.setgroups([])
        os.setresgid(*[uid] * 3)
        os.setresuid(*[uid] * 3)
        os.write(up[1], ask(address).encode())
        os._exit(0)
    os.read(up[0], 1)
    for what, id in ("uid", own.pw_uid), ("gid", own.pw_gid):
        with open(f"/proc/{pid}/{what}_map", "w") as f:  # as newuidmap and newgidmap do
            f.write(f"0 {id} 1\n1 {first} 65536\n")
    os.write(down[1], b"x")
    print(first + uid - 1 if uid else own.pw_uid, os.read(up[0], 1000).decode())
    os.waitpid(pid, 0)


def crowd():
    """So many uids connect, and stay until standard input ends."""
    kept = []
    for uid in range(int(sys.argv[2]), int(sys.argv[2]) + int(sys.argv[3])):
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if not pid:
            become(uid)
            s = connect()  # by a name, since what has none is closed before it is sent
            socket.send_fds(theirs, [b"x"], [s.fileno()])
            os._exit(0)
        # Only the child has this end now, and that of one that cannot connect ends with it.
        theirs.close()
        kept += socket.recv_fds(ours, 1, 1)[1]
        os.waitpid(pid, 0)
        ours.close()
    print(len(kept), flush=True)
    sys.stdin.read()


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


if __name__ == "__main__":
    globals()[sys.argv[1]]()
