"""group-by-iommufd.py ADDRESS: claims a device as a client does, attaches its group to the claim's iommufd, opens the
device, and closes all but the device (and the iommufd that it is bound to). Prints "ready", then waits for a line and
closes the device; prints "closed" and waits for another."""
import array
import fcntl
import os
import socket
import struct
import sys

sys.path.insert(0, "/tmp")
import wire

SET_CONTAINER, GET_DEVICE, GET_INFO = 0x3B68, 0x3B6A, 0x3B6B
CDEVS = 1 << 2

s = wire.connect()
s.send(wire.claim(wire.selector(address=wire.address(sys.argv[1])), flags=CDEVS))
while True:
    packet, control, _, _ = s.recvmsg(wire.MESSAGE_MAX, socket.CMSG_SPACE(64 * 4))
    if wire.kind(packet) != wire.STEP:
        break
if wire.kind(packet) != wire.GRANT:
    sys.exit(f"no grant: {wire.kind(packet)}")
fds = array.array("i", control[0][2])
group, iommu, cdevs = fds[0], fds[1], fds[2:]
for fd in cdevs:
    os.close(fd)
fcntl.ioctl(group, SET_CONTAINER, struct.pack("i", iommu))
device = fcntl.ioctl(group, GET_DEVICE, bytearray(sys.argv[1].encode() + b"\0"))
os.close(group)
fcntl.ioctl(device, GET_INFO, bytearray(struct.pack("=IIIII", 20, 0, 0, 0, 0)))
print("ready", flush=True)
sys.stdin.readline()
fcntl.ioctl(device, GET_INFO, bytearray(struct.pack("=IIIII", 20, 0, 0, 0, 0)))
os.close(device)
print("closed", flush=True)
sys.stdin.readline()
