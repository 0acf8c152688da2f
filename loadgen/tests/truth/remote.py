"""A server in a network namespace and a time namespace of its own, behind an asymmetric path.

usage: remote.py AHEAD_S FORWARD_MS BACK_MS COMMAND…

Runs `$LOADGEN __serve` with a monotonic clock that is AHEAD_S seconds ahead (behind, if negative),
and COMMAND here. Two tun(4) devices, one in each namespace, are the ends of the path between them;
a packet takes FORWARD_MS to the server and BACK_MS from it. Ends as COMMAND does.
"""

import fcntl
import heapq
import os
import select
import struct
import subprocess
import sys
import threading
import time

CLIENT, SERVER, PORT = "10.9.8.1", "10.9.8.2", 7700
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000


def tun(name):
    device = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TUN | IFF_NO_PI))
    return device


def run(command):
    subprocess.run(command.split(), check=True)


def address(name, mine, theirs, inside=""):
    run(f"{inside} ip addr add {mine}/32 dev {name}")
    run(f"{inside} ip link set {name} up")
    run(f"{inside} ip route add {theirs} dev {name}")


def forward(near, far, delay_of):
    waiting, count = [], 0
    while True:
        left = max(0, waiting[0][0] - time.monotonic()) if waiting else None
        for device in select.select([near, far], [], [], left)[0]:
            packet, to, count = os.read(device, 65536), near + far - device, count + 1
            heapq.heappush(waiting, (time.monotonic() + delay_of[device], count, packet, to))
        while waiting and waiting[0][0] <= time.monotonic():
            _, _, packet, to = heapq.heappop(waiting)
            os.write(to, packet)


def elsewhere():
    """A process in a network namespace of its own."""
    holder = subprocess.Popen(["unshare", "--net", "sleep", "60"])
    here = os.readlink("/proc/self/ns/net")
    while os.readlink(f"/proc/{holder.pid}/ns/net") == here:
        time.sleep(0.01)
    return holder


def serve(inside, ahead):
    clock = ["unshare", "--time", f"--monotonic={ahead}", "--fork", "--kill-child"]
    serving = [os.environ["LOADGEN"], "__serve", "--listen", f"{SERVER}:{PORT}", "--stamp"]
    serving += ["--workers", "1"]
    server = subprocess.Popen(inside.split() + clock + serving, stderr=subprocess.PIPE, text=True)
    for line in server.stderr:
        if "listening" in line:
            threading.Thread(target=server.stderr.read, daemon=True).start()
            return server
    sys.exit("the server does not listen")


def main():
    ahead, forward_ms, back_ms, *command = sys.argv[1:]
    holder = elsewhere()
    inside = f"nsenter --target {holder.pid} --net"
    near, far = tun("near"), tun("far")
    run(f"ip link set far netns {holder.pid}")
    address("near", CLIENT, SERVER)
    address("far", SERVER, CLIENT, inside)
    delay_of = {near: int(forward_ms) / 1000, far: int(back_ms) / 1000}
    threading.Thread(target=forward, args=(near, far, delay_of), daemon=True).start()
    server = serve(inside, ahead)
    status = subprocess.run(command).returncode
    server.kill()
    holder.kill()
    sys.exit(status)


main()
