# SPDX-License-Identifier: MIT
# The tests of serve.t: serve.py COMMAND OPENAPI CLIENT. Prints TAP. Only the standard library.
import errno
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

command, openapi_path, client_path = sys.argv[1:]
run = os.environ["XDG_RUNTIME_DIR"]
config = os.environ["XDG_CONFIG_HOME"]
path = run + "/gpubroker/http"
claims = run + "/gpubroker/claims"
n = failed = 0


def ok(good, name, *diag):
    global n, failed
    n += 1
    failed += not good
    print(("ok" if good else "not ok"), n, "-", name, flush=True)
    if not good:
        for text in diag:
            print("#", repr(text)[:2000], flush=True)
    return good


def connect(where=None):
    if where is None:
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(120)
        s.connect(path)
    else:
        s = socket.create_connection(("127.0.0.1", where), 120)
    return s


def raw(data, where=None):
    """Sends the bytes, and returns all of the answer."""
    with connect(where) as s:
        try:
            s.sendall(data)
        except OSError:
            pass  # it has answered before it had all
        got = b""
        while True:
            try:
                piece = s.recv(65536)
            except ConnectionResetError:
                break
            if not piece:
                return got
            got += piece
        return got


def parse(answer):
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    status = int(lines[0].split()[1]) if lines[0] else 0
    headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines[1:])}
    return status, headers, body


def ask(method, target, body=None, headers=None, where=None):
    lines = {"Host": "gpu"}
    if body is not None:
        body = json.dumps(body).encode() if not isinstance(body, bytes) else body
        lines["Content-Length"] = str(len(body))
        lines["Content-Type"] = "application/json"
    lines.update(headers or {})
    text = "".join(f"{k}: {v}\r\n" for k, v in lines.items())
    return parse(raw(f"{method} {target} HTTP/1.1\r\n{text}\r\n".encode() + (body or b""), where))


def status_of(data, where=None):
    answer = raw(data, where)
    return parse(answer)[0] if answer else 0


