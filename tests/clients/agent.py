"""An agent on the stock `livekit-agents` framework: it says back what it hears, and what it is told.

Run as the framework's own programs are, `agent.py start`, with `LIVEKIT_URL`, `LIVEKIT_API_KEY` and `LIVEKIT_API_SECRET`.
`AGENT_NAME` is the name that it registers, `AGENT_KIND` is `room` or `publisher`.
"""

import asyncio
import os

from livekit import rtc
from livekit.agents import AgentServer, JobContext, JobRequest, WorkerType, cli

KINDS = {"room": WorkerType.ROOM, "publisher": WorkerType.PUBLISHER}

# Two cores that encode video are busy, and a busy worker takes no jobs.
server = AgentServer(load_threshold=float("inf"), num_idle_processes=1, port=0)


async def accept(request: JobRequest):
    await request.accept(identity=f"echo-{request.id}", name="Echo", attributes={"job": request.job.metadata})


async def say_back(track, source):
    async for event in rtc.AudioStream(track, sample_rate=48000, num_channels=1):
        await source.capture_frame(event.frame)


@server.rtc_session(
    agent_name=os.environ.get("AGENT_NAME", ""),
    type=KINDS[os.environ.get("AGENT_KIND", "room")],
    on_request=accept,
)
async def entrypoint(context: JobContext):
    source = rtc.AudioSource(48000, 1)
    tasks = []

    def subscribed(track, _publication, participant):
        if track.kind == rtc.TrackKind.KIND_AUDIO and participant.kind == rtc.ParticipantKind.PARTICIPANT_KIND_STANDARD:
            tasks.append(asyncio.create_task(say_back(track, source)))

    def told(packet):
        if packet.participant is not None:
            answer = context.room.local_participant.publish_data(packet.data, reliable=True, topic="echo")
            tasks.append(asyncio.create_task(answer))

    context.room.on("track_subscribed", subscribed)
    context.room.on("data_received", told)
    await context.connect()
    track = rtc.LocalAudioTrack.create_audio_track("voice", source)
    options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
    await context.room.local_participant.publish_track(track, options)


if __name__ == "__main__":
    cli.run_app(server)
