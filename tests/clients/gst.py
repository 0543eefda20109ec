"""A publisher and a player over HTTP on GStreamer's webrtcbin: the pipelines, and the few requests around them.

One JSON request per line in, one JSON answer per line out, as `sdk.py` has it. Runs with the system's Python, which has
the bindings. At the end of input the process ends.
"""

import json
import sys
import threading
import urllib.parse
import urllib.request

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstSdp", "1.0")
gi.require_version("GstWebRTC", "1.0")
from gi.repository import GLib, Gst, GstSdp, GstWebRTC  # noqa: E402

RATE = 48_000
PUBLISHER = """
webrtcbin name=rtc bundle-policy=max-bundle
videotestsrc is-live=true pattern=solid-color foreground-color={colour}
  ! video/x-raw,width={width},height={height},framerate={fps}/1
  ! vp8enc deadline=1 keyframe-max-dist={fps} target-bitrate=500000 ! rtpvp8pay picture-id-mode=15-bit
  ! application/x-rtp,media=video,encoding-name=VP8,clock-rate=90000,payload=96 ! rtc.
audiotestsrc is-live=true freq={hertz} volume=0.4 ! audio/x-raw,rate=48000,channels=2 ! opusenc ! rtpopuspay
  ! application/x-rtp,media=audio,encoding-name=OPUS,clock-rate=48000,payload=111 ! rtc.
"""
WANTED = {
    "audio": "application/x-rtp,media=audio,encoding-name=OPUS,clock-rate=48000,payload=111",
    "video": "application/x-rtp,media=video,encoding-name=VP8,clock-rate=90000,payload=96",
}


def ask(method, url, token, body=None, kind=None):
    request = urllib.request.Request(url, data=body, method=method)
    request.add_header("Authorization", f"Bearer {token}")
    if kind:
        request.add_header("Content-Type", kind)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return dict(answer.headers), answer.read().decode()


def wait(promise):
    promise.wait()
    return promise.get_reply()


