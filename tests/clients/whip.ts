/** Publishing and watching over HTTP, on a library that its protocols' author keeps (whip-whep). */
import { WHEPClient } from 'whip-whep/whep.js';
import { WHIPClient } from 'whip-whep/whip.js';

import { paintedCamera, tone, type CameraOptions } from './sources';
import { AudioWatch, VideoWatch } from './watch';

interface Session {
  connection: RTCPeerConnection;
  client: WHIPClient | WHEPClient;
  watches: { kind: string; watch: VideoWatch | AudioWatch }[];
}

const sessions = new Map<string, Session>();

async function connected(connection: RTCPeerConnection): Promise<void> {
  const isUp = () => connection.connectionState === 'connected';
  while (!isUp()) {
    if (connection.connectionState === 'failed') throw new Error('the connection failed');
    await new Promise((resolve) => connection.addEventListener('connectionstatechange', resolve, { once: true }));
  }
}

interface PublishOptions extends CameraOptions {
  hertz: number;
  /** Names of encodings, each half as wide as the next. */
  rids?: string[];
}

/** Publishes a painted camera and a tone; resolves once the connection is up. */
async function whipPublish(name: string, url: string, token: string, options: PublishOptions) {
  const connection = new RTCPeerConnection();
  const count = options.rids?.length ?? 0;
  const sendEncodings = options.rids?.map((rid, at) => ({ rid, scaleResolutionDownBy: 2 ** (count - 1 - at) }));
  connection.addTransceiver(await tone(options.hertz), { direction: 'sendonly' });
  connection.addTransceiver(paintedCamera(options), { direction: 'sendonly', sendEncodings });
  const client = new WHIPClient();
  await client.publish(connection, url, token);
  sessions.set(name, { connection, client, watches: [] });
  await connected(connection);
}

/** Watches; resolves once the connection is up. */
async function whepWatch(name: string, url: string, token: string) {
  const connection = new RTCPeerConnection();
  const watches: Session['watches'] = [];
  connection.addTransceiver('audio', { direction: 'recvonly' });
  connection.addTransceiver('video', { direction: 'recvonly' });
  connection.ontrack = ({ track }) => {
    // Chromium decodes only what an element plays.
    const element = document.createElement(track.kind as 'audio' | 'video');
    element.srcObject = new MediaStream([track]);
    element.muted = true;
    document.body.append(element);
    void element.play();
    const watch = track.kind === 'video' ? new VideoWatch({ mediaStreamTrack: track }) : new AudioWatch({ mediaStreamTrack: track });
    watches.push({ kind: track.kind, watch });
  };
  const client = new WHEPClient();
  await client.view(connection, url, token);
  sessions.set(name, { connection, client, watches });
  await connected(connection);
}

function session(name: string): Session {
  const found = sessions.get(name);
  if (!found) throw new Error(`no session ${name}`);
  return found;
}

/** What a viewer sees and hears, as `received` of a participant. */
async function whepReceived(name: string) {
  const { connection, watches } = session(name);
  const report = [...(await connection.getStats()).values()];
  return watches.map(({ kind, watch }) => {
    const rtp = report.find((entry) => entry.type === 'inbound-rtp' && entry.kind === kind) ?? {};
    const codec = report.find((entry) => entry.id === rtp.codecId);
    return { from: name, kind, stats: { ...rtp, codec: codec?.mimeType }, seen: watch.seen() };
  });
}

/** New ICE credentials over `PATCH`; resolves once both sides have them and the new pair is in use. */
async function whipRestart(name: string) {
  const { connection, client } = session(name);
  const before = connection.remoteDescription?.sdp.match(/a=ice-ufrag:(.*)/)?.[1];
  await client.restart();
  const after = connection.remoteDescription?.sdp.match(/a=ice-ufrag:(.*)/)?.[1];
  return { before, after, state: connection.iceConnectionState };
}

/** How often the library had to negotiate: once, whatever it is shown. */
const whepDescriptions = (name: string) => session(name).connection.remoteDescription?.sdp ?? '';

async function whipStop(name: string) {
  await session(name).client.stop();
  sessions.delete(name);
}

export const overHttp = { whipPublish, whepWatch, whepReceived, whepDescriptions, whipRestart, whipStop };
