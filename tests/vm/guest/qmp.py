#!/usr/bin/python3
"""Asks a QEMU over QMP: qmp.py [--devices] SOCKET [COMMAND [JSON-ARGUMENTS]].

SOCKET may be a character device, the port to the QEMU that runs this host.
Prints the answer as JSON; with --devices, one "vendor:device" for each PCI
function of the VM. Exits with 1 when QEMU reports an error.
"""
import json
import os
import socket
import stat
import sys


class Qmp:
    def __init__(self, path):
        self.port = stat.S_ISCHR(os.stat(path).st_mode)
        if self.port:
            fd = os.open(path, os.O_RDWR)
            self.reader, self.writer = os.fdopen(fd, "rb"), os.fdopen(os.dup(fd), "wb")
        else:
            sock = socket.socket(socket.AF_UNIX)
            sock.settimeout(60)
            sock.connect(path)
            self.reader, self.writer = sock.makefile("rb"), sock.makefile("wb")
        # On the port the greeting was sent when the host was switched on, and a
        # monitor that is past it takes qmp_capabilities as an error: no matter.
        self.ask("qmp_capabilities")

    def ask(self, command, arguments=None):
        request = {"execute": command, "id": "%d-%s" % (os.getpid(), command)}
        if arguments:
            request["arguments"] = arguments
        self.writer.write(json.dumps(request).encode() + b"\r\n")
        self.writer.flush()
        for line in self.reader:
            answer = json.loads(line)
            if answer.get("id") == request["id"]:
                return answer
        raise SystemExit("qmp.py: the connection was closed")


def functions(buses):
    for bus in buses:
        for device in bus.get("devices", []):
            yield device
            if "pci_bridge" in device:
                yield from functions([device["pci_bridge"]])


def main(argv):
    devices = argv[:1] == ["--devices"]
    if devices:
        argv = [argv[0 + 1], "query-pci"]
    qmp = Qmp(argv[0])
    answer = qmp.ask(argv[1], json.loads(argv[2]) if len(argv) > 2 else None)
    if "error" in answer:
        print(answer["error"]["desc"], file=sys.stderr)
        return 1
    if devices:
        for f in functions(answer["return"]):
            print("%04x:%04x" % (f["id"]["vendor"], f["id"]["device"]))
    else:
        print(json.dumps(answer["return"]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
