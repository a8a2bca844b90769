"""A running instance's network: a namespace of its own with a TAP, and what AWS has at its other end.

In the namespace the kernel is the subnet's router. Beside it answer a DHCP server, which gives the private
address and nothing else; a DNS server, which knows the instance's own name; the metadata service; and, at
169.254.169.250:80, this stand-in itself, when the security groups let the instance out. Nothing is routed
any further, so nothing leaves the machine. From outside, `Forwards` takes connections at the instance's
public address (127.x.y.z) on the ports that its security groups open.

Threads: `Namespace` runs a thread that lives in the namespace; what it starts or opens is in there, too.
QEMU asks to be killed when its parent thread ends, so it dies with the rig, however that ends.
"""

import concurrent.futures
import contextlib
import ctypes
import ipaddress
import queue
import socket
import struct
import subprocess
import threading

CLONE_NEWNET = 0x40000000
METADATA, RESOLVER, ENDPOINT = "169.254.169.254", "169.254.169.253", "169.254.169.250"
DHCP_MAGIC = b"\x63\x82\x53\x63"
LEASE_S = 3600
CONNECT_LIMIT_S = 5
# Of a rule that opens more ports than this, only the usual ones are listened on.
PORTS_EACH_MAX = 64
USUAL_PORTS = (22, 80, 443, 3306, 3389, 5432, 8000, 8080, 8443)


class Namespace:
    def __init__(self, addresses):
        """addresses: what the TAP has, as "address/bits", the router's first."""
        self.tasks = queue.Queue()
        self.sockets = []  # what serves in it
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()
        self.call(self.set_up, addresses)

    def run(self):
        while task := self.tasks.get():
            future, function, arguments = task
            try:
                future.set_result(function(*arguments))
            except Exception as error:  # the caller gets it
                future.set_exception(error)

    def call(self, function, *arguments):
        """Runs it in the namespace and gives its result."""
        future = concurrent.futures.Future()
        self.tasks.put((future, function, arguments))
        return future.result()

    @staticmethod
    def set_up(addresses):
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(CLONE_NEWNET) != 0:
            raise PermissionError(ctypes.get_errno(), "a network namespace needs root")
        commands = [["link", "set", "lo", "up"], ["tuntap", "add", "dev", "tap0", "mode", "tap"],
                    *(["address", "add", address, "dev", "tap0"] for address in addresses),
                    ["link", "set", "tap0", "up"]]
        for command in commands:
            subprocess.run(["ip", *command], check=True)

    def listen(self, address, port):
        def make():
            listener = socket.socket()
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((address, port))
            listener.listen(64)
            self.sockets.append(listener)
            return listener
        return self.call(make)

    def datagrams(self, address, port, device=None):
        def make():
            server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if device:
                server.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
                server.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
            server.bind((address, port))
            self.sockets.append(server)
            return server
        return self.call(make)

    def connect(self, address, port):
        peer = self.call(socket.socket)
        peer.settimeout(CONNECT_LIMIT_S)
        try:
            peer.connect((address, port))
        except OSError:
            peer.close()
            raise
        peer.settimeout(None)
        return peer

    def close(self):
        """Ends the thread, and so what was started in it, and the namespace."""
        for served in self.sockets:
            close_socket(served)
        self.tasks.put(None)
        self.thread.join()


def serve_datagrams(server, answer):
    """Answers each datagram with answer(data) = (reply, address or None for the sender)."""
    def run():
        while True:
            try:
                data, sender = server.recvfrom(4096)
            except OSError:
                return
            with contextlib.suppress(OSError, ValueError, IndexError, struct.error):
                reply = answer(data)
                if reply:
                    server.sendto(reply[0], reply[1] or sender)
    threading.Thread(target=run, daemon=True).start()


