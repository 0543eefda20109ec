/**
 * Participants on Node's `@livekit/rtc-node`: one JSON request per line in, one JSON answer per line out, as `sdk.py` has it.
 *
 * Everything for people goes to stderr. At the end of input the process ends.
 */
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';

import {
  AudioFrame,
  AudioSource,
  AudioStream,
  DataPacketKind,
  LocalAudioTrack,
  LocalVideoTrack,
  Room,
  RoomEvent,
  RpcError,
  SimulateScenarioKind,
  TrackKind,
  TrackPublishOptions,
  TrackSource,
  VideoBufferType,
  VideoCodec,
  VideoFrame,
  VideoSource,
  VideoStream,
  dispose,
} from '@livekit/rtc-node';

const SAMPLE_RATE = 48000;
const CODECS = { vp8: VideoCodec.VP8, h264: VideoCodec.H264, vp9: VideoCodec.VP9, av1: VideoCodec.AV1 };

/** 32-bit FNV-1a, as in `pattern.ts`. */
function fingerprint(bytes) {
  let hash = 0x811c9dc5;
  for (const byte of bytes) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  return hash;
}

/** The same bytes as `pattern.ts` makes. */
function pattern(length, topic) {
  const bytes = new Uint8Array(length);
  let state = fingerprint(new TextEncoder().encode(topic));
  for (let at = 0; at < length; at += 1) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bytes[at] = state >>> 24;
  }
  return bytes;
}

/** The same letters. */
const words = (length, topic) =>
  [...pattern(length, topic)].map((byte) => 'abcdefghijklmnopqrstuvwxyzé'[byte % 27]).join('');

/** Pictures to repeat, in I420: bands that move, under noise. */
function film(width, height) {
  const half = (width / 2) * (height / 2);
  return Array.from({ length: 16 }, (_, step) => {
    const picture = new Uint8Array(width * height + 2 * half);
    for (let y = 0; y < height; y += 1) {
      const band = Math.floor((y * 8) / height) + step;
      picture.fill(60 + ((band * 53) % 140), y * width, (y + 1) * width);
      if (y % 2) continue;
      const row = (y / 2) * (width / 2);
      picture.fill(90 + ((band * 29) % 70), width * height + row, width * height + row + width / 2);
      picture.fill(90 + ((band * 41) % 70), width * height + half + row, width * height + half + row + width / 2);
    }
    for (let at = 0; at < width * height; at += 1) picture[at] += (Math.random() * 12) | 0;
    return picture;
  });
}

/** The pictures of one remote track. Times in milliseconds. */
class VideoSeen {
  sizes = [];
  width = 0;
  height = 0;

  constructor(track) {
    this.restart();
    void this.read(new VideoStream(track));
  }

  restart() {
    Object.assign(this, { frames: 0, mean: undefined, change: 0, before: undefined, gap: 0, gapEnded: 0, last: undefined });
  }

  async read(stream) {
    for await (const { frame } of stream) {
      const now = Date.now();
      if (this.last !== undefined && now - this.last > this.gap) {
        Object.assign(this, { gap: now - this.last, gapEnded: now });
      }
      this.last = now;
      if (frame.width !== this.width || frame.height !== this.height) {
        Object.assign(this, { width: frame.width, height: frame.height, before: undefined });
        this.sizes.push({ at: now, width: frame.width, height: frame.height });
      }
      if (this.frames % 10 === 0) this.sample(frame);
      this.frames += 1;
    }
  }

  sample(frame) {
    const { data, width, height } = frame.type === VideoBufferType.I420 ? frame : frame.convert(VideoBufferType.I420);
    const luma = [];
    for (let y = 0; y < height; y += 8) for (let x = 0; x < width; x += 8) luma.push(data[y * width + x]);
    const mean = (bytes) => bytes.reduce((sum, byte) => sum + byte, 0) / bytes.length;
    const size = width * height;
    const half = ((width + 1) >> 1) * ((height + 1) >> 1);
    const y = 1.164 * (mean(luma) - 16);
    const u = mean(data.subarray(size, size + half)) - 128;
    const v = mean(data.subarray(size + half, size + 2 * half)) - 128;
    const rgb = [y + 1.596 * v, y - 0.392 * u - 0.813 * v, y + 2.017 * u];
    this.mean = rgb.map((part) => Math.min(255, Math.max(0, part)));
    if (this.before?.length === luma.length) {
      const change = mean(luma.map((value, at) => Math.abs(value - this.before[at])));
      this.change = Math.max(this.change, change);
    }
    this.before = luma;
  }

