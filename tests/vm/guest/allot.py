#!/usr/bin/python3
"""Messages about allotments, from those who may not send them. A line says what becomes of each."""
import os
import socket
import struct
import sys

import who
import wire
from wire import connect

ALLOT, RETRACT = 15, 16


def allot(uid, address, label=b"forged", n_gids=0, reserved=0):
    one = wire.selector(address=wire.address(address))
    return (struct.pack("=II48sQIIII", ALLOT, reserved, label, 0, uid, uid, n_gids, 1) + b"\0" * 160 + one
            + b"\0" * (wire.SELECTOR.size * 15))


def sends(packet):
    s = connect()
    s.send(packet)
    return who.answer(s)


def as_uid(uid, packet, namespace=False):
    def work():
        who.become(uid)
        if namespace:
            os.unshare(os.CLONE_NEWUSER)  # where it has no mapping, and all capabilities
        return sends(packet)
    return who.as_child(work)


def forge(uid, address):
    print(as_uid(uid, allot(uid, address)))
    print(as_uid(uid, allot(uid, address), namespace=True))
    # Of a form that even root's may not have.
    print(sends(allot(uid, address, label=b"for/ged")))
    print(sends(allot(uid, address, n_gids=41)))
    print(sends(struct.pack("=II48s", RETRACT, 0, b"a" * 48)))


# What root sends in place of a listening socket. Each is answered, and the broker does not wait for one.
SOCKET, LISTENER, READY = 18, 19, 115


def begin(label, name, uid):
    s = connect()
    s.send(struct.pack("=II48s56sII", SOCKET, uid, label.encode(), name.encode(), 0, 0) + b"\0" * 160)
    kind = wire.kind(s.recv(wire.MESSAGE_MAX))
    return s, "ready" if kind == READY else "end" if kind == wire.END else "refused"


def slow():
    """A socket whose last close takes minutes, in a process that does not end."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=16)
    s = socket.create_connection(listener.getsockname())
    s.setblocking(False)
    try:
        while True:
            s.send(b"x" * 65536)
    except BlockingIOError:
        pass
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 600))
    return s, listener


def listening(kind=socket.SOCK_SEQPACKET):
    s = socket.socket(socket.AF_UNIX, kind)
    s.bind("")  # a name that the kernel chooses
    s.listen(4)
    return s


def adding():
    """Its connections would get the sender's credentials with each packet."""
    s = listening()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    return s


def others(label, name, uid):
    plain = struct.pack("=II", LISTENER, 0)
    pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sent = {
        "file": [open("/etc/passwd")],
        "datagram": [socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)],
        "connected": [pair[0]],
        "stream": [listening(socket.SOCK_STREAM)],
        "credentials": [adding()],
        "network": [socket.create_server(("127.0.0.1", 0))],
        "slow": [slow()[0]],
        "two": [listening(), listening()],
        "many": [slow()[0]] * 253,
        "none": [],
    }
    for what, files in sent.items():
        s, said = begin(label, name, uid)
        if said == "ready":
            socket.send_fds(s, [plain], [f.fileno() for f in files])
            said = who.answer(s)
        print(what, said, flush=True)
    s, said = begin(label, name, uid)
    good = listening()
    socket.send_fds(s, [wire.LIST], [good.fileno()])
    print("list", who.answer(s))


def crowd(path, n):
    """Connects so often to a socket, and says how the last one is received."""
    kept = []
    for _ in range(n):
        s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        s.connect(path)
        s.settimeout(60)
        try:
            s.send(wire.HELLO)
        except OSError:  # it was turned away before, and the answer to that is next
            pass
        try:
            said = s.recv(wire.MESSAGE_MAX)
        except ConnectionResetError:  # told once, before what is there
            said = s.recv(wire.MESSAGE_MAX)
        kept.append(s)
    print(len(kept), "welcome" if wire.kind(said) == wire.WELCOME else struct.unpack("=II", said[:8])[1])


def floods(path):
    """Connects as fast as it can, says nothing, and reads nothing; keeps some of them."""
    kept = []
    while True:
        s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            s.connect(path)
        except OSError:
            continue
        kept = kept[-64:] + [s]
        if len(kept) == 64:
            print("full", flush=True)


def stays(path):
    """Connects to a socket, and ends when the broker ends the connection."""
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.connect(path)
    s.send(wire.HELLO)
    while s.recv(wire.MESSAGE_MAX):
        print("in", flush=True)


if sys.argv[1] == "forge":
    forge(int(sys.argv[2]), sys.argv[3])
elif sys.argv[1] == "others":
    others(sys.argv[2], sys.argv[3], int(sys.argv[4]))
elif sys.argv[1] == "crowd":
    crowd(sys.argv[2], int(sys.argv[3]))
elif sys.argv[1] == "floods":
    floods(sys.argv[2])
elif sys.argv[1] == "stays":
    stays(sys.argv[2])
