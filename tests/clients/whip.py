"""Publishers and players over HTTP that are not browsers: FFmpeg's WHIP muxer (in PyAV) and aiortc.

One JSON request per line in, one JSON answer per line out, as `sdk.py` has it. At the end of input the process ends.
"""

import asyncio
import datetime
import fractions
import json
import os
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request

import av
import numpy as np
from aiortc import RTCPeerConnection, RTCSessionDescription, VideoStreamTrack
from aiortc.mediastreams import AudioStreamTrack, MediaStreamError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

SAMPLE_RATE = 48_000
FRAME = SAMPLE_RATE // 50  # 20 ms


def picture(options, at: int) -> av.VideoFrame:
    """One even colour, with a mark that moves, so that the stream is not frozen by any measure."""
    width, height = options["width"], options["height"]
    image = np.empty((height, width, 3), np.uint8)
    image[:] = options["rgb"]
    left = at * 4 % (width - 8)
    image[-8:, left : left + 8] = 255
    return av.VideoFrame.from_ndarray(image, format="rgb24")


def sound(hertz: float, at: int) -> av.AudioFrame:
    """20 ms of a sine, the same in both ears."""
    times = (np.arange(FRAME) + at * FRAME) / SAMPLE_RATE
    samples = (np.sin(2 * np.pi * hertz * times) * 12_000).astype(np.int16)
    frame = av.AudioFrame.from_ndarray(np.repeat(samples, 2).reshape(1, -1), format="s16", layout="stereo")
    frame.sample_rate = SAMPLE_RATE
    frame.pts, frame.time_base = at * FRAME, fractions.Fraction(1, SAMPLE_RATE)
    return frame


