#!/usr/bin/python3
"""A VMM of iommufd's kind without a machine, step by step: a line on stdin is a step, its answer a line, "ok" or the
error's name. Of the node NODE:

    open FD NODE       opens it, as number FD of ours
    adopt FD N         what was inherited as N is our FD
    bind FD IOMMU      binds the device to the iommufd, both by our numbers
    info FD            asks the device for itself, which only one that is bound answers
    accounting FD      how the iommufd counts locked memory: "ok 1" is by process
    lock FD, unlock FD, close FD
    end                ends
    send FD PATH, receive FD PATH   to and from another of these, by a socket that the receiver makes
"""
import array
import errno
import fcntl
import os
import socket
import struct
import sys

DEVICE_GET_INFO, DEVICE_BIND, IOMMU_OPTION = 0x3B6B, 0x3B76, 0x3B87
own = {}


def send(fd, path):
    s = socket.socket(socket.AF_UNIX)
    s.connect(path)
    s.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [own[fd]]))])
    s.recv(1)  # it has it


def receive(fd, path):
    s = socket.socket(socket.AF_UNIX)
    s.bind(path)
    s.listen()
    print("listening", flush=True)
    peer = s.accept()[0]
    _, control, _, _ = peer.recvmsg(1, socket.CMSG_SPACE(4))
    own[fd] = array.array("i", control[0][2])[0]
    os.unlink(path)


def step(word, fd="", *rest):
    if word == "end":
        sys.exit()
    if word == "open":
        own[fd] = os.open(rest[0], os.O_RDWR | os.O_CLOEXEC)
    elif word == "adopt":
        own[fd] = int(rest[0])
    elif word == "bind":
        fcntl.ioctl(own[fd], DEVICE_BIND, struct.pack("=IIiI", 16, 0, own[rest[0]], 0))
    elif word == "info":
        fcntl.ioctl(own[fd], DEVICE_GET_INFO, struct.pack("=IIIII", 20, 0, 0, 0, 0))
    elif word == "accounting":
        answer = fcntl.ioctl(own[fd], IOMMU_OPTION, struct.pack("=IIHHIQ", 24, 0, 1, 0, 0, 0))
        return " %d" % struct.unpack("=IIHHIQ", answer)[5]
    elif word == "unlock":
        fcntl.flock(own[fd], fcntl.LOCK_UN)
    elif word == "lock":
        fcntl.flock(own[fd], fcntl.LOCK_EX | fcntl.LOCK_NB)
    elif word == "close":
        os.close(own.pop(fd))
    elif word == "send":
        send(fd, rest[0])
    elif word == "receive":
        receive(fd, rest[0])
    else:
        sys.exit("no such step: " + word)
    return ""


for line in sys.stdin:
    try:
        print("ok" + step(*line.split()), flush=True)
    except OSError as e:
        print(errno.errorcode[e.errno], flush=True)
