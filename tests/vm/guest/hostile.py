#!/usr/bin/python3
"""Peers of the broker's that do what they should not. One word says which. Each
attack prints "done" when the broker has dropped all that it should have dropped."""
import os
import socket
import struct
import sys
import time

from wire import GRANT, GROUP, HELLO, LEASES, LIST, NAME, REFUSAL, WELCOME, address, claim, connect, kind, selector


def expect_dropped(s, what):
    """Reads what was on its way, up to the end."""
    while True:
        try:
            packet = s.recv(4096)
        except ConnectionResetError:
            packet = b""
        if not packet:
            s.close()
            return
        if kind(packet) == GRANT:
            raise SystemExit(f"{what}: granted")


def sizes():
    for request in (LIST, LEASES, claim()):
        for size in sorted({1, 3, 4, 7, len(request) - 1, len(request) + 1, 3000, 60000} - {len(request)}):
            s = connect()
            s.send((request + b"\0" * 60000)[:size])
            expect_dropped(s, size)


def types():
    for number in (0, 1, 5, 42, 101, 102, 106, 107, 2**31, 2**32 - 1):
        s = connect()
        s.send(struct.pack("=II", number, 0))
        expect_dropped(s, number)
    s = connect()
    s.send(struct.pack("=II", 2, 1))  # a reserved field that is not 0
    expect_dropped(s, "reserved")


def early():
    for request in (LIST, LEASES, claim(), struct.pack("=II", 1, 99), b"\0" * 8):
        s = connect(greet=False)
        s.send(request)
        expect_dropped(s, "early")


def descriptors():
    for count in (1, 16, 17, 200):
        for request in (LIST, b"x"):
            s = connect()
            fds = [os.dup(0) for _ in range(count)]
            try:
                socket.send_fds(s, [request], fds)
            except PermissionError:  # Linux 6.16 and later: the kernel lets nobody send one
                s.send(b"x")
            for fd in fds:
                os.close(fd)
            expect_dropped(s, count)


def busy():
    s = connect()
    for _ in range(2000):  # more than a listing can be answered between
        try:
            s.send(LIST, socket.MSG_DONTWAIT)
        except BlockingIOError:
            break
        except (BrokenPipeError, ConnectionResetError):
            break
    expect_dropped(s, "busy")


def claims():
    selectors = (selector(0), selector(5), selector(address=(0, 1, 32, 0, 0)), selector(address=(0, 1, 0, 8, 0)),
                 selector(address=(0, 1, 0, 0, 1)), selector(NAME, name=b"a" * 32),
                 selector(NAME, name=b"card", profile=b"a" * 64), selector(GROUP, group=1, profile=b"a"))
    for request in (claim(n=0), claim(n=17), claim(flags=1 << 31), claim(reserved=1), *map(claim, selectors)):
        s = connect()
        s.send(request)
        expect_dropped(s, request[:64])


def silent():
    """Connect and go, with and without a word; and a half-read list."""
    for _ in range(100):
        connect(greet=False).close()
    for _ in range(20):
        s = connect()
        s.send(LIST)
        s.close()


def mute():
    """Prints the seconds for which one who never says hello is let in, beside an idle one who has."""
    greeted, s, start = connect(), connect(greet=False), time.monotonic()
    expect_dropped(s, "mute")
    greeted.send(LEASES)
    print("dropped", round(time.monotonic() - start), "answered", bool(greeted.recv(4096)))


def deaf():
    held = []
    for _ in range(20):
        s = connect()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        s.send(LIST)
        held.append(s)
    print("ready", flush=True)
    time.sleep(600)


def greedy():
    s = connect()
    s.send(claim(selector(address=address(sys.argv[2]))))
    link = f"/sys/bus/pci/devices/{sys.argv[2]}/driver"
    while not os.path.realpath(link).endswith("vfio-pci"):
        time.sleep(0.05)
    time.sleep(0.5)
    print("ready", flush=True)
    time.sleep(600)


def thousand():
    import resource
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, resource.getrlimit(resource.RLIMIT_NOFILE)[1])) \
        if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < 1024 else None
    held, connected, refused = [], 0, 0
    for _ in range(1000):
        s = connect(greet=False)
        connected += 1
        try:
            s.send(HELLO)
        except BrokenPipeError:
            pass
        try:
            answer = s.recv(4096)
        except ConnectionResetError:  # the broker has gone, and our hello came late
            answer = s.recv(4096)
        if kind(answer) == WELCOME:
            held.append(s)
        elif kind(answer) == REFUSAL:
            refused += 1
            s.close()
    print("connected", connected, "refused", refused)
    print("ready", flush=True)
    time.sleep(600)


attack = sys.argv[1]
globals()[attack]()
print("done")
