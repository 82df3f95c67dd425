#!/usr/bin/python3
"""500 hostile addresses, names and numbers, the same in each run, and what sends them to the broker
or looks at what became of them. One word says which."""
import json
import os
import re
import struct
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor

from wire import GROUP, MESSAGE_MAX, NAME, claim, connect, kind, selector

N = 500
FIRST_UID = 20000  # nobody's; 20 requests of each, which is what the journal takes of a user at once
PER_UID = 20

BASES = ["0000:01:00.0", "01:00.0", "card", "iommu-group:15", "00:01.0", "1", "any", "hda"]
BEFORE = ["../", "/", "./", "../../../../etc/shadow/../", "\n", "\0", "\u0661", "\uff10", " ", "-", "+", "0x",
          "%2e%2e%2f", "\x1b[2J", "\u202e", "\udcff\udc80", "iommu-group:", "=", "'", "$(reboot)"]
AFTER = ["/../../../../dev/vda", "/..", "/driver/unbind", "\0", "\0/../../etc/shadow", "\n",
         "\nlease=1 uid=0 pid=1 device=- group=- name=- rule=- by=- outcome=granted reason=-",
         "\r\n<0>panic", " outcome=granted", '" by=0 x="', "\\x0a", "%n%n%s", "\uff0e\uff10", "\u0660\u06f1\u0967",
         "\U0001d7d8", "\u00b2", "0" * 20, "0" * 64, "A" * 255, "." * 4096, "\x7f", "\t", ".0", ":", ";id", "`id`",
         "e3", ".8", "\u200b", "\udc80"]
ALONE = ["", ".", "..", "/", "//", "\0", "\n", "~", "*", "-1", "18446744073709551616", "4294967296",
         "10000:01:00.0", "100000000:00:00.0", "ffffffff:ff:1f.7", "0000:01:20.0", "0000:01:00.8", "0000:1:00.0",
         ":::.", "0000:01:00", "0000:01:00.", "0000:01:00.0.0", "000g:01:00.0", "0000:01:00,0", "0000.01.00.0",
         "iommu-group:", "iommu-group:-1", "iommu-group:4294967295", "iommu-group:4294967296", "iommu-group:1e1",
         "iommu-group:0x1", "iommu-group: 1", "iommu-group:..", "iommu-group:\u0661", "--", "--help", "-", "\uff10" * 12]


