#!/usr/bin/python3
"""Messages about allotments, from those who may not send them. A line says what becomes of each."""
import os
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


if sys.argv[1] == "forge":
    forge(int(sys.argv[2]), sys.argv[3])
