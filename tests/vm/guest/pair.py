#!/usr/bin/env python3
# pair.py serve ADDRESS: runs what it is told, as root, for ever; on the network of two hosts, where nobody else is.
# pair.py run ADDRESS SCRIPT ARGUMENT...: has the other run it, prints what it says, and ends with its status.
import json, socket, socketserver, subprocess, sys, time

PORT = 99


class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        words = json.loads(self.rfile.readline())
        script = "cd /tests; . ./lib.sh; . ./torture.sh; . ./slurm.sh\n" + words[0]
        done = subprocess.run(
            ["bash", "-c", script, "second"] + words[1:],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        self.wfile.write(json.dumps([done.returncode, done.stdout.decode(errors="replace")]).encode())


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True


if sys.argv[1] == "serve":
    Server((sys.argv[2], PORT), Handler).serve_forever()

# The other may still boot.
for _ in range(1200):
    try:
        connection = socket.create_connection((sys.argv[2], PORT), timeout=10)
        break
    except OSError:
        time.sleep(0.5)
else:
    sys.exit("the second host does not answer")
connection.settimeout(600)
connection.sendall(json.dumps(sys.argv[3:]).encode() + b"\n")
text = b""
while piece := connection.recv(65536):
    text += piece
status, said = json.loads(text)
sys.stdout.write(said)
sys.exit(status)