  seen() {
    const { frames, width, height, sizes, mean, change, gap, gapEnded, last } = this;
    const since = last === undefined ? 0 : Date.now() - last;
    const longest = since > gap ? { longestGap: since, gapEnded: Date.now() } : { longestGap: gap, gapEnded };
    return { frames, width, height, sizes, mean, change, ...longest };
  }
}

/** The last half second of one remote track's sound. */
class AudioSeen {
  samples = [];

  constructor(track) {
    void this.read(new AudioStream(track, SAMPLE_RATE, 1));
  }

  restart() {}

  async read(stream) {
    for await (const frame of stream) {
      this.samples.push(...frame.data);
      this.samples.splice(0, this.samples.length - SAMPLE_RATE / 2);
    }
  }

  /** Of a tone, how often it goes from below zero to above, with the moments taken between two samples. */
  seen() {
    const samples = this.samples.map((sample) => sample / 32768);
    const ups = samples.flatMap((sample, at) => {
      const before = samples[at - 1] ?? 0;
      return before < 0 && sample >= 0 ? [at - sample / (sample - before)] : [];
    });
    const turns = ups.length - 1;
    const rms = Math.sqrt(samples.reduce((sum, sample) => sum + sample ** 2, 0) / (samples.length || 1));
    return { hertz: turns > 0 ? (turns * SAMPLE_RATE) / (ups[turns] - ups[0]) : 0, rms };
  }
}

/** The functions a test may call, named as those of `window.client` in `page.ts`. */
class Participant {
  room = new Room();
  tracks = new Map();
  happened = [];
  gone = [];
  inbox = [];
  read = [];
  playing = true;

  constructor() {
    const { room } = this;
    room.on(RoomEvent.TrackSubscribed, (track, _, { identity }) => {
      const seen = track.kind === TrackKind.KIND_VIDEO ? new VideoSeen(track) : new AudioSeen(track);
      this.tracks.set(track.sid, { from: identity, kind: seen instanceof VideoSeen ? 'video' : 'audio', seen });
    });
    room.on(RoomEvent.TrackUnsubscribed, (track) => this.tracks.delete(track.sid));
    room.on(RoomEvent.DataReceived, (payload, participant, kind, topic) =>
      this.inbox.push({
        from: participant?.identity,
        topic,
        reliable: kind === DataPacketKind.KIND_RELIABLE,
        bytes: payload.byteLength,
        fingerprint: fingerprint(payload),
      }),
    );
    room.on(RoomEvent.Reconnecting, () => this.note('reconnecting'));
    room.on(RoomEvent.Reconnected, () => this.note('reconnected'));
    room.on(RoomEvent.Disconnected, (reason) => this.note(`disconnected: ${reason}`));
    room.on(RoomEvent.ParticipantDisconnected, ({ identity }) => this.gone.push(identity));
    const take = (from, topic, note, content) =>
      this.read.push({ from, topic, note, bytes: content.byteLength, fingerprint: fingerprint(content) });
    room.registerTextStreamHandler('words', async (reader, { identity }) => {
      const text = await reader.readAll();
      take(identity, 'words', reader.info.attributes?.note, new TextEncoder().encode(text));
    });
    room.registerByteStreamHandler('file', async (reader, { identity }) => {
      take(identity, 'file', reader.info.attributes?.note, Buffer.concat(await reader.readAll()));
    });
  }

  note(what) {
    this.happened.push({ at: Date.now(), what });
  }

  async join(url, token, { passphrase }) {
    // No keys made of one that failed are tried, as in `sdk.py`.
    const keyProviderOptions = { sharedKey: new TextEncoder().encode(passphrase), ratchetWindowSize: 0 };
    const encryption = passphrase && { keyProviderOptions };
    await this.room.connect(url, token, { autoSubscribe: true, dynacast: false, ...(encryption && { encryption }) });
    const { sid, identity } = this.room.localParticipant;
    return { sid, identity };
  }

  async publishCamera({ width, height, fps, codec, simulcast }) {
    const source = new VideoSource(width, height);
    const track = LocalVideoTrack.createVideoTrack('camera', source);
    const pictures = film(width, height);
    const began = Date.now();
    const play = async () => {
      for (let count = 0; this.playing; count += 1) {
        source.captureFrame(new VideoFrame(pictures[count % pictures.length], width, height, VideoBufferType.I420));
        await delay(Math.max(0, began + ((count + 1) * 1000) / fps - Date.now()));
      }
    };
    void play();
    const options = new TrackPublishOptions({ source: TrackSource.SOURCE_CAMERA, videoCodec: CODECS[codec], simulcast });
    const { sid } = await this.room.localParticipant.publishTrack(track, options);
    return { sid };
  }

