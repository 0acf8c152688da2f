"""A listener behind a path of 25 ms each way, in one network namespace, with its own record.

usage: overflow.py BACKLOG QUEUED HOLD_MS|never COMMAND…

Two tun(4) devices are the ends of the path; rules send what one local address has for the other
through them, so that both ends are in this namespace and its counters and socket table show them.
The first client is let in, as loadgen asks with one connection how a server can be observed; then
QUEUED connections are put into the queue, and the server accepts from HOLD_MS after the next SYN
on, or never. Prints what COMMAND printed, and then a line of JSON with the record.
"""

import fcntl
import heapq
import json
import os
import select
import socket
import struct
import subprocess
import sys
import threading
import time

CLIENT, SERVER, PORT = "10.9.8.1", "10.9.8.2", 7700
ONE_WAY = 0.025
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
SYN, ACK = 0x02, 0x10

syns = {}  # source port of a client: when its first SYN was on the path, monotonic ns


def tun(name, address):
    device = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TUN | IFF_NO_PI))
    run(f"ip addr add {address}/32 dev {name}")
    run(f"sysctl -qw net.ipv4.conf.{name}.rp_filter=0 net.ipv4.conf.{name}.accept_local=1")
    run(f"ip link set {name} up")
    return device


def run(command):
    subprocess.run(command.split(), check=True)


def path():
    run("sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.all.accept_local=1")
    ends = tun("near", CLIENT), tun("far", SERVER)
    run("ip rule add pref 100 lookup local")
    for table, device, to in (101, "near", SERVER), (102, "far", CLIENT):
        run(f"ip route add default dev {device} table {table}")
        run(f"ip rule add pref 10 iif lo to {to} lookup {table}")
    run("ip rule del pref 0")
    threading.Thread(target=forward, args=ends, daemon=True).start()


def forward(near, far):
    waiting = []
    while True:
        left = max(0, waiting[0][0] - time.monotonic()) if waiting else None
        for device in select.select([near, far], [], [], left)[0]:
            packet = os.read(device, 65536)
            note(packet)
            to = far if device == near else near
            heapq.heappush(waiting, (time.monotonic() + ONE_WAY, len(syns), packet, to))
        while waiting and waiting[0][0] <= time.monotonic():
            _, _, packet, to = heapq.heappop(waiting)
            os.write(to, packet)


def note(packet):
    header = 4 * (packet[0] & 15)
    if packet[0] >> 4 == 4 and packet[9] == 6 and packet[header + 13] & (SYN | ACK) == SYN:
        port = struct.unpack_from("!H", packet, header)[0]
        syns.setdefault(port, time.monotonic_ns())


def counters():
    with open("/proc/net/netstat") as table:
        names, values = [line.split()[1:] for line in table if line.startswith("TcpExt")]
    return {name: int(value) for name, value in zip(names, values)}


def serve(listener, queued, hold_ms, record):
    probe, _ = listener.accept()
    clients = [socket.socket() for _ in range(queued)]
    for client in clients:
        client.setblocking(False)
        client.connect_ex((SERVER, PORT))
    if clients:
        time.sleep(4 * ONE_WAY)
    record["before"], known = counters(), set(syns)
    probe.close()
    while set(syns) == known:
        time.sleep(0.001)
    if hold_ms == "never":
        return
    time.sleep(int(hold_ms) / 1000)
    held = clients
    while True:
        connection, (_, port) = listener.accept()
        now = time.monotonic_ns()
        held.append(connection)
        if port not in known:
            record["waited_ns"].append(now - syns[port])


def main():
    backlog, queued, hold_ms, *command = sys.argv[1:]
    path()
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((SERVER, PORT))
    listener.listen(int(backlog))
    record = {"waited_ns": []}
    serving = (listener, int(queued), hold_ms, record)
    threading.Thread(target=serve, args=serving, daemon=True).start()
    status = subprocess.run(command).returncode
    after = counters()
    record["counted"] = {name: after[name] - count for name, count in record["before"].items()}
    del record["before"]
    sys.stdout.flush()
    print("\n" + json.dumps(record))
    sys.exit(status)


main()
