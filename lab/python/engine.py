"""An engine that is not this project's: grpcio's server, with methods that show what a proxy does.

  engine.py SOCKET

  /test.Engine/Echo      answers with the request, the client's metadata as trailers
  /test.Engine/Large     answers with as many bytes as the request's text says
  /test.Engine/Many      answers with 4 KiB a message, as many as the request's text says
  /test.Engine/Sleep     answers after as many seconds as the request's text says
  /test.Engine/Refuse    refuses with a text and details
  /test.Engine/Seen      tells how many calls of Sleep and Many have begun, and how some have ended:
                         Sleep "cancelled" or "done", Many after how many messages
  /runtime.v1.RuntimeService/Version
"""

import concurrent.futures
import json
import sys
import threading

import grpc

begun = []
seen = []


def echo(request, context):
    context.send_initial_metadata([("initial", "first")])
    sent = [(key, value) for key, value in context.invocation_metadata() if key.startswith("x-")]
    left = context.time_remaining()
    context.set_trailing_metadata(sent + [("remaining", "none" if left is None else str(round(left)))])
    return request


def large(request, context):
    return b"x" * int(request)


def many(request, context):
    begun.append("Many")
    sent = [0]
    context.add_callback(lambda: seen.append(["Many", sent[0]]))
    for number in range(int(request)):
        yield number.to_bytes(4, "big") * 1024
        sent[0] += 1


def sleep(request, context):
    begun.append("Sleep")
    gone = threading.Event()
    context.add_callback(gone.set)
    is_gone = gone.wait(float(request))
    seen.append(["Sleep", "cancelled" if is_gone else "done"])
    return request


def refuse(request, context):
    context.set_trailing_metadata(
        [("grpc-status-details-bin", b"\x08\x05\x12\x00\xff" + request), ("x-more", "a"), ("x-more", "b")]
    )
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not so: \u00e4 100 %\nsecond line")


def told(request, context):
    return json.dumps({"begun": len(begun), "ended": seen}).encode()


UNARY = {
    "/test.Engine/Echo": echo,
    "/test.Engine/Large": large,
    "/test.Engine/Refuse": refuse,
    "/test.Engine/Seen": told,
    "/test.Engine/Sleep": sleep,
    "/runtime.v1.RuntimeService/Version": lambda request, context: b"\x0a\x05" + b"0.1.0",
}


class Handler(grpc.GenericRpcHandler):
    def service(self, details):
        if details.method == "/test.Engine/Many":
            return grpc.unary_stream_rpc_method_handler(many)
        handler = UNARY.get(details.method)
        return handler and grpc.unary_unary_rpc_method_handler(handler)


options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
options += [("grpc.max_metadata_size", 1 << 20), ("grpc.absolute_max_metadata_size", 1 << 20)]
server = grpc.server(concurrent.futures.ThreadPoolExecutor(600), options=options)
server.add_generic_rpc_handlers((Handler(),))
server.add_insecure_port(f"unix://{sys.argv[1]}")
server.start()
print("ready", flush=True)
server.wait_for_termination()