def credentials():
    """A certificate and its key, files. GnuTLS, which this build of FFmpeg has, makes itself one whose signatures our DTLS
    cannot check."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "ffmpeg")])
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=1))
    certificate = builder.not_valid_after(now + datetime.timedelta(days=1)).sign(key, hashes.SHA256())
    folder = tempfile.mkdtemp()
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    files = []
    for file, content in (("cert.pem", certificate.public_bytes(pem)), ("key.pem", private)):
        files.append(os.path.join(folder, file))
        with open(files[-1], "wb") as out:
            out.write(content)
    return files


class Ffmpeg:
    """Encodes and sends in real time, on a thread of its own, until told to stop."""

    def __init__(self, url: str, token: str, options):
        self.options, self.error, self.sent = options, None, 0
        self.stopping = threading.Event()
        certificate, key = credentials()
        given = {"authorization": token, "cert_file": certificate, "key_file": key}
        self.container = av.open(url, "w", format="whip", options=given)
        fps = options["fps"]
        # Constrained baseline, no B-frames, and keyframes often: the muxer does not pass on requests for them.
        video = {"profile": "baseline", "preset": "ultrafast", "tune": "zerolatency"}
        self.video = self.container.add_stream("libx264", rate=fps, options=video)
        self.video.width, self.video.height = options["width"], options["height"]
        self.video.pix_fmt, self.video.bit_rate, self.video.gop_size = "yuv420p", 500_000, fps
        self.audio = self.container.add_stream("libopus", rate=SAMPLE_RATE, layout="stereo")
        # Sends the offer, and returns once DTLS is up.
        self.container.start_encoding()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        began, pictures, sounds, fps = time.monotonic(), 0, 0, self.options["fps"]
        try:
            while not self.stopping.is_set():
                now = time.monotonic() - began
                while pictures <= now * fps and not self.stopping.is_set():
                    frame = picture(self.options, pictures)
                    frame.pts, frame.time_base = pictures, fractions.Fraction(1, fps)
                    self.container.mux(self.video.encode(frame))
                    pictures += 1
                while sounds * FRAME <= now * SAMPLE_RATE and not self.stopping.is_set():
                    self.container.mux(self.audio.encode(sound(self.options["hertz"], sounds)))
                    sounds += 1
                self.sent = pictures
                time.sleep(0.005)
        except Exception as error:  # noqa: BLE001 — told to the test
            self.error = str(error)

    async def stop(self):
        self.stopping.set()
        await asyncio.to_thread(self.thread.join)
        # Sends the DELETE.
        await asyncio.to_thread(self.container.close)
        if self.error:
            raise RuntimeError(self.error)


class Painted(VideoStreamTrack):
    def __init__(self, options):
        super().__init__()
        self.options, self.at = options, 0

    async def recv(self):
        pts, time_base = await self.next_timestamp()
        frame = picture(self.options, self.at)
        frame.pts, frame.time_base = pts, time_base
        self.at += 1
        return frame


class Tone(AudioStreamTrack):
    def __init__(self, hertz: float):
        super().__init__()
        self.hertz, self.at, self.began = hertz, 0, None

    async def recv(self):
        self.began = self.began or time.monotonic()
        await asyncio.sleep(max(0.0, self.began + self.at * 0.02 - time.monotonic()))
        frame = sound(self.hertz, self.at)
        self.at += 1
        return frame


class Seen:
    """The frames of one track, as the tests of participants have them."""

    def __init__(self, track):
        self.kind, self.frames, self.width, self.mean, self.hertz, self.rms = track.kind, 0, 0, None, 0.0, 0.0
        self.samples = np.zeros(0, np.float32)
        self.task = asyncio.create_task(self.read(track))

    async def read(self, track):
        try:
            while True:
                frame = await track.recv()
                self.frames += 1
                if self.kind == "video":
                    self.width = frame.width
                    if self.frames % 5 == 0:
                        self.mean = frame.to_ndarray(format="rgb24")[:-16:8, ::8].mean(axis=(0, 1)).tolist()
                else:
                    heard = frame.to_ndarray().astype(np.float32).reshape(-1)[:: len(frame.layout.channels)] / 32768
                    self.samples = np.concatenate([self.samples, heard])[-16384:]
        except MediaStreamError:
            pass

    def seen(self):
        if len(self.samples):
            self.rms = float(np.sqrt(np.mean(self.samples**2)))
            spectrum = np.abs(np.fft.rfft(self.samples * np.hanning(len(self.samples))))
            self.hertz = float(np.argmax(spectrum) * SAMPLE_RATE / len(self.samples))
        return {"frames": self.frames, "width": self.width, "mean": self.mean, "hertz": self.hertz, "rms": self.rms}


def ask(method: str, url: str, token: str, body=None, kind=None):
    request = urllib.request.Request(url, data=body, method=method)
    request.add_header("Authorization", f"Bearer {token}")
    if kind:
        request.add_header("Content-Type", kind)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return dict(answer.headers), answer.read().decode()


class Aiortc:
    def __init__(self):
        self.connection, self.seen, self.session = RTCPeerConnection(), [], None

    async def negotiate(self, url: str, token: str):
        self.token = token
        self.connection.on("track", lambda track: self.seen.append(Seen(track)))
        up = asyncio.Event()
        self.connection.on(
            "connectionstatechange",
            lambda: up.set() if self.connection.connectionState in ("connected", "failed") else None,
        )
        # With all candidates in it: this library has no trickle.
        await self.connection.setLocalDescription(await self.connection.createOffer())
        offer = self.connection.localDescription.sdp.encode()
        headers, answer = await asyncio.to_thread(ask, "POST", url, token, offer, "application/sdp")
        self.session = urllib.parse.urljoin(url, headers["location"])
        await self.connection.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        await asyncio.wait_for(up.wait(), 10)
        if self.connection.connectionState != "connected":
            raise RuntimeError("the connection failed")

    async def publish(self, url: str, token: str, options):
        self.connection.addTrack(Painted(options))
        self.connection.addTrack(Tone(options["hertz"]))
        await self.negotiate(url, token)

    async def watch(self, url: str, token: str):
        self.connection.addTransceiver("audio", direction="recvonly")
        self.connection.addTransceiver("video", direction="recvonly")
        await self.negotiate(url, token)

    async def stop(self):
        await asyncio.to_thread(ask, "DELETE", self.session, self.token)
        await self.connection.close()


class Client:
    def __init__(self, name: str):
        self.name, self.what = name, None

    async def ffmpegPublish(self, url, token, options):
        self.what = await asyncio.to_thread(Ffmpeg, url, token, options)

    async def aiortcPublish(self, url, token, options):
        self.what = Aiortc()
        await self.what.publish(url, token, options)

    async def aiortcWatch(self, url, token):
        self.what = Aiortc()
        await self.what.watch(url, token)

    async def received(self):
        return [{"from": self.name, "kind": seen.kind, "seen": seen.seen()} for seen in self.what.seen]

    async def stop(self):
        await self.what.stop()
        self.what = None


async def main():
    clients, loop = {}, asyncio.get_running_loop()

    async def answer(request):
        name = request["name"]
        try:
            if request["op"] == "open":
                clients[name] = Client(name)
                done = {"ok": None}
            else:
                done = {"ok": await getattr(clients[name], request["fn"])(*request["args"])}
        except Exception as error:  # noqa: BLE001 — told to the test
            done = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps({"id": request["id"], **done}), flush=True)

    print(json.dumps({"ready": av.__version__}), flush=True)
    tasks = set()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        task = asyncio.create_task(answer(json.loads(line)))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


asyncio.run(main())