def names():
    seen = dict.fromkeys(ALONE)
    i = 0
    while len(seen) < N:
        base, kind = BASES[i % len(BASES)], i // len(BASES)
        before, after = BEFORE[kind % len(BEFORE)], AFTER[(i * 7 + kind // 20) % len(AFTER)]
        seen[(before + base, base + after, before + base + after)[(i + kind) % 3]] = None
        i += 1
        assert i < 100000
    return [s.encode("utf-8", "surrogateescape") for s in seen]


def as_uids(requests, first):
    """Each twenty by a user of their own; what the answers were, by type."""
    answers = {}
    for at in range(0, len(requests), PER_UID):
        r, w = os.pipe()
        if not os.fork():
            uid = first + at // PER_UID
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            s = connect()
            for request in requests[at:at + PER_UID]:
                s.send(request)
                try:
                    packet = s.recv(MESSAGE_MAX)
                except ConnectionResetError:
                    packet = b""
                os.write(w, struct.pack("=I", kind(packet)))
                if not packet:
                    s.close()
                    s = connect()
            os._exit(0)
        os.close(w)
        while answer := os.read(r, 4):
            answers[kind(answer)] = answers.get(kind(answer), 0) + 1
        os.close(r)
        os.wait()
    print(*(f"{which}:{n}" for which, n in sorted(answers.items())))


def wire_names():
    as_uids([claim(selector(NAME, name=name[:31])) for name in names()], FIRST_UID)


def wire_numbers():
    """Numbers made of the names: addresses, some of which cannot be, groups, leases."""
    requests = []
    for i, name in enumerate(names()):
        a, b = zlib.crc32(name), zlib.crc32(name + b"x")
        if i % 4 == 0:
            requests.append(claim(selector(address=(a, b & 0xff, b >> 8 & 31, b >> 13 & 7, 0))))
        elif i % 4 == 1:
            requests.append(claim(selector(address=(a, b & 0xff, b >> 8 & 0xff, b >> 16 & 0xff, b >> 24))))
        elif i % 4 == 2:
            requests.append(claim(selector(GROUP, group=a | 0x8000)))
        else:
            requests.append(struct.pack("=IIQQQ", 5, 0, a << 32 | b, 0, 0))
    as_uids(requests, FIRST_UID + N // PER_UID)


def command():
    """By the command, as it is called; a NUL cannot be in an argument. Two at a time, since that takes longest."""
    def call(name):
        return subprocess.run([b"gpubroker", b"run", b"--gpu", name.replace(b"\0", b"\x01"), b"--", b"true"],
                              capture_output=True, stdin=subprocess.DEVNULL, close_fds=False)

    bad = n = 0
    with ThreadPoolExecutor(2) as pool:
        for name, p in zip(names(), pool.map(call, names())):
            n += 1
            whole = re.fullmatch(rb"(?:[^\x00-\x1f\x7f]+\n)+", p.stderr)
            if p.returncode not in (64, 66, 67, 68, 75, 77, 78) or not whole or p.stdout:
                bad += 1
                bad < 10 and print(p.returncode, name[:80], p.stderr[:200])
    print("tried", n, "bad", bad)


def policy():
    """A statement of each."""
    for i, name in enumerate(names()):
        text = (b"allow user bob claim address %s", b"device %s vendor 1234", b"allow user %s claim any",
                b"allow user bob claim iommu-group %s", b"prepare path %s")[i % 5] % name
        sys.stdout.buffer.write(text + b"\n")


AUDIT = re.compile(r'lease=(-|\d+) uid=(-|\d+) pid=(-|\d+) device=(-|[0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7])'
                   r' group=(-|\d+) name=([^ "=]+) rule=([^ "=]+) by=(-|\d+) outcome=[a-z-]+'
                   r' reason=(-|"(?:[ !#-\[\]-~]|\\x[0-9a-f]{2})+") duration=(-|\d+)')
FINDING = re.compile(r"/etc/gpubroker/policy\.d/[!-~]+: [ -~]+")
KNOWN = re.compile(r"(the policy |there is no valid policy|there are more mistakes|serving: |/etc/udev/rules\.d/)[ -~]*")
# Of the command, which is run when the daemon reloads: findings, and the lines of the policy that they are about, set in.
COMMAND = re.compile(r"(/etc/|gpubroker: |  +)[ -~]*")


def unescape(text):
    return re.sub(rb"\\x([0-9a-f]{2})", lambda m: bytes([int(m[1], 16)]), text.encode())


def journal():
    """Each line is one of the broker's, whole; and each name that is told is one that was asked for, as it was.
    Not all are: the journal takes 200 lines of all users at once, and then five in a second."""
    audited, bad, lines = {}, 0, 0
    for line in sys.stdin:
        entry = json.loads(line)
        if entry.get("SYSLOG_IDENTIFIER") not in ("gpubrokerd", "gpubroker"):
            continue
        lines += 1
        message = entry["MESSAGE"]
        match = AUDIT.fullmatch(message) if isinstance(message, str) else None
        if match:
            if match[2] != "-" and FIRST_UID <= int(match[2]) < FIRST_UID + 2 * N // PER_UID:
                audited.setdefault(int(match[2]), []).append(match[6])
        elif (not isinstance(message, str) or
              not (FINDING.fullmatch(message) or KNOWN.fullmatch(message)
                   or entry["SYSLOG_IDENTIFIER"] == "gpubroker" and COMMAND.fullmatch(message))):
            bad += 1
            bad < 10 and print("bad line:", str(message)[:200])
    wrong = 0
    asked = [name[:31].split(b"\0")[0] for name in names()]
    for at in range(0, N, PER_UID):
        rest = iter(asked[at:at + PER_UID])
        for got in audited.get(FIRST_UID + at // PER_UID, []):
            # A line without a name is about an empty one, or counts what was left out.
            if got != "-" and not any(unescape(got) == want for want in rest):
                wrong += 1
                if wrong < 10:
                    print("wrong:", got)
    told = sum(len(names) for names in audited.values())
    print("lines", "some" if lines >= 200 else lines, "bad", bad, "names wrong", wrong,
          "told", "some" if told >= 200 else told)


# What the core may open, and by what paths: below the descriptors of /sys, /dev and the state directory that it has.
PLACES = re.compile(r"/sys/(bus/pci|bus/(dax|cxl|usb)/devices|devices/pci|devices/virtual|kernel/(iommu_groups|boot_params)|class/|fs/)|/dev/vfio(/|$)"
                    r"|/run/gpubroker/leases(/|$)|/sys$|/sys/(block|bus)$")
CALL = re.compile(r'(?:\d+ +)?(\w+)\((?:(AT_FDCWD|\d+)(?:<([^>]*)>)?, )?"([^"]*)".*?(?:\) += (-?\d+)(?:<([^>]*)>)?)?')


def trace():
    """The core's calls with paths, as strace has them."""
    n = bad = 0
    for line in open(sys.argv[2], errors="surrogateescape"):
        m = CALL.match(line)
        if not m:
            continue
        n += 1
        call, start, directory, path = m[1], m[2], m[3], m[4]
        opened = re.search(r"\) += \d+<([^>]*)>", line)
        whole = path if path.startswith("/") else f"{directory}/{path}"
        if (call not in ("openat2", "readlinkat", "inotify_add_watch", "renameat2", "unlinkat", "statx") or ".." in path
                or "\\" in path or not PLACES.match(whole) or (opened and not PLACES.match(opened[1]))):
            bad += 1
            if bad < 10:
                print("bad:", line.strip()[:300])
    print("calls", "some" if n > 200 else n, "bad", bad)


globals()[sys.argv[1]]()