  async publishMicrophone(hertz) {
    const source = new AudioSource(SAMPLE_RATE, 1, 200);
    const track = LocalAudioTrack.createAudioTrack('microphone', source);
    const length = SAMPLE_RATE / 100;
    const play = async () => {
      for (let at = 0; this.playing; at += length) {
        const sample = (_, index) => Math.sin((2 * Math.PI * hertz * (at + index)) / SAMPLE_RATE) * 0.5 * 32767;
        await source.captureFrame(new AudioFrame(Int16Array.from({ length }, sample), SAMPLE_RATE, 1, length));
      }
    };
    void play();
    const options = new TrackPublishOptions({ source: TrackSource.SOURCE_MICROPHONE });
    const { sid } = await this.room.localParticipant.publishTrack(track, options);
    return { sid };
  }

  others() {
    return [...this.room.remoteParticipants.keys()].sort();
  }

  received() {
    return [...this.tracks].map(([sid, { from, kind, seen }]) => ({ from, sid, kind, stats: {}, seen: seen.seen() }));
  }

  restart() {
    this.tracks.forEach(({ seen }) => seen.restart());
    return Date.now();
  }

  async send(length, reliable, topic) {
    const payload = pattern(length, topic);
    await this.room.localParticipant.publishData(payload, { reliable, topic });
    return { fingerprint: fingerprint(payload) };
  }

  async sendWords(length, note) {
    const text = words(length, note);
    await this.room.localParticipant.sendText(text, { topic: 'words', attributes: { note } });
    return { fingerprint: fingerprint(new TextEncoder().encode(text)) };
  }

  async sendFile(length, note) {
    const content = pattern(length, note);
    const writer = await this.room.localParticipant.streamBytes({
      name: note,
      topic: 'file',
      attributes: { note },
      totalSize: length,
    });
    await writer.write(content);
    await writer.close();
    return { fingerprint: fingerprint(content) };
  }

  streams() {
    return this.read;
  }

  async introduce(name, metadata, attributes) {
    const own = this.room.localParticipant;
    await own.updateName(name);
    await own.updateMetadata(metadata);
    await own.setAttributes(attributes);
  }

  simulate(scenario) {
    return this.room.simulateScenario(SimulateScenarioKind[`SIMULATE_${scenario.toUpperCase().replaceAll('-', '_')}`]);
  }

  people() {
    const everybody = [this.room.localParticipant, ...this.room.remoteParticipants.values()];
    return Object.fromEntries(
      everybody.map(({ identity, name, metadata, attributes, trackPublications }) => [
        identity,
        {
          name,
          metadata,
          attributes,
          muted: [...trackPublications.values()].filter(({ muted }) => muted).map(({ source }) => TrackSource[source]),
        },
      ]),
    );
  }

  registerGreeting(method) {
    this.room.localParticipant.registerRpcMethod(method, async ({ payload }) => {
      if (payload === 'nobody') throw new RpcError(7, 'there is nobody', 'look again');
      return `hello ${payload}`;
    });
  }

  async callMethod(destinationIdentity, method, payload) {
    try {
      const { localParticipant } = this.room;
      return await localParticipant.performRpc({ destinationIdentity, method, payload, responseTimeout: 5000 });
    } catch (error) {
      if (error instanceof RpcError) return `error ${error.code}: ${error.message}`;
      throw error;
    }
  }

  messages() {
    return this.inbox;
  }

  sid() {
    return this.room.localParticipant.sid;
  }

  departures() {
    return this.gone;
  }

  events() {
    return this.happened.map(({ what }) => what);
  }

  history() {
    return this.happened;
  }

  async leave() {
    this.playing = false;
    await this.room.disconnect();
  }
}

const participants = new Map();

const operations = {
  open: ({ name }) => void participants.set(name, new Participant()),
  async close({ name }) {
    await participants.get(name).leave();
    participants.delete(name);
  },
  call: ({ name, fn, args }) => participants.get(name)[fn](...args),
};

console.log(JSON.stringify({ ready: true }));
for await (const line of createInterface({ input: process.stdin })) {
  const { id, op, ...given } = JSON.parse(line);
  // Not awaited: a slow answer must not hold up the next request.
  Promise.resolve()
    .then(() => operations[op](given))
    .then(
      (ok) => console.log(JSON.stringify({ id, ok: ok ?? null })),
      (error) => console.log(JSON.stringify({ id, error: String(error?.message ?? error) })),
    );
}
await dispose();
process.exit(0);