class Client:
    def __init__(self, name):
        self.name, self.seen = name, []

    def negotiate(self, url, token):
        self.token = token
        gathered, up = threading.Event(), threading.Event()
        complete, connected = GstWebRTC.WebRTCICEGatheringState.COMPLETE, GstWebRTC.WebRTCPeerConnectionState.CONNECTED

        def changed(rtc, _):
            if rtc.get_property("ice-gathering-state") == complete:
                gathered.set()
            if rtc.get_property("connection-state") == connected:
                up.set()

        self.rtc.connect("notify::ice-gathering-state", changed)
        self.rtc.connect("notify::connection-state", changed)
        ready = threading.Event()
        self.rtc.connect("on-negotiation-needed", lambda _: ready.set())
        self.pipeline.set_state(Gst.State.PLAYING)
        if not ready.wait(10):
            raise RuntimeError("no negotiation")
        made = Gst.Promise.new()
        self.rtc.emit("create-offer", None, made)
        # The offer is the reply's, which must outlive it.
        reply = wait(made)
        offer = reply.get_value("offer")
        promise = Gst.Promise.new()
        self.rtc.emit("set-local-description", offer, promise)
        wait(promise)
        if not gathered.wait(10):
            raise RuntimeError("no candidates")
        text = self.rtc.get_property("local-description").sdp.as_text()
        headers, answer = ask("POST", url, token, text.encode(), "application/sdp")
        self.session = urllib.parse.urljoin(url, next(v for k, v in headers.items() if k.lower() == "location"))
        _, sdp = GstSdp.SDPMessage.new_from_text(answer)
        description = GstWebRTC.WebRTCSessionDescription.new(GstWebRTC.WebRTCSDPType.ANSWER, sdp)
        promise = Gst.Promise.new()
        self.rtc.emit("set-remote-description", description, promise)
        wait(promise)
        if not up.wait(10):
            raise RuntimeError("the connection did not come up")

    def publish(self, url, token, options):
        red, green, blue = options["rgb"]
        colour = (0xFF << 24) | (red << 16) | (green << 8) | blue
        self.pipeline = Gst.parse_launch(PUBLISHER.format(colour=colour, **options))
        self.rtc = self.pipeline.get_by_name("rtc")
        self.negotiate(url, token)

    def watch(self, url, token):
        self.pipeline, self.rtc = Gst.Pipeline.new(), Gst.ElementFactory.make("webrtcbin")
        self.rtc.set_property("bundle-policy", GstWebRTC.WebRTCBundlePolicy.MAX_BUNDLE)
        self.pipeline.add(self.rtc)
        self.rtc.connect("pad-added", self.added)
        for caps in WANTED.values():
            receives = GstWebRTC.WebRTCRTPTransceiverDirection.RECVONLY
            self.rtc.emit("add-transceiver", receives, Gst.Caps.from_string(caps))
        self.negotiate(url, token)

    def added(self, _, pad):
        if pad.get_direction() != Gst.PadDirection.SRC:
            return
        decoder = Gst.ElementFactory.make("decodebin")
        decoder.connect("pad-added", self.decoded)
        self.pipeline.add(decoder)
        decoder.sync_state_with_parent()
        pad.link(decoder.get_static_pad("sink"))

    def decoded(self, _, pad):
        kind = pad.query_caps(None).get_structure(0).get_name().split("/")[0]
        convert = {
            "video": "videoconvert ! video/x-raw,format=RGB ! appsink name=out emit-signals=true max-buffers=4 drop=true",
            "audio": "audioconvert ! audioresample ! audio/x-raw,format=S16LE,channels=1,rate=48000 "
            "! appsink name=out emit-signals=true",
        }[kind]
        bin = Gst.parse_bin_from_description(convert, True)
        seen = {"kind": kind, "frames": 0, "width": 0, "mean": None, "hertz": 0.0, "rms": 0.0, "samples": []}
        self.seen.append(seen)
        bin.get_by_name("out").connect("new-sample", self.sample, seen)
        self.pipeline.add(bin)
        bin.sync_state_with_parent()
        pad.link(bin.get_static_pad("sink"))

    def sample(self, sink, seen):
        sample = sink.emit("pull-sample")
        data = sample.get_buffer().extract_dup(0, sample.get_buffer().get_size())
        seen["frames"] += 1
        if seen["kind"] == "video":
            seen["width"] = sample.get_caps().get_structure(0).get_value("width")
            # The first row, which has no mark in it.
            parts = [data[part : seen["width"] * 3 : 3] for part in range(3)]
            seen["mean"] = [sum(part) / len(part) for part in parts]
        else:
            samples = memoryview(data).cast("h").tolist()
            seen["samples"] = (seen["samples"] + samples)[-RATE // 2 :]
        return Gst.FlowReturn.OK

    def received(self):
        tracks = []
        for seen in list(self.seen):
            samples = seen["samples"]
            if len(samples) > 1:
                rising = sum(1 for a, b in zip(samples, samples[1:]) if a < 0 <= b)
                seen["hertz"] = rising * RATE / len(samples)
                seen["rms"] = (sum(s * s for s in samples) / len(samples)) ** 0.5 / 32768
            told = {key: seen[key] for key in ("frames", "width", "mean", "hertz", "rms")}
            tracks.append({"from": self.name, "kind": seen["kind"], "seen": told})
        return tracks

    def stop(self):
        ask("DELETE", self.session, self.token)
        self.pipeline.set_state(Gst.State.NULL)


Gst.init(None)
threading.Thread(target=GLib.MainLoop().run, daemon=True).start()
clients = {}
print(json.dumps({"ready": Gst.version_string()}), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    try:
        if request["op"] == "open":
            clients[request["name"]] = Client(request["name"])
            done = {"ok": None}
        else:
            done = {"ok": getattr(clients[request["name"]], request["fn"])(*request["args"])}
    except Exception as error:  # told to the test
        done = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps({"id": request["id"], **done}), flush=True)
