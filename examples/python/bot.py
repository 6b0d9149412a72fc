#!/usr/bin/env python3
"""A bot: prints every new vote on a change and every result of a build, as they happen.

    pip install -r requirements.txt
    bot.py ADDRESS --token FILE [--place FILE] [--all]
    bot.py ADDRESS --ca ca.pem --certificate bot.pem --key bot.key [--place FILE] [--all]

ADDRESS is the farm's, as http://127.0.0.1:8790, and the token is that of the farm; or it is that of maintnerd, as
127.0.0.1:8793, which asks for a certificate. With --place the bot keeps its place in the file and goes on there when it
is started again; delivery is at least once, so what it does should bear being done twice. The classes for the messages
are made from `proto/` when it starts, so that there is nothing to keep in step.
"""

import argparse
import os
import re
import shutil
import sys
import tempfile
import time

import grpc
from grpc_tools import protoc

PROTO = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "proto")
VOTE = re.compile(r"^Label: (?P<label>[A-Za-z0-9-]+)=(?P<value>[+-]?\d+)", re.MULTILINE)
# Trying again would change nothing.
REFUSED = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNIMPLEMENTED,
)
PARENT = re.compile(r"^parent (?P<sha1>[0-9a-f]{40})$", re.MULTILINE)
META = re.compile(r"^refs/changes/\d\d/(?P<number>\d+)/meta$")


def load(*files):
    """Compiles the contracts and imports them."""
    out = tempfile.mkdtemp()
    command = ["protoc", f"-I{PROTO}", f"--python_out={out}", f"--grpc_python_out={out}"]
    if protoc.main(command + [f"--proto_path={os.path.dirname(protoc.__file__)}/_proto", *files]) != 0:
        sys.exit("cannot compile the contracts")
    sys.path.insert(0, out)
    from farmer.maintner.v1 import mutation_service_pb2, mutation_service_pb2_grpc

    shutil.rmtree(out)
    return mutation_service_pb2, mutation_service_pb2_grpc


def say(*words):
    print(*words, flush=True)


def handle(mutation, pending):
    """What the bot does. Yours does something else.

    A state of a change is a commit, and the ref that says which change it is of comes after it, often in a mutation of
    its own. Until then the commit is `pending`.
    """
    if mutation.HasField("gerrit"):
        for commit in mutation.gerrit.commits:
            head, _, message = commit.raw.decode("utf-8", "replace").partition("\n\n")
            if "\nPatch-set: " in message:
                pending[commit.sha1] = (PARENT.search(head), message)
        for ref in mutation.gerrit.refs:
            change, state, votes = META.match(ref.ref), ref.sha1, []
            # A ref may move over several states at once, the last of which is named.
            while state in pending:
                parent, message = pending.pop(state)
                state = parent["sha1"] if parent else None
                votes[:0] = VOTE.finditer(message)
            for vote in votes if change else ():
                say(f"vote {mutation.gerrit.project} {change['number']} {vote['label']}={vote['value']}")
    if mutation.HasField("build_result"):
        result = mutation.build_result
        say(f"build {result.build}.{result.attempt} {result.repository} {result.outcome}")


def follow(stub, pb, metadata, arguments):
    """Follows for ever: a lost stream is opened again after the last resume token."""
    place, pending = "", {}
    if arguments.place and os.path.exists(arguments.place):
        with open(arguments.place, encoding="ascii") as file:
            place = file.read()
    wanted = pb.MutationFilter(
        kinds=[pb.MUTATION_KIND_GERRIT_PROJECT, pb.MUTATION_KIND_BUILD_RESULT],
        repositories=arguments.repository,
        projects=arguments.project,
    )
    while True:
        from_now = not place and not arguments.all
        request = pb.WatchMutationsRequest(resume_token=place, from_now=from_now, filter=wanted)
        try:
            for response in stub.WatchMutations(request, metadata=metadata):
                for mutation in response.batch.mutations:
                    handle(mutation, pending)
                # Only after what came with it was handled, and what is pending would be forgotten.
                place = response.resume_token or place
                if arguments.place and not pending:
                    with open(arguments.place + ".new", "w", encoding="ascii") as file:
                        file.write(place)
                    os.replace(arguments.place + ".new", arguments.place)
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.OUT_OF_RANGE:
                say("the log is another one: beginning again")
                place, pending = "", {}
            elif error.code() in REFUSED:
                sys.exit(f"refused: {error.details()}")
            else:
                print(f"{error.code().name}: {error.details()}", file=sys.stderr)
        time.sleep(0.2)


def read(path):
    with open(path, "rb") as file:
        return file.read()


def connect(arguments):
    """A channel, and what goes with each call."""
    address = arguments.address.removeprefix("http://").rstrip("/")
    options = [("grpc.max_receive_message_length", 16 << 20), ("grpc.max_reconnect_backoff_ms", 1000)]
    if arguments.token:
        bearer = f"Bearer {read(arguments.token).decode('ascii').strip()}"
        return grpc.insecure_channel(address, options), [("authorization", bearer)]
    credentials = grpc.ssl_channel_credentials(
        read(arguments.ca), read(arguments.key), read(arguments.certificate)
    )
    return grpc.secure_channel(address, credentials, options), []


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("address")
    parser.add_argument("--token", help="the file with the farm's token")
    certificate = [parser.add_argument(name).dest for name in ("--ca", "--certificate", "--key")]
    parser.add_argument("--place", help="the file in which the bot keeps its place")
    parser.add_argument("--all", action="store_true", help="begin with the first mutation of the log")
    parser.add_argument("--repository", action="append", help="only what belongs to it; may be repeated")
    parser.add_argument("--project", action="append", help="only that of a project at Gerrit, as host/project")
    arguments = parser.parse_args()
    if not arguments.token and not all(getattr(arguments, name) for name in certificate):
        parser.error("give --token, or --ca, --certificate and --key")
    pb, pb_grpc = load(
        "farmer/maintner/v1/mutation_service.proto", "compat/maintpb/maintner.proto"
    )
    channel, metadata = connect(arguments)
    with channel:
        follow(pb_grpc.MutationServiceStub(channel), pb, metadata, arguments)


if __name__ == "__main__":
    main()
