#!/usr/bin/env python3
# Lets a test outside of the emulated host run shell commands as root inside, over a port that only that test's
# machine forwards: a line of JSON {"command": ...} each, answered by one. Ends at {"end": STATUS}, with that.
import json, socket, subprocess, sys

server = socket.create_server(('0.0.0.0', 9091), reuse_port=False)
print('@web', flush=True)
while True:
    peer, _ = server.accept()
    with peer, peer.makefile('rw') as stream:
        for line in stream:
            asked = json.loads(line)
            if 'end' in asked:
                sys.exit(asked['end'])
            try:
                done = subprocess.run(['bash', '-c', '. ./lib.sh; ' + asked['command']], stdin=subprocess.DEVNULL,
                                      stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=asked.get('seconds', 60))
                answer = {'status': done.returncode, 'output': done.stdout.decode(errors='replace')}
            except subprocess.TimeoutExpired:
                answer = {'status': 124, 'output': ''}
            stream.write(json.dumps(answer) + '\n')
            stream.flush()
