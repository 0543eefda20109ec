/**
 * One participant on livekit-client, as a person at a browser would use it. The driver opens one of these
 * pages per participant and calls the functions of `window.client`; what they return goes to the test as JSON.
 */
import {
  BackupCodecPolicy,
  ConnectionCheck,
  DataPacket_Kind,
  ExternalE2EEKeyProvider,
  Room,
  RoomEvent,
  Track,
  VideoQuality,
  type LocalTrack,
  type RemoteParticipant,
  type RemoteTrack,
  type RemoteTrackPublication,
  type SimulationScenario,
  type VideoCodec,
} from 'livekit-client';

import {
  dataFrames,
  endedDataTracks,
  publishDataTrack,
  pushFrames,
  unpublishDataTrack,
  watchDataTracks,
} from './data_tracks';
import { fingerprint, pattern } from './pattern';
import { callMethod, introduce, people, registerGreeting, sendFile, sendWords, streams, watchStreams } from './words';
import { paintedCamera, tone, type CameraOptions } from './sources';
import { AudioWatch, VideoWatch } from './watch';
import { overHttp } from './whip';

interface JoinOptions {
  /** Two peer connections over `/rtc` instead of one over `/rtc/v1`. */
  v0?: boolean;
  adaptiveStream?: boolean;
  dynacast?: boolean;
  /** Media by way of a TURN server, and no other. */
  relay?: boolean;
  /** Encrypts media and data end to end, with a key made of this. */
  passphrase?: string;
  /** A codec of video, such as `VP9`, that this browser is made unable to receive. */
  without?: string;
}

interface PublishOptions extends CameraOptions {
  /** VP8 unless told otherwise. */
  codec?: VideoCodec;
  simulcast?: boolean;
  /** Of further codecs; livekit-client's default unless told otherwise. */
  backupCodecPolicy?: BackupCodecPolicy;
}

const room: { now?: Room } = {};
/** What happened to our connection, and when, in epoch milliseconds. */
const history: { at: number; what: string }[] = [];
/** Who left, as the others are told. */
const departures: string[] = [];
const messages: object[] = [];
const watches = new Map<string, VideoWatch | AudioWatch>();
const camera: { track?: LocalTrack } = {};

function happened(what: string) {
  history.push({ at: performance.timeOrigin + performance.now(), what });
}

function joined(): Room {
  if (!room.now) throw new Error('not in a room');
  return room.now;
}

function attach(track: RemoteTrack, publication: RemoteTrackPublication) {
  const element = track.attach();
  document.body.append(element);
  const watch = track.kind === Track.Kind.Video ? new VideoWatch(track) : new AudioWatch(track);
  watches.set(publication.trackSid, watch);
}

/** Makes this browser one that does not know a codec of video: it neither offers to receive it nor accepts it. */
function forget(codec: string) {
  const all = RTCRtpReceiver.getCapabilities('video')?.codecs ?? [];
  const others = all.filter((one) => one.mimeType !== `video/${codec}`);
  const limit = (connection: RTCPeerConnection) => {
    for (const transceiver of connection.getTransceivers()) {
      const sends = transceiver.direction === 'sendonly' || transceiver.direction === 'sendrecv';
      if (transceiver.receiver.track.kind === 'video' && !sends) transceiver.setCodecPreferences(others);
    }
  };
  const prototype = RTCPeerConnection.prototype;
  const { createOffer, createAnswer } = prototype;
  prototype.createOffer = function (this: RTCPeerConnection, ...options: unknown[]) {
    limit(this);
    return Reflect.apply(createOffer, this, options);
  } as typeof createOffer;
  prototype.createAnswer = function (this: RTCPeerConnection, ...options: unknown[]) {
    limit(this);
    return Reflect.apply(createAnswer, this, options);
  } as typeof createAnswer;
}

