#!/usr/bin/python3
"""Shows the GPUs, starts a machine of yours with one, and follows its claim: serve.py [SOCKET [MACHINE [DEVICE]]]"""
import http.client
import json
import os
import socket
import sys


class Connection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("gpubroker")
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)


def ask(path, method, target, body=None):
    connection = Connection(path)
    headers = {"Content-Type": "application/json"} if body else {}
    connection.request(method, target, json.dumps(body) if body else None, headers)
    answer = connection.getresponse()
    if answer.status >= 400:
        sys.exit(json.load(answer)["title"])
    return answer


def main(path, machine=None, device="any"):
    for gpu in json.load(ask(path, "GET", "/api/gpu/devices")):
        print(gpu["pci_address"], gpu["device_name"], gpu["status"], "yours" if gpu["allowed"] else "")
    if machine:
        ask(path, "POST", "/v1/claims", {"machine": machine, "device": device, "wait": "30m"})
        for line in ask(path, "GET", f"/v1/claims/{machine}/events"):
            if line.startswith(b"data: "):
                print(line[6:].decode().strip())


main(*(sys.argv[1:] or [os.environ["XDG_RUNTIME_DIR"] + "/gpubroker/http"]))
