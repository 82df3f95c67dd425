#!/usr/bin/env python3
# clinger.py HOW GROUP ADDRESS: takes a device through VFIO and does not let go of it, whatever is asked or
# sent. HOW: ignores (SIGTERM), forks (a child each moment, which goes on while its parent ends), passes (the
# descriptors are in a process of its own, which did not open them), stopped (by ptrace), namespace (in a pid
# namespace of its own), script (its parent starts it again whenever it ends), thread (the descriptors are in a thread
# of its own table), leaderless (its first thread has ended).
import array, ctypes, fcntl, os, signal, socket, struct, subprocess, sys, threading, time

how, group, address = sys.argv[1:4]


def take():
    container = os.open("/dev/vfio/vfio", os.O_RDWR)
    held = os.open("/dev/vfio/" + group, os.O_RDWR)
    fcntl.ioctl(held, 0x3B68, struct.pack("i", container))  # VFIO_GROUP_SET_CONTAINER
    fcntl.ioctl(container, 0x3B66, 3)  # VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU
    device = fcntl.ioctl(held, 0x3B6A, bytearray(address.encode() + b"\0"))  # VFIO_GROUP_GET_DEVICE_FD
    return [container, held, device]


def wait():
    print("has", flush=True)
    while True:
        time.sleep(60)


if how == "script":
    while True:
        subprocess.call([sys.executable, sys.argv[0], "ignores", group, address])
if how == "namespace":
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(0x10000000 | 0x20000000):  # CLONE_NEWUSER | CLONE_NEWPID
        sys.exit("unshare: " + os.strerror(ctypes.get_errno()))
    if os.fork():
        os.wait()
        sys.exit()
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if how == "passes":
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork() == 0:
        ours.close()
        _, ancillary, _, _ = theirs.recvmsg(1, socket.CMSG_SPACE(16))
        wait()
    theirs.close()
    ours.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", take()))])
    time.sleep(1)
    os._exit(0)
if how == "thread":

    def hide():
        if ctypes.CDLL(None, use_errno=True).unshare(0x400):  # CLONE_FILES
            sys.exit("unshare: " + os.strerror(ctypes.get_errno()))
        take()
        wait()

    threading.Thread(target=hide).start()
    while True:
        time.sleep(60)
kept = take()
if how == "leaderless":
    threading.Thread(target=wait).start()
    ctypes.CDLL(None).syscall(60, 0)  # exit, of this thread alone
if how == "forks":
    print("has", flush=True)
    while True:
        if os.fork():
            os._exit(0)
        time.sleep(0.02)
if how == "stopped":
    child = os.fork()
    if child == 0:
        ctypes.CDLL(None).ptrace(0, 0, None, None)  # PTRACE_TRACEME
        os.kill(os.getpid(), signal.SIGSTOP)
        wait()
    os.waitpid(child, os.WUNTRACED)
wait()
