#!/usr/bin/python3
"""hostile-qmp.py SOCKET MODE N: answers at SOCKET as a QEMU with two free root ports, and keeps what it is handed. At the
Nth command after the greeting, counted from 1, and from then on, it is

    refuses     an error
    closes      it closes the connection, and answers no other
    ends        it ends
    silent      it says nothing any more
    events      it sends events and nothing else
    deep        an answer of many brackets
    long        an answer without an end
    ids         answers to other commands
    drops       it says yes, but closes what it was handed

"keeps" answers everything. So do these, which have what was plugged, until a device_del:

    ejects      its guest has let go of it just before, so there is no such device
    dies        it says yes and ends

It serves one client after the other. SIGUSR1 has it behave well from then on, and let go
of all that it was handed."""
import array
import json
import os
import signal
import socket
import sys

path, mode, at = sys.argv[1], sys.argv[2], int(sys.argv[3])
kept, plugged, seen = [], [], 0


def better(*_):
    global mode
    mode = "keeps"
    while kept:
        os.close(kept.pop())


def value(request):
    command, arguments = request["execute"], request.get("arguments", {})
    if command == "qom-list-types":
        return [{"name": "iommufd"}]
    if command == "device-list-properties":
        return [{"name": "iommufd"}, {"name": "fd"}]
    if command == "qom-list" and arguments["path"] == "/machine/peripheral":
        ports = [{"name": "rp1", "type": "child<pcie-root-port>"}, {"name": "rp2", "type": "child<pcie-root-port>"}]
        return ports + [{"name": id, "type": "child<vfio-pci>"} for id in plugged]
    if command == "qom-list" or command == "query-pci":
        return []
    if command == "qom-get":
        return True
    if command == "query-memory-size-summary":
        return {"base-memory": 0}
    if command == "query-status":
        return {"running": False}
    return {}


def misbehave(client, request):
    """Returns False if the connection is over."""
    if mode == "refuses":
        client.sendall(b'{"error": {"class": "GenericError", "desc": "no \\u001b[31mand no"}, "id": %d}\r\n' % request["id"])
    elif mode == "closes":
        return False
    elif mode == "ends":
        os._exit(0)
    elif mode == "events":
        while mode == "events":
            client.sendall(b'{"event": "X", "data": {}}\r\n' * 100)
    elif mode == "deep":
        client.sendall(b"[" * 4096)
    elif mode == "long":
        while mode == "long":
            client.sendall(b'{"return": "' + b"x" * 65536)
    elif mode == "ids":
        client.sendall(b'{"return": {}, "id": %d}\r\n' % (request["id"] + 1))
    elif mode == "drops":
        while kept:
            os.close(kept.pop())
        answer(client, request)
    return True


def unplug(client, request):
    if mode == "dies":
        answer(client, request)
        os._exit(0)
    plugged.clear()
    while kept:
        os.close(kept.pop())
    client.sendall(json.dumps({"error": {"class": "DeviceNotFound", "desc": "Device '%s' not found" %
                                         request["arguments"]["id"]}, "id": request["id"]}).encode() + b"\r\n")


def answer(client, request):
    if mode in ("ejects", "dies") and request["execute"] == "device_add":
        plugged.append(request["arguments"]["id"])
    client.sendall(json.dumps({"return": value(request), "id": request["id"]}).encode() + b"\r\n")


def serve(client):
    global seen
    client.sendall(b'{"QMP": {"version": {}, "capabilities": []}}\r\n')
    text = b""
    while True:
        data, control, _, _ = client.recvmsg(65536, socket.CMSG_SPACE(16))
        for _, _, fds in control:
            kept.extend(array.array("i", fds))
        if not data:
            return
        text += data
        while b"\n" in text:
            line, text = text.split(b"\n", 1)
            request = json.loads(line)
            seen += 1
            if mode in ("ejects", "dies") and request["execute"] == "device_del":
                unplug(client, request)
            elif mode in ("keeps", "ejects", "dies") or seen < at:
                answer(client, request)
            elif not misbehave(client, request):
                return


signal.signal(signal.SIGUSR1, better)
s = socket.socket(socket.AF_UNIX)
s.bind(path)
s.listen(4)
while True:
    client = s.accept()[0]
    try:
        serve(client)
    except OSError:
        pass
    client.close()