/** Joins and gives what the server said of us, and how long that took in milliseconds. */
async function join(url: string, token: string, options: JoinOptions = {}) {
  if (options.without) forget(options.without);
  const keyProvider = new ExternalE2EEKeyProvider();
  const encryption = options.passphrase ? { keyProvider, worker: new Worker('/e2ee.js') } : undefined;
  const here = new Room({
    encryption,
    singlePeerConnection: !options.v0,
    adaptiveStream: options.adaptiveStream ?? false,
    dynacast: options.dynacast ?? false,
  });
  room.now = here;
  here.on(RoomEvent.TrackSubscribed, attach);
  watchDataTracks(here);
  watchStreams(here);
  here.on(RoomEvent.TrackUnsubscribed, (track, publication) => {
    watches.get(publication.trackSid)?.stop();
    watches.delete(publication.trackSid);
    track.detach().forEach((element) => element.remove());
  });
  here.on(RoomEvent.TrackSubscriptionFailed, (sid) => happened(`subscription of ${sid} failed`));
  here.on(RoomEvent.SignalReconnecting, () => happened('signal reconnecting'));
  here.on(RoomEvent.Reconnecting, () => happened('reconnecting'));
  here.on(RoomEvent.Reconnected, () => happened('reconnected'));
  here.on(RoomEvent.Disconnected, (reason) => happened(`disconnected: ${reason}`));
  here.on(RoomEvent.EncryptionError, (error) => happened(`encryption: ${error.message}`));
  here.on(RoomEvent.ParticipantDisconnected, (participant) => departures.push(participant.identity));
  here.on(RoomEvent.DataReceived, (payload, participant, kind, topic) => {
    messages.push({
      from: participant?.identity,
      topic,
      reliable: kind === DataPacket_Kind.RELIABLE,
      bytes: payload.byteLength,
      fingerprint: fingerprint(payload),
    });
  });
  if (options.passphrase) {
    await keyProvider.setKey(options.passphrase);
    await here.setE2EEEnabled(true);
  }
  const before = performance.now();
  await here.connect(url, token, options.relay ? { rtcConfig: { iceTransportPolicy: 'relay' } } : {});
  return {
    sid: here.localParticipant.sid,
    identity: here.localParticipant.identity,
    milliseconds: performance.now() - before,
  };
}

/** Publishes a painted camera; resolves when the server has named the track. */
async function publishCamera(options: PublishOptions) {
  const publication = await joined().localParticipant.publishTrack(paintedCamera(options), {
    source: Track.Source.Camera,
    videoCodec: options.codec ?? 'vp8',
    simulcast: options.simulcast ?? true,
    backupCodecPolicy: options.backupCodecPolicy,
    degradationPreference: 'maintain-resolution',
  });
  camera.track = publication.track;
  return { sid: publication.trackSid };
}

/** Publishes a sine of `hertz`. */
async function publishMicrophone(hertz: number) {
  const publication = await joined().localParticipant.publishTrack(await tone(hertz), {
    source: Track.Source.Microphone,
  });
  return { sid: publication.trackSid };
}

/** The others, by identity. */
function others(): string[] {
  return [...joined().remoteParticipants.keys()].sort();
}

function publications(): [RemoteParticipant, RemoteTrackPublication][] {
  return [...joined().remoteParticipants.values()].flatMap((participant) =>
    [...participant.trackPublications.values()].map(
      (publication) => [participant, publication as RemoteTrackPublication] as [RemoteParticipant, RemoteTrackPublication],
    ),
  );
}

type Stats = Record<string, number | string | boolean | undefined>;

async function inbound(track: RemoteTrack): Promise<Stats> {
  const report = await track.getRTCStatsReport();
  const all = [...(report?.values() ?? [])] as Stats[];
  const rtp = all.find((entry) => entry.type === 'inbound-rtp') ?? {};
  const codec = all.find((entry) => entry.id === rtp.codecId);
  return { ...rtp, codec: codec?.mimeType };
}

/** Every remote track: what the stack counts (`stats`), and what arrived as pictures or sound (`seen`). */
async function received() {
  const tracks = publications().map(async ([participant, publication]) => ({
    from: participant.identity,
    sid: publication.trackSid,
    kind: publication.kind,
    subscribed: publication.isSubscribed,
    stats: publication.track ? await inbound(publication.track) : {},
    seen: watches.get(publication.trackSid)?.seen() ?? {},
  }));
  return Promise.all(tracks);
}

/** Starts a new window: longest gap and change of picture count from here. Gives the time, in epoch milliseconds. */
function restart(): number {
  watches.forEach((watch) => watch.restart());
  return performance.timeOrigin + performance.now();
}

/** Asks for a simulcast layer; gives the time of asking, in epoch milliseconds. */
function setQuality(identity: string, quality: 'LOW' | 'MEDIUM' | 'HIGH'): number {
  const wanted = publications().filter(([who, what]) => who.identity === identity && what.kind === Track.Kind.Video);
  if (wanted.length === 0) throw new Error(`${identity} has no video here`);
  const asked = performance.timeOrigin + performance.now();
  wanted.forEach(([, publication]) => publication.setVideoQuality(VideoQuality[quality]));
  return asked;
}

