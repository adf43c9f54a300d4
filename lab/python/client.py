"""A client of the container runtime interface that is not this project's: grpcio, with stubs that
grpcio-tools makes of the project's .proto files and of more.proto.

  client.py SOCKET call METHOD [JSON] [--timeout SECONDS]   one call; the answer as JSON
  client.py SOCKET stream METHOD [JSON] [INPUT]             Exec or Attach, and what comes from its URL
  client.py SOCKET lines                                    calls as lines of JSON, answers as well
  client.py SOCKET measure METHOD COUNT                     times of calls one after the other, in us

METHOD is a name such as RunPodSandbox, JSON is the request as protobuf has it in JSON:

  client.py /run/containerd/containerd.sock call ListContainers '{"filter": {"podSandboxId": "ID"}}'

`call` ends with status 1 after a refusal, which it prints as {"code": "NOT_FOUND", "text": ...}.

A line for `lines` has {"id": ..., "method": ..., "request": {...}, "timeout": SECONDS}. "count": N
is for a method with many answers, and ends after N of them. "later": true lets other calls come
meanwhile. {"id": ..., "cancel": ID} cancels such a call. "metadata": [[KEY, VALUE], ...] goes with
the call. Answers have the id, the code, the text, the answer or answers, their bytes in base64, and
the metadata and trailers that came.
"""

import argparse
import base64
import hashlib
import json
import os
import socket
import struct
import sys
import threading
import time
import urllib.parse

import grpc

HERE = os.path.dirname(os.path.abspath(__file__))
PROTO = os.path.join(HERE, "..", "..", "cri", "proto")
FILES = ["config.proto", "images.proto", "more.proto", "runtime.proto"]


def stubs():
    """Makes Python of the .proto files, once for each version of them, and imports it."""
    paths = [os.path.join(HERE if name == "more.proto" else PROTO, name) for name in FILES]
    digest = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            digest.update(file.read())
    folder = os.path.join(sys.prefix, "stubs", digest.hexdigest()[:16])
    if not os.path.isdir(folder):
        import grpc_tools
        from grpc_tools import protoc

        new = f"{folder}.{os.getpid()}.{time.monotonic_ns()}"
        os.makedirs(new)
        own = os.path.join(os.path.dirname(grpc_tools.__file__), "_proto")
        words = ["protoc", f"-I{PROTO}", f"-I{HERE}", f"-I{own}"]
        words += [f"--python_out={new}", f"--grpc_python_out={new}"] + FILES
        if protoc.main(words) != 0:
            sys.exit("client.py: protoc has failed")
        try:
            os.rename(new, folder)
        except OSError:
            pass  # Another process was first.
    sys.path.insert(0, folder)


stubs()

import images_pb2
import more_pb2
import runtime_pb2
from google.protobuf import json_format, message_factory

SERVICES = {
    "runtime.v1.RuntimeService": [
        runtime_pb2.DESCRIPTOR.services_by_name["RuntimeService"],
        more_pb2.DESCRIPTOR.services_by_name["MoreRuntimeService"],
    ],
    "runtime.v1.ImageService": [
        images_pb2.DESCRIPTOR.services_by_name["ImageService"],
        more_pb2.DESCRIPTOR.services_by_name["MoreImageService"],
    ],
}


class Method:
    """A method of a channel. Answers come as bytes."""

    def __init__(self, channel, name):
        if name.startswith("/"):
            # A method of nobody: its messages are bytes, which are given in base64.
            self.request = self.answer = None
            self.has_many = name.endswith("/Many")
            path = name
        else:
            service, method = find(name)
            self.request = message_factory.GetMessageClass(method.input_type)
            self.answer = message_factory.GetMessageClass(method.output_type)
            self.has_many = method.server_streaming
            path = f"/{service}/{name}"
        kind = channel.unary_stream if self.has_many else channel.unary_unary
        self.call = kind(path, request_serializer=self.bytes, response_deserializer=lambda b: b)

    def bytes(self, request):
        if self.request is None:
            return base64.b64decode(request or "")
        return json_format.ParseDict(request or {}, self.request()).SerializeToString()

    def read(self, data):
        if self.answer is None:
            return None
        return json_format.MessageToDict(self.answer.FromString(data))


def find(name):
    for service, parts in SERVICES.items():
        for part in parts:
            if name in part.methods_by_name:
                return service, part.methods_by_name[name]
    sys.exit(f"client.py: unknown method {name}")


def text(value):
    return value.decode("latin-1") if isinstance(value, bytes) else value


def pairs(metadata):
    return [[key, text(value)] for key, value in metadata or ()]


