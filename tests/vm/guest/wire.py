"""What clients say to the broker, byte by byte, as client/wire/protocol.h has it; for hostile.py, names.py, who.py."""
import socket
import struct

HELLO = struct.pack("=II", 1, 5)
LIST = struct.pack("=II", 2, 0)
LEASES = struct.pack("=II", 3, 0)
WELCOME, END, STEP, GRANT, REFUSAL = 101, 104, 105, 106, 107
MESSAGE_MAX = 2048
ADDRESS, GROUP, NAME = 1, 2, 3  # kinds of selectors
SELECTOR = struct.Struct("=IIIBBBB32s64s")


def selector(kind=ADDRESS, group=0, address=(0, 0, 0, 0, 0), name=b"", profile=b""):
    return SELECTOR.pack(kind, group, *address, name, profile)


def claim(one=None, n=1, flags=0, reserved=0):
    return struct.pack("=IIQQII", 4, flags, 0, 0, n, reserved) + (one or selector()) + b"\0" * (SELECTOR.size * 15)


def address(text):
    domain, bus, rest = text.split(":")
    device, function = rest.split(".")
    return int(domain, 16), int(bus, 16), int(device, 16), int(function), 0


def connect(greet=True, seconds=60):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.connect("/run/gpubroker/socket")  # blocking: the line is short
    s.settimeout(seconds)
    if greet:
        s.send(HELLO)
        assert kind(s.recv(MESSAGE_MAX)) == WELCOME
    return s


def kind(packet):
    return struct.unpack("=I", packet[:4])[0] if packet else 0
