#!/usr/bin/python3
"""Passes a descriptor from one process to another: pass.py take SOCKET, and pass.py give SOCKET PLAIN LENT.

The taker listens at SOCKET and says which it got, and whether it can ask the lent group for its status. PLAIN
shows that it is not the way that is closed.
"""
import array
import fcntl
import os
import socket
import sys

VFIO_GROUP_GET_STATUS = 15207


def take(path):
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(path)
    os.chmod(path, 0o666)
    listener.listen()
    peer, _ = listener.accept()
    for name in ("plain", "lent"):
        try:
            _, fds, _, _ = socket.recv_fds(peer, 16, 1)
            if fds and name == "lent":
                fcntl.ioctl(fds[0], VFIO_GROUP_GET_STATUS, array.array("I", [8, 0]))
            print(name, "taken" if fds else "refused")
        except OSError:
            print(name, "refused")


def give(path, plain, lent):
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    peer.connect(path)
    for fd in (os.open(plain, os.O_RDONLY), os.open(lent, os.O_RDWR)):
        socket.send_fds(peer, [b"x"], [fd])
    peer.recv(1)


if __name__ == "__main__":
    {"take": take, "give": give}[sys.argv[1]](*sys.argv[2:])
