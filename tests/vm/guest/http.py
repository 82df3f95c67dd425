# SPDX-License-Identifier: MIT
# http.py SOCKET METHOD PATH [BODY]: prints the status, and the body behind it. http.py SOCKET events PATH LAST: prints the
# events of a stream, up to one with LAST in it or its end. http.py SOCKET document FILE: prints what differs from it.
# http.py SOCKET huge PATH BYTES: prints the status of a GET with that many bytes of headers.
import json
import re
import socket
import sys


def ask(path, method, target, body=None):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(300)
    s.connect(path)
    body = (body or "").encode()
    head = f"{method} {target} HTTP/1.1\r\nHost: gpu\r\nContent-Length: {len(body)}\r\n"
    s.sendall((head + ("Content-Type: application/json\r\n" if body else "") + "\r\n").encode() + body)
    return s


def whole(s):
    got = b""
    while piece := s.recv(65536):
        got += piece
    head, _, body = got.partition(b"\r\n\r\n")
    return int(head.split()[1]), body.decode()


def required(document, schema, value, where):
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    if schema.get("type") == "array":
        return [w for v in value for w in required(document, schema.get("items", {}), v, where + "[]")]
    wrong = [f"{where}: no {key}" for key in schema.get("required", []) if key not in value]
    for key, of in schema.get("properties", {}).items():
        if isinstance(value, dict) and "enum" in of and key in value and value[key] not in of["enum"]:
            wrong.append(f"{where}.{key}: {value[key]}")
    return wrong


path, method, target, *rest = sys.argv[1:]
if method == "events":
    got = b""
    s = ask(path, "GET", target)
    while rest[0].encode() not in got:
        piece = s.recv(4096)
        if not piece:
            break
        got += piece
        sys.stdout.write(piece.decode())
        sys.stdout.flush()
elif method == "huge":
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(300)
    s.connect(path)
    try:
        s.sendall(f"GET {target} HTTP/1.1\r\nHost: gpu\r\nX: ".encode() + b"a" * int(rest[0]) + b"\r\n\r\n")
    except OSError:
        pass  # it has answered before it had all
    print(whole(s)[0])
elif method == "document":
    document = json.load(open(target))
    names = {"address": rest[0], "id": rest[1], "name": rest[2]}
    for form, methods in document["paths"].items():
        if "get" not in methods or form.endswith("/events"):
            continue
        where = re.sub(r"\{([a-z]+)\}", lambda m: names[m.group(1)], form)
        status, body = whole(ask(path, "GET", where))
        answers = methods["get"]["responses"]
        if status != 200:
            print(where, status, body)
            continue
        schema = answers["200"]["content"]["application/json"]["schema"]
        for wrong in required(document, schema, json.loads(body), where):
            print(wrong)
    print("all seen")
else:
    status, body = whole(ask(path, method, target, *rest))
    print(status)
    print(body)
