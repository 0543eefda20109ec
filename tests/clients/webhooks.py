"""A receiver of webhooks by way of Python's `livekit-api`: one JSON request per line in, one JSON answer per line out.

Arguments: API key and secret. `{id, fn: "url"}` gives where it listens; `{id, fn: "events"}` what has come, each as JSON under the
protocol's own field names, and what was refused as `{error}`. Requests whose signature the SDK does not take are answered with 401.
"""

import asyncio
import json
import sys

from aiohttp import web
from google.protobuf.json_format import MessageToDict
from livekit import api


async def main():
    receiver = api.WebhookReceiver(api.TokenVerifier(*sys.argv[1:]))
    events = []

    async def take(request):
        body = (await request.read()).decode()
        try:
            event = receiver.receive(body, request.headers.get("Authorization", ""))
        except Exception as error:  # every failure is the test's to judge
            events.append({"error": f"{type(error).__name__}: {error}"})
            return web.Response(status=401)
        told = MessageToDict(event, preserving_proto_field_name=True)
        events.append({**told, "content_type": request.headers.get("Content-Type", "")})
        return web.Response()

    app = web.Application()
    app.router.add_post("/webhooks", take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]

    lines = asyncio.StreamReader(limit=1 << 20)
    protocol = lambda: asyncio.StreamReaderProtocol(lines)
    await asyncio.get_running_loop().connect_read_pipe(protocol, sys.stdin)
    print(json.dumps({"ready": True}), flush=True)
    while line := await lines.readline():
        request = json.loads(line)
        answer = f"http://127.0.0.1:{port}/webhooks" if request["fn"] == "url" else events
        print(json.dumps({"id": request["id"], "ok": answer}), flush=True)
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(main())