class Dhcp:
    """Gives one address to whoever asks, as EC2's DHCP does."""

    def __init__(self, address, subnet, router, resolver, name):
        self.address, self.router, self.resolver, self.name = address, router, resolver, name
        self.mask = subnet.netmask.packed

    def __call__(self, data):
        if len(data) < 240 or data[0] != 1 or data[236:240] != DHCP_MAGIC:
            return None
        kind = self.options(data[240:]).get(53, b"\0")[0]
        wanted = self.options(data[240:]).get(50, data[12:16])
        answer = {1: 2, 3: 5, 8: 5}.get(kind)  # discover: offer; request, inform: acknowledge
        address = ipaddress.ip_address(self.address).packed
        if kind == 3 and wanted not in (address, bytes(4)):
            answer = 6  # an address it had elsewhere
        if not answer:
            return None
        router = ipaddress.ip_address(self.router).packed
        head = bytearray(data[:236])
        head[0], head[8:12] = 2, bytes(4)
        head[16:20], head[20:24] = (address if answer != 6 else bytes(4)), router
        options = [(53, bytes([answer])), (54, router)]
        if answer != 6:
            options += [(51, struct.pack(">I", LEASE_S)), (1, self.mask), (3, router),
                        (6, ipaddress.ip_address(self.resolver).packed), (12, self.name.split(".")[0].encode()),
                        (15, self.name.partition(".")[2].encode())]
        body = b"".join(bytes([code, len(value)]) + value for code, value in options) + b"\xff"
        renewing = data[12:16] == address
        return bytes(head) + DHCP_MAGIC + body.ljust(64, b"\0"), (self.address if renewing else "255.255.255.255", 68)

    @staticmethod
    def options(data):
        found, at = {}, 0
        while at < len(data) and data[at] != 255:
            if data[at] == 0:
                at += 1
                continue
            found[data[at]] = data[at + 2:at + 2 + data[at + 1]]
            at += 2 + data[at + 1]
        return found


class Dns:
    """Knows the instance's own name; everything else does not exist, which is said at once."""

    def __init__(self, names):
        self.names = {name.lower(): address for name, address in names.items()}

    def __call__(self, data):
        labels, at = [], 12
        while data[at]:
            labels.append(data[at + 1:at + 1 + data[at]].decode("latin1"))
            at += 1 + data[at]
        question, kind = data[12:at + 5], struct.unpack(">H", data[at + 1:at + 3])[0]
        address = self.names.get(".".join(labels).lower())
        flags, answer = (0x8180, b"") if address else (0x8183, b"")
        if address and kind == 1:
            answer = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 60, 4) + ipaddress.ip_address(address).packed
        head = data[:2] + struct.pack(">HHHHH", flags, 1, 1 if answer else 0, 0, 0)
        return head + question + answer, None


def pump(source, target):
    """Copies until the source ends, and passes the end on."""
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def join(one, other):
    """Copies both ways until both have ended."""
    back = threading.Thread(target=pump, args=(other, one), daemon=True)
    back.start()
    pump(one, other)
    back.join()
    one.close()
    other.close()


def reset(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.close()


def relay(listener, connect):
    """Joins each connection with what connect() gives; resets it when that fails."""
    def one(connection):
        try:
            peer = connect()
        except OSError:
            reset(connection)
            return
        join(connection, peer)

    def run():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=one, args=(connection,), daemon=True).start()
    threading.Thread(target=run, daemon=True).start()


def close_socket(served):
    with contextlib.suppress(OSError):
        served.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits in it, even where it is an error
    served.close()


class Forwards:
    """What is listened on at an instance's public address."""

    def __init__(self, namespace, private_ip):
        self.namespace, self.private_ip = namespace, private_ip
        self.listeners = {}  # (address, port) -> listener

    def set(self, public_ip, ports):
        """Opens and closes ports until exactly these are open."""
        wanted = {(public_ip, port) for port in ports} if public_ip else set()
        for key in set(self.listeners) - wanted:
            close_socket(self.listeners.pop(key))
        for key in sorted(wanted - set(self.listeners)):
            self.open(key)

    def open(self, key):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(key)
        except OSError as error:
            listener.close()
            print(f"cannot listen on {key}: {error}", flush=True)
            return
        listener.listen(64)
        relay(listener, lambda: self.namespace.connect(self.private_ip, key[1]))
        self.listeners[key] = listener

    def cable(self, port):
        """A way to a port past security groups, for tests: its address on loopback."""
        listener = socket.create_server(("127.0.0.1", 0))
        relay(listener, lambda: self.namespace.connect(self.private_ip, port))
        self.listeners[listener.getsockname()] = listener
        return {"address": "127.0.0.1", "port": listener.getsockname()[1]}

    def close(self):
        for listener in self.listeners.values():
            close_socket(listener)
        self.listeners.clear()


def open_ports(rules, operator):
    """The TCP ports that ingress rules open to the operator's address."""
    ports = set()
    for rule in rules:
        cidr = rule.ip_range.get("CidrIp")
        if rule.ip_protocol not in ("tcp", "-1") or not cidr:
            continue
        if ipaddress.ip_address(operator) not in ipaddress.ip_network(cidr, strict=False):
            continue
        low, high = (0, 65535) if rule.ip_protocol == "-1" else (int(rule.from_port), int(rule.to_port))
        few = high - low < PORTS_EACH_MAX
        ports |= set(range(low, high + 1)) if few else {port for port in USUAL_PORTS if low <= port <= high}
    return ports