/** Subscribes to everything of somebody's, or to nothing; gives the time of asking, in epoch milliseconds. */
function subscribe(identity: string, wanted: boolean): number {
  const asked = performance.timeOrigin + performance.now();
  publications()
    .filter(([who]) => who.identity === identity)
    .forEach(([, publication]) => publication.setSubscribed(wanted));
  return asked;
}

/** What our camera's encoder sends, by rid. */
async function sent() {
  const report = await camera.track?.getRTCStatsReport();
  const all = [...(report?.values() ?? [])] as Stats[];
  const pair = all.find((entry) => entry.availableOutgoingBitrate !== undefined);
  return all
    .filter((entry) => entry.type === 'outbound-rtp')
    .map(({ rid, active, bytesSent, frameWidth, framesSent, nackCount, pliCount, qualityLimitationReason }) => ({
      rid,
      active,
      bytesSent,
      frameWidth,
      framesSent,
      nackCount,
      pliCount,
      qualityLimitationReason,
      availableBitrate: pair?.availableOutgoingBitrate,
    }));
}

/** Sends `bytes` bytes that can be recognised, and gives their fingerprint. */
async function send(bytes: number, reliable: boolean, topic: string) {
  const payload = pattern(bytes, topic);
  await joined().localParticipant.publishData(payload, { reliable, topic });
  return { fingerprint: fingerprint(payload) };
}

const talk: { said?: Promise<number[]>; over: boolean } = { over: false };

/** Sends a reliable message every `interval` milliseconds, one after the other, until `endTalk`. */
function beginTalk(topic: string, interval: number) {
  const say = async () => {
    const sent: number[] = [];
    while (!talk.over) {
      const payload = pattern(100, `${topic}-${sent.length}`);
      await joined().localParticipant.publishData(payload, { reliable: true, topic });
      sent.push(fingerprint(payload));
      await new Promise((resolve) => setTimeout(resolve, interval));
    }
    return sent;
  };
  talk.over = false;
  talk.said = say();
}

/** Gives the fingerprints of all that was sent, in order. */
function endTalk() {
  talk.over = true;
  return talk.said;
}

/** livekit-client's own examination of a server: what it found, step by step. */
async function examine(url: string, token: string, { v0 }: JoinOptions) {
  const check = new ConnectionCheck(url, token, { roomOptions: { singlePeerConnection: !v0 } });
  await check.checkWebsocket();
  await check.checkWebRTC();
  await check.checkTURN();
  await check.checkReconnect();
  await check.checkPublishAudio();
  await check.checkPublishVideo();
  const outcome = ['idle', 'running', 'skipped', 'success', 'failed'];
  return check.getResults().map(({ name, status, logs }) => ({
    name,
    outcome: outcome[status],
    said: logs.map(({ level, message }) => `${level}: ${message}`),
  }));
}

async function leave() {
  await joined().disconnect();
  room.now = undefined;
}

const client = {
  join,
  publishCamera,
  publishMicrophone,
  others,
  received,
  restart,
  setQuality,
  subscribe,
  sent,
  send,
  beginTalk,
  endTalk,
  sendWords: (length: number, note: string) => sendWords(joined(), length, note),
  sendFile: (length: number, note: string) => sendFile(joined(), length, note),
  streams,
  introduce: (name: string, metadata: string, attributes: Record<string, string>) =>
    introduce(joined(), name, metadata, attributes),
  people: () => people(joined()),
  roomMetadata: () => joined().metadata,
  registerGreeting: (method: string) => registerGreeting(joined(), method),
  callMethod: (identity: string, method: string, payload: string) => callMethod(joined(), identity, method, payload),
  publishDataTrack: (name: string) => publishDataTrack(joined(), name),
  pushFrames,
  unpublishDataTrack,
  dataFrames,
  endedDataTracks,
  examine,
  leave,
  messages: () => messages,
  sid: () => joined().localParticipant.sid,
  departures: () => departures,
  history: () => history,
  events: () => history.map(({ what }) => what),
  ...overHttp,
  simulate: (scenario: SimulationScenario) => joined().simulateScenario(scenario),
};

declare global {
  interface Window {
    client: typeof client;
  }
}
window.client = client;