def wait_for(what, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if what():
            return True
        time.sleep(0.05)
    return False


def is_up():
    try:
        connect().close()
        return True
    except OSError:
        return False


def is_over(number):
    try:
        with open(f"/proc/{number}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] == "Z"  # nobody may take its status here
    except OSError:
        return True


def bind_v6(number):
    """Listens on [::1]. None: somebody has it; False: this host has no IPv6."""
    try:
        s = socket.socket(socket.AF_INET6)
        s.bind(("::1", number))
        s.listen(1)
        return s
    except OSError as e:
        return None if e.errno == errno.EADDRINUSE else False


def free_port():
    while True:
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            number = s.getsockname()[1]
            other = bind_v6(number)
            if other:
                other.close()
            if other is not None:
                return number


port = free_port()
serve = subprocess.Popen([command, "--socket", run + "/no-broker", "serve", "--port", str(port)])


def good(name):
    """It serves on, and the process is the one that it was."""
    status = ask("GET", "/v1/claims")[0]
    ok(status == 200 and serve.poll() is None, name + ": it serves on", status, serve.poll())


ok(wait_for(is_up), "it listens")
ok(oct(os.stat(path).st_mode & 0o777) == "0o600", "its socket is the user's own")
ok(oct(os.stat(run + "/gpubroker/token").st_mode & 0o777) == "0o600", "and so is the token")
status = open(f"/proc/{serve.pid}/status").read() if os.path.exists(f"/proc/{serve.pid}/status") else ""
pids = [serve.pid] + [int(p) for p in os.popen(f"pgrep -P {serve.pid} 2>/dev/null").read().split()]
filters = [re.search(r"Seccomp:\s+(\d)", open(f"/proc/{p}/status").read()).group(1) for p in pids]
ok("2" in filters, "the process that speaks HTTP is under a filter", filters)

# ---- what it answers ----
document = json.load(open(openapi_path))
s, h, b = ask("GET", "/v1/devices")
problem = json.loads(b)
ok(s == 503 and h["content-type"] == "application/problem+json" and "no broker answers" in problem["title"],
   "without a broker: 503, a problem whose title is the sentence", s, h, b)
ok(problem["status"] == 503 and problem["name"] == "no-broker" and "hint" in problem, "... with what programs read", b)
ok(h["cache-control"] == "no-store" and h["x-content-type-options"] == "nosniff" and "default-src 'none'" in
   h["content-security-policy"] and "access-control-allow-origin" not in h, "no browser keeps or shows an answer", h)
s, h, b = ask("GET", "/v1/doctor")
ok(s == 200 and isinstance(json.loads(b), list), "doctor needs no broker, and fails in its list", s)

# Every path and method of the document is there, and nothing else is.
wrong = []
for form, methods in document["paths"].items():
    target = form.replace("{address}", "0000:01:00.0").replace("{id}", "3").replace("{name}", "none")
    for method in ("get", "post", "delete", "put"):
        if "/events" in form and method == "get":
            continue
        body = {"device": "01:00.0"} if "requestBody" in methods.get(method, {}) else None
        if method not in methods and any(method in ms and re.fullmatch(re.sub(r"\{[a-z]+\}", "[^/]+", f), form)
                                         for f, ms in document["paths"].items()):
            continue  # "scan" is no address, and has the form of one
        s, h, b = ask(method.upper(), target, body)
        if (s == 405) == (method in methods) or (method in methods and str(s) not in methods[method]["responses"]):
            wrong.append((method, target, s, b))
ok(not wrong, "each path of openapi.json is served with its methods and answers, and no other method", *wrong)
routes = set(re.findall(r'\{ "(GET|POST|DELETE)", "([^"]+)"', open(os.path.dirname(openapi_path) + "/routes.c").read()))
written = {(m.upper(), re.sub(r"\{[a-z]+\}", "*", p)) for p, ms in document["paths"].items() for m in ms}
ok(routes == written, "... and each path that is served is in it", routes ^ written)
ok(document["openapi"].startswith("3.1"), "it is OpenAPI 3.1")

# ---- requests of every wrong form ----
H = b"Host: gpu\r\n\r\n"
forms = [
    (400, b"GET  /v1/claims HTTP/1.1\r\n" + H, "two blanks"),
    (400, b"/v1/claims\r\n" + H, "no method"),
    (505, b"GET /v1/claims HTTP/2.0\r\n" + H, "another version"),
    (400, b"GET /v1/claims\r\n" + H, "HTTP/0.9"),
    (400, b"GET /v1/claims HTTP/1.1\r\n\r\n", "no Host"),
    (400, b"GET /v1/claims HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "two Hosts"),
    (400, b"GET /v1/claims HTTP/1.1\nHost: gpu\r\n\r\n", "a bare line feed"),
    (400, b"GET /v1/claims HTTP/1.1\r\nHost: gpu\r\n folded: x\r\n\r\n", "a folded header"),
    (400, b"GET /v1/claims HTTP/1.1\r\nHost : gpu\r\n\r\n", "a blank before the colon"),
    (400, b"GET /v1/claims HTTP/1.1\r\nHost: gpu\r\nX: a\0b\r\n\r\n", "a NUL in a header"),
    (400, b"GET http://other/v1/claims HTTP/1.1\r\n" + H, "a proxy's request"),
    (400, b"GET /v1/claims?a=b HTTP/1.1\r\n" + H, "a query"),
    (400, b"GET /v1/%00 HTTP/1.1\r\n" + H, "%00 in the path"),
    (400, b"GET /v1/claims%0d%0aX:%20y HTTP/1.1\r\n" + H, "a line feed in the path"),
    (400, b"GET /v1/../v1/claims HTTP/1.1\r\n" + H, "dots in the path"),
    (400, b"GET /v1/%2e%2e/claims HTTP/1.1\r\n" + H, "dots that are hidden"),
    (400, b"GET /v1/claims/..%2f..%2fetc HTTP/1.1\r\n" + H, "a slash that is hidden"),
    (400, b"GET //v1/claims HTTP/1.1\r\n" + H, "an empty segment"),
    (400, b"GET /v1/claims/%zz HTTP/1.1\r\n" + H, "half an escape"),
    (400, "GET /v1/claims/é HTTP/1.1\r\n".encode() + H, "a letter that no name has"),
    (414, b"GET /" + b"a" * 300 + b" HTTP/1.1\r\n" + H, "a long path"),
    (431, b"GET /v1/claims HTTP/1.1\r\nHost: gpu\r\nX: " + b"a" * 9000 + b"\r\n\r\n", "a huge header"),
    (431, b"GET /v1/claims HTTP/1.1\r\nHost: gpu\r\n" + b"X: a\r\n" * 3000, "headers without an end"),
    (431, b"GET /v1/claims HTTP/1.1\r\nHost: " + b"h" * 200 + b"\r\n\r\n", "a long Host"),
    (413, b"POST /v1/claims HTTP/1.1\r\nContent-Length: 4097\r\n" + H, "a body that is too large"),
    (413, b"POST /v1/claims HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n" + H, "a length without end"),
    (400, b"POST /v1/claims HTTP/1.1\r\nContent-Length: -1\r\n" + H, "a negative length"),
    (400, b"POST /v1/claims HTTP/1.1\r\nContent-Length: 0x10\r\n" + H, "a length that is no number"),
    (400, b"POST /v1/claims HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 2\r\n" + H + b"{}", "two lengths"),
    (501, b"POST /v1/claims HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + H + b"0\r\n\r\n", "chunks"),
    (501, b"POST /v1/claims HTTP/1.1\r\nContent-Length: 2\r\ntransfer-encoding : chunked\r\n".replace(b" :", b":") + H +
     b"{}", "chunks beside a length"),
    (417, b"POST /v1/claims HTTP/1.1\r\nExpect: 100-continue\r\n" + H, "an expectation"),
    (400, b"GET /v1/claims HTTP/1.1\r\n" + H + b"DELETE /v1/leases/1 HTTP/1.1\r\n" + H, "a second request behind it"),
    (400, b"GET /v1/claims HTTP/1.1\r\nContent-Length: 40\r\n" + H + b"DELETE /v1/leases/1 HTTP/1.1\r\nHost: a\r\n\r\n",
     "a request in a body"),
    (415, b"POST /v1/claims HTTP/1.1\r\nContent-Length: 2\r\n" + H + b"{}", "a body of no type"),
    (415, b"POST /v1/claims HTTP/1.1\r\nContent-Length: 2\r\nContent-Type: text/plain\r\n" + H + b"{}",
     "a body as a form sends it"),
    (404, b"GET /V1/claims HTTP/1.1\r\n" + H, "another case"),
    (405, b"PUT /v1/claims HTTP/1.1\r\n" + H, "another method"),
    (404, b"DELETE /v1/leases/1%3b HTTP/1.1\r\n".replace(b"%3b", b"-") + H, "what is no lease's number"),
    (404, b"DELETE /v1/leases/--all HTTP/1.1\r\n" + H, "an option for a lease"),
    (404, b"POST /v1/devices/any/prepare HTTP/1.1\r\n" + H, "what is no address"),
]
for wanted, data, name in forms:
    got = status_of(data)
    ok(got == wanted, f"{name}: {wanted}", got)
for body, name in ((b"[]", "no object"), (b"{", "half an object"), (b'{"machine":"x"} {}', "two values"), (b'"x"', "a text"),
                   (b'{"machine":"x","uid":0}', "a key that is not known"), (b'{"machine":7}', "no text"),
                   (b'{"machine":"../x"}', "a path for a machine"), (b'{"machine":"-x"}', "an option for a machine"),
                   (b'{"machine":"x","device":"--help"}', "an option for a device"),
                   (b'{"machine":"x","device":"a b"}', "two words for a device"),
                   (b'{"machine":"x","wait":"--force"}', "an option for a time"),
                   (b'{"machine":"x\\u0000y"}', "a NUL in a name"), (b'{"machine":"' + b"x" * 200 + b'"}', "a long name"),
                   (b"[" * 2000, "a deep value"), (b'{"machine":"x"}\0', "a NUL behind it"), (b"\xff\xfe", "no UTF-8")):
    s = ask("POST", "/v1/claims", body)[0]
    ok(s == 422, f"a body of {name}: 422", s)
good("after all of these")

# ---- huge headers ----
def peak():
    """The most that its processes have had of memory, in KiB."""
    return sum(int(re.search(r"VmHWM:\s+(\d+)", open(f"/proc/{p}/status").read()).group(1)) for p in pids)


HUGE = 1 << 20
before = peak()
answers = []
for data in (b"X: " + b"a" * HUGE, b"X: aaaaaaaaaaaa\r\n" * (HUGE // 16)):
    def send_huge():
        answers.append(status_of(b"GET /v1/claims HTTP/1.1\r\nHost: gpu\r\n" + data + b"\r\n\r\n"))

    threads = [threading.Thread(target=send_huge) for _ in range(64)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
ok(answers == [431] * 128, "huge headers, 1 MiB in one or in many, from 64 clients at once: 431 to each", answers)
grown = peak() - before
ok(grown < 8192, "... and of the 128 MiB its memory grows by less than 8", grown)
good("huge headers")

# ---- pages of a browser ----
for headers, name in (({"Origin": "http://evil.example"}, "another page's Origin"), ({"Origin": "null"}, "a sandboxed page"),
                      ({"Origin": "http://gpu"}, "a page of its own name"), ({"Sec-Fetch-Site": "cross-site"}, "a cross-site request"),
                      ({"Sec-Fetch-Site": "same-site"}, "another port's page")):
    s = ask("GET", "/v1/claims", headers=headers)[0]
    ok(s == 403, f"{name} on the socket: 403", s)
token = open(run + "/gpubroker/token").read().strip()
own = {"Host": f"127.0.0.1:{port}", "Authorization": f"Bearer {token}"}
s = ask("GET", "/v1/claims", headers=own, where=port)[0]
ok(s == 200, "the loopback with the token: 200", s)
for change, wanted, name in (({"Authorization": ""}, 401, "no token"), ({"Authorization": "Bearer "}, 401, "an empty one"),
                             ({"Authorization": "Bearer " + token[:-1]}, 401, "part of it"),
                             ({"Authorization": "Bearer " + token + "0"}, 401, "more than it"),
                             ({"Authorization": "Bearer " + "0" * 64}, 401, "another one"),
                             ({"Authorization": "Basic " + token}, 401, "another scheme"),
                             ({"Host": "evil.example"}, 421, "another name for 127.0.0.1"),
                             ({"Host": f"evil.example:{port}"}, 421, "... with the port"),
                             ({"Host": "127.0.0.1"}, 421, "no port"), ({"Host": f"127.0.0.1:{port}.evil.example"}, 421, "a longer name"),
                             ({"Origin": "http://evil.example"}, 403, "another Origin, with the token"),
                             ({"Origin": f"https://127.0.0.1:{port}"}, 403, "another scheme's Origin")):
    s, h, b = ask("GET", "/v1/claims", headers={**own, **change}, where=port)
    ok(s == wanted, f"the loopback, {name}: {wanted}", s, b)
s = ask("GET", "/v1/claims", headers={**own, "Origin": f"http://127.0.0.1:{port}"}, where=port)[0]
ok(s == 200, "the loopback's own page, with the token: 200", s)
s = ask("OPTIONS", "/v1/claims", headers={**own, "Origin": "http://evil.example", "Access-Control-Request-Method": "POST"},
        where=port)[0]
ok(s == 403, "a preflight of another page: 403", s)


# ---- the other address of "localhost" ----
taken = bind_v6(port)
if taken is False:
    ok(True, "# SKIP this host has no IPv6")
else:
    ok(taken is None, "nobody else can listen on [::1], and be sent the token")
    with socket.create_connection(("::1", port), 120) as v6:
        v6.sendall(f"GET /v1/claims HTTP/1.1\r\nHost: [::1]:{port}\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
        got = v6.recv(65536)
    ok(got.startswith(b"HTTP/1.1 200"), "... where it is served too", got)
    other = free_port()
    for family, host in ((socket.AF_INET6, "::1"), (socket.AF_INET, "127.0.0.1")):
        with socket.socket(family) as thief:
            thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            thief.bind((host, other))
            thief.listen(8)
            out = subprocess.run([command, "serve", "--http", run + "/second", "--port", str(other)],
                                 capture_output=True, text=True)
            ok(out.returncode == 73 and "cannot listen on " in out.stderr, f"somebody who has {host} already: 73", out)
    ok(open(run + "/gpubroker/token").read().strip() == token, "... and the token of the one that runs is as it was")

# ---- slow clients, and many ----
slow = [connect() for _ in range(200)]
for i, s in enumerate(slow):
    s.sendall(b"GET /v1/claims HTT"[:1 + i % 17])
good("200 clients that send half a request")
for s in slow:
    s.close()
idle = [connect(port) for _ in range(300)]
begun = time.monotonic()
good("300 idle connections of the loopback")
ok(time.monotonic() - begun < 20, "... which keep nobody from the socket", time.monotonic() - begun)
for s in idle:
    s.close()
deaf = connect()
deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
deaf.sendall(b"GET /v1/doctor HTTP/1.1\r\n" + H)
good("a client that does not read")
deaf.close()
answers = []


def one():
    try:
        s, h, b = ask("GET", "/v1/claims")
        answers.append(s if s == 200 else b)
    except OSError as e:
        answers.append(e)


threads = [threading.Thread(target=one) for _ in range(1000)]
for t in threads:
    t.start()
for t in threads:
    t.join()
ok(answers.count(200) == 1000, "1,000 requests at once: 200 to each",
   {repr(a): answers.count(a) for a in answers if a != 200})
half = connect()
half.sendall(b"POST /v1/claims HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 20\r\n" + H + b"{")
half.close()
good("a client that goes in the middle of its body")
quick = connect()
quick.sendall(b"GET /v1/doctor HTTP/1.1\r\n" + H)
quick.close()
good("a client that does not wait for its answer")
for where in (None, port):
    with connect(where) as ended:
        host = f"127.0.0.1:{port}\r\nAuthorization: Bearer {token}" if where else "gpu"
        ended.sendall(f"GET /v1/claims HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        ended.shutdown(socket.SHUT_WR)
        got = ended.recv(65536)
        ok(got.startswith(b"HTTP/1.1 200"), "a client that ends its sending gets its answer", got)
begun = time.monotonic()
late = connect()
late.sendall(b"GET /v1/claims HTTP/1.1\r\nX: ")
got = late.recv(65536)
ok(parse(got)[0] == 408 and time.monotonic() - begun >= 20, "half a request is answered with 408 when its time is over",
   got, time.monotonic() - begun)
late.close()

# ---- machines ----
os.makedirs(config + "/gpubroker/machines")
for name, text in (("vm", "#!/bin/sh\nexec sleep 1000\n"), ("plain", "")):
    with open(f"{config}/gpubroker/machines/{name}", "w") as f:
        f.write(text)
os.chmod(config + "/gpubroker/machines/vm", 0o755)
s, h, b = ask("POST", "/v1/claims", {"machine": "none"})
ok(s == 404 and "none" in json.loads(b)["title"], "a machine that is not there: 404, and how one is made", s, b)
s, h, b = ask("POST", "/v1/claims", {"machine": "plain"})
ok(s == 404, "one that cannot be executed: 404", s, b)
s, h, b = ask("POST", "/v1/claims", {"machine": "vm", "device": "01:00.0"})
ok(s == 202 and json.loads(b) == {"name": "vm", "state": "starting"}, "a machine is started: 202", s, b)
events = parse(raw(b"GET /v1/claims/vm/events HTTP/1.1\r\n" + H))
lines = [json.loads(line[6:]) for line in events[2].decode().split("\n") if line.startswith("data: ")]
ok(events[1].get("content-type") == "text/event-stream" and lines and lines[-1]["event"] == "refused" and
   lines[-1]["name"] == "no-broker", "its steps are events, and the last says why there is no device", events)
s, h, b = ask("GET", "/v1/claims/vm")
ok(s == 200 and json.loads(b)["state"] == "refused", "... and so does the claim", s, b)
with open(run + "/gpubroker/claims/vm", "a") as f:
    f.write('{"event":"granted","leases":[]}\n')
s, h, b = ask("GET", "/v1/claims/vm")
ok(s == 200 and json.loads(b)["state"] == "refused" and json.loads(b)["steps"][-1]["event"] == "refused",
   "... which no line behind its last step changes", s, b)
s, h, b = ask("GET", "/v1/claims")
ok([c["name"] for c in json.loads(b)] == ["vm"], "... which is listed", b)
ok(ask("DELETE", "/v1/claims/vm")[0] == 204 and json.loads(ask("GET", "/v1/claims")[2]) == [], "... and is taken away")
s, h, b = ask("DELETE", "/v1/claims/vm")
ok(s == 404, "... once", s, b)
events = raw(b"GET /v1/claims/vm/events HTTP/1.1\r\n" + H)
ok(b"event: end" in events and b"no claim" in events, "events of no claim end with the reason", events)


# Streams end: of a machine that is gone, of a claim that is taken away; and begin anew with its file.
def follow(name):
    s = connect()
    s.sendall(f"GET /v1/claims/{name}/events HTTP/1.1\r\n".encode() + H)
    return s


def until(s, text):
    got = b""
    while text not in got:
        piece = s.recv(65536)
        if not piece:
            break
        got += piece
    return got


waiting = '{"event":"waiting","place":%d}\n'
with open(claims + "/left", "w") as f:
    f.write(waiting % 1)
events = raw(b"GET /v1/claims/left/events HTTP/1.1\r\n" + H)
ok(b'"place":1' in events and b"event: end" in events and b"ended before its claim" in events,
   "events of a machine that is gone end with the reason", events)
lock = open(claims + "/left.lock", "w")
fcntl.flock(lock, fcntl.LOCK_EX)
with follow("left") as s:
    until(s, b'"place":1')
    with open(claims + "/left", "a") as f:
        f.write(waiting % 2)
    until(s, b'"place":2')
    with open(claims + "/left", "w") as f:
        f.write(waiting % 3)
    got = until(s, b'"place":3')
    ok(b'"place":3' in got, "events of a claim that is begun anew go on", got)
    ok(ask("DELETE", "/v1/claims/left")[0] == 204, "it is taken away")
    got = until(s, b"taken away")
    ok(b"event: end" in got and b"taken away" in got, "events of a claim that is taken away end with the reason", got)
lock = open(claims + "/left.lock", "w")
fcntl.flock(lock, fcntl.LOCK_EX)
# One that has waited long, and the machine that got the grant.
with open(claims + "/left", "w") as f:
    for i in range(4000):
        f.write(waiting % i)
    f.write('{"event":"granted","leases":[]}\n')
s, h, b = ask("GET", "/v1/claims/left")
claim = json.loads(b)
ok(claim["state"] == "granted" and claim["steps"][-1]["event"] == "granted",
   "a claim with many steps is granted in the end, however long they are", claim["state"], len(b))
ok(len(claim["steps"]) == 256, "... and has the latest of them", len(claim["steps"]))
with follow("left") as s:
    got = until(s, b'"granted"')
    ok(b'"place":0}' in got and b'"place":3999}' in got and b'"granted"' in got, "... which are all events", len(got))
fcntl.flock(lock, fcntl.LOCK_UN)
s, h, b = ask("GET", "/v1/claims/left")
ok(json.loads(b)["state"] == "ended", "when its machine has ended, the claim is not granted any more", b[:200])
ok(ask("DELETE", "/v1/claims/left")[0] == 204, "... and can be taken away")
lock.close()
events = raw(b"GET /v1/events HTTP/1.1\r\n" + H)
ok(b"event: end\ndata: {" in events and b"no broker answers" in events, "events without a broker end with the reason", events)
# A claim that nobody answers: its process waits at a socket.
mute = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
mute.bind(run + "/no-broker")
mute.listen(8)
s, h, b = ask("POST", "/v1/claims", {"machine": "vm", "device": "01:00.0"})
pid = int(open(claims + "/vm.lock").read())
ok(s == 202 and wait_for(lambda: b"--progress=json,3" in open(f"/proc/{pid}/cmdline", "rb").read()),
   "a machine that waits for its claim", s, b)
fds = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in (1, 2, 3, 4)]
ok(fds[:2] == ["/dev/null"] * 2 and fds[2:] == [claims + "/vm", claims + "/vm.lock"],
   "... writes its steps where its own output does not go", fds)
ignored = int(re.search(r"SigIgn:\s+(\w+)", open(f"/proc/{pid}/status").read()).group(1), 16)
ok(not ignored & (1 << (signal.SIGTERM - 1) | 1 << (signal.SIGINT - 1)), "... and ignores no signal that would end it", ignored)
s, h, b = ask("POST", "/v1/claims", {"machine": "vm", "device": "01:00.0"})
ok(s == 409 and "runs already" in json.loads(b)["title"], "... and is not started twice", s, b)
ok(ask("DELETE", "/v1/claims/vm")[0] == 204 and wait_for(lambda: is_over(pid)), "... and is ended")
mute.close()
os.unlink(run + "/no-broker")
s, h, b = ask("POST", "/api/vms/vm/vgpu", {"device": "01:00.0"})
ok(s == 404 and "vm.qmp" in json.loads(b)["title"], "a vGPU for a machine without a monitor: 404, and which is looked for", s, b)
for size in (40, 63, 64):
    s, h, b = ask("POST", "/api/vms/" + "a" * size + "/vgpu", {"device": "01:00.0"})
    ok(s == 404 and b"qmp" not in b, f"a name of {size} bytes is no other machine's", s, b)

# ---- the client of the documentation ----
out = subprocess.run([sys.executable, client_path, path], capture_output=True, text=True)
ok(out.returncode == 1 and "no broker answers" in out.stderr, "the client in the documentation says why", out)
with open(client_path) as f:
    ok(len(f.readlines()) <= 40, "... and has 40 lines at most")

# ---- curl, as in gpubroker-serve(1) ----
if shutil.which("curl"):
    def curl(*arguments):
        return subprocess.run(["curl", "-s", "-S", "--unix-socket", path, *arguments], capture_output=True, text=True).stdout

    out = curl("http://gpu/v1/claims")
    ok(json.loads(out) == [], "curl gets an answer, as in the manual page", out)
    out = curl("-H", "Content-Type: application/json", "http://gpu/v1/claims", "-d", '{"machine":"none","device":"01:00.0"}')
    ok(json.loads(out)["status"] == 404, "... has a claim begun", out)
    out = curl("-N", "http://gpu/v1/claims/none/events")
    ok(out.startswith("event: end\ndata: {"), "... and follows its events", out)
else:
    ok(True, "curl # SKIP it is not here")

# ---- what --http names ----
for kind in ("file", "directory", "link", "socket that is heard"):
    named = run + "/" + kind.split()[0]
    heard = None
    if kind == "file":
        open(named, "w").write("precious")
    elif kind == "directory":
        os.mkdir(named)
    elif kind == "link":
        os.symlink(run + "/file", named)
    else:
        heard = socket.socket(socket.AF_UNIX)
        heard.bind(named)
        heard.listen(8)
    before = os.lstat(named)
    out = subprocess.run([command, "serve", "--http", named], capture_output=True, text=True)
    ok(out.returncode == (75 if heard else 73) and named in out.stderr and os.path.lexists(named) and
       os.lstat(named).st_ino == before.st_ino, f"--http takes no {kind} away", out)
ok(open(run + "/file").read() == "precious", "... nor what is in the file")

# ---- the end ----
again = subprocess.run([command, "serve"], capture_output=True, text=True)
ok(again.returncode == 75 and "another gpubroker serve" in again.stderr, "a second one does not take its socket", again)
serve.send_signal(signal.SIGTERM)
ok(serve.wait() == -signal.SIGTERM, "a signal ends it")
ok(wait_for(lambda: not os.path.exists(path)), "... and its socket goes")
os.chmod(run + "/gpubroker", 0o755)
out = subprocess.run([command, "serve"], capture_output=True, text=True)
ok(out.returncode == 73 and "your own alone" in out.stderr, "a directory that others can enter is not taken", out)
os.chmod(run + "/gpubroker", 0o700)
listener = socket.socket(socket.AF_UNIX)
listener.bind(run + "/activated")
listener.listen(8)


def activate():
    os.dup2(listener.fileno(), 3)
    os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))


serve = subprocess.Popen([command, "--socket", run + "/no-broker", "serve"], preexec_fn=activate, pass_fds=[3],
                         env=None)
path = run + "/activated"
s = 0
try:
    s = ask("GET", "/v1/claims")[0]
except OSError:
    pass
serve.terminate()
serve.wait()
ok(s == 200 and os.path.exists(path), "systemd's socket is taken, and left", s)
print(f"1..{n}")
sys.exit(failed != 0)