class Client:
    def __init__(self, path):
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        # An engine that was away is tried again soon.
        options += [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 200)]
        options += [("grpc.max_metadata_size", 1 << 20), ("grpc.absolute_max_metadata_size", 1 << 20)]
        self.channel = grpc.insecure_channel(f"unix://{path}", options=options)
        self.methods = {}
        self.running = {}

    def method(self, name):
        if name not in self.methods:
            self.methods[name] = Method(self.channel, name)
        return self.methods[name]

    def run(self, line):
        method = self.method(line["method"])
        metadata = [tuple(pair) for pair in line.get("metadata", [])]
        found = {"id": line.get("id"), "code": "OK", "text": ""}
        call, answers = None, []
        try:
            if method.has_many:
                call = method.call(line.get("request"), timeout=line.get("timeout"), metadata=metadata)
                self.running[line.get("id")] = call
                for data in call:
                    answers.append(data)
                    if len(answers) == line.get("count"):
                        call.cancel()
                        break
            else:
                future = method.call.future(
                    line.get("request"), timeout=line.get("timeout"), metadata=metadata
                )
                self.running[line.get("id")] = call = future
                answers.append(future.result())
        except grpc.FutureCancelledError:
            found["code"] = "CANCELLED"
        except grpc.RpcError as error:
            found["code"], found["text"] = error.code().name, error.details()
        if found["code"] != "CANCELLED" and not (method.has_many and line.get("count") == len(answers)):
            found["metadata"] = pairs(call.initial_metadata())
            found["trailers"] = pairs(call.trailing_metadata())
        read = [method.read(data) for data in answers]
        found["bytes"] = [base64.b64encode(data).decode() for data in answers]
        if method.has_many:
            found["answers"] = read
        elif read:
            found["answer"] = read[0]
        return found


def lines(client):
    lock = threading.Lock()

    def say(found):
        with lock:
            print(json.dumps(found), flush=True)

    for line in sys.stdin:
        line = json.loads(line)
        if "cancel" in line:
            # The call's own thread may not have begun.
            while line["cancel"] not in client.running:
                time.sleep(0.005)
            client.running[line["cancel"]].cancel()
            say({"id": line.get("id")})
        elif line.get("later"):
            threading.Thread(target=lambda line=line: say(client.run(line)), daemon=True).start()
        else:
            say(client.run(line))


def stream(url, given):
    """Speaks the WebSocket protocol `v4.channel.k8s.io` with a URL. Returns what came."""
    url = urllib.parse.urlsplit(url)
    peer = socket.create_connection((url.hostname, url.port), timeout=20)
    key = base64.b64encode(os.urandom(16)).decode()
    path = url.path + (f"?{url.query}" if url.query else "")
    peer.sendall(
        f"GET {path} HTTP/1.1\r\nHost: {url.netloc}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
        f"Sec-WebSocket-Protocol: v4.channel.k8s.io\r\n\r\n".encode()
    )
    reader = peer.makefile("rb")
    status = reader.readline().decode().strip()
    while reader.readline() not in (b"\r\n", b""):
        pass
    found = {"status": status, "stdout": "", "stderr": "", "error": ""}
    if " 101 " not in status + " ":
        return found
    if given is not None:
        data = b"\0" + given.encode()
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(data))
        peer.sendall(bytes([0x82, 0x80 | len(data)]) + mask + masked)
    while True:
        head = reader.read(2)
        if len(head) < 2:
            return found
        length = head[1] & 0x7F
        if length == 126:
            length = struct.unpack("!H", reader.read(2))[0]
        elif length == 127:
            length = struct.unpack("!Q", reader.read(8))[0]
        data = reader.read(length)
        kind = head[0] & 0x0F
        if kind == 8:
            return found
        if kind in (1, 2) and data:
            name = {1: "stdout", 2: "stderr", 3: "error"}.get(data[0])
            if name:
                found[name] += data[1:].decode()
            # The last word of a command, and what a caller waits for of a program that goes on.
            if name == "error" or (given is not None and given in found["stdout"]):
                return found


def measure(client, name, count):
    call = client.method(name).call
    times = []
    for number in range(count + 50):
        begun = time.perf_counter_ns()
        call({})
        if number >= 50:
            times.append(time.perf_counter_ns() - begun)
    times.sort()
    at = lambda part: round(times[min(len(times) - 1, int(len(times) * part))] / 1000, 1)
    return {"median": at(0.5), "p99": at(0.99), "least": at(0)}


def main():
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    words.add_argument("socket")
    words.add_argument("word", choices=["call", "stream", "lines", "measure"])
    words.add_argument("method", nargs="?")
    words.add_argument("rest", nargs="*")
    words.add_argument("--timeout", type=float)
    words = words.parse_args()
    client = Client(words.socket)
    if words.word == "lines":
        lines(client)
        return
    if words.word == "measure":
        print(json.dumps(measure(client, words.method, int(words.rest[0]))))
        return
    request = json.loads(words.rest[0]) if words.rest else {}
    found = client.run({"method": words.method, "request": request, "timeout": words.timeout})
    if found["code"] != "OK":
        print(json.dumps(found))
        sys.exit(1)
    if words.word == "stream":
        given = words.rest[1] if len(words.rest) > 1 else None
        print(json.dumps(stream(found["answer"]["url"], given)))
    else:
        print(json.dumps(found.get("answer", found.get("answers"))))


main()
