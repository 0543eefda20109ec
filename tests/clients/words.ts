/** What people on livekit-client say in words: streams of text and bytes, methods of each other's, and what is said of them. */
import { RpcError, type Room } from 'livekit-client';

import { fingerprint, pattern, words } from './pattern';

interface Stream {
  from: string;
  topic: string;
  /** An attribute of the stream. */
  note?: string;
  bytes: number;
  fingerprint: number;
}

const read: Stream[] = [];

/** Reads every stream of others to its end. */
export function watchStreams(room: Room) {
  const take = (from: string, topic: string, note: string | undefined, content: Uint8Array) =>
    read.push({ from, topic, note, bytes: content.byteLength, fingerprint: fingerprint(content) });
  room.registerTextStreamHandler('words', async (reader, { identity }) => {
    const text = await reader.readAll();
    take(identity, 'words', reader.info.attributes?.note, new TextEncoder().encode(text));
  });
  room.registerByteStreamHandler('file', async (reader, { identity }) => {
    const chunks = await reader.readAll();
    const content = new Uint8Array(await new Blob(chunks as BlobPart[]).arrayBuffer());
    take(identity, 'file', reader.info.attributes?.note, content);
  });
}

export const streams = () => read;

export async function sendWords(room: Room, length: number, note: string) {
  const text = words(length, note);
  await room.localParticipant.sendText(text, { topic: 'words', attributes: { note } });
  return { fingerprint: fingerprint(new TextEncoder().encode(text)) };
}

export async function sendFile(room: Room, length: number, note: string) {
  const content = pattern(length, note);
  await room.localParticipant.sendBytes(content, { topic: 'file', attributes: { note } });
  return { fingerprint: fingerprint(content) };
}

export async function introduce(room: Room, name: string, metadata: string, attributes: Record<string, string>) {
  const own = room.localParticipant;
  await own.setName(name);
  await own.setMetadata(metadata);
  await own.setAttributes(attributes);
}

/** What is known of everybody, by identity. */
export function people(room: Room) {
  const everybody = [room.localParticipant, ...room.remoteParticipants.values()];
  return Object.fromEntries(
    everybody.map(({ identity, name, metadata, attributes, trackPublications }) => [
      identity,
      {
        name,
        metadata,
        attributes,
        muted: [...trackPublications.values()]
          .filter(({ isMuted }) => isMuted)
          .map(({ source }) => `SOURCE_${source.toUpperCase()}`),
      },
    ]),
  );
}

export function registerGreeting(room: Room, method: string) {
  room.registerRpcMethod(method, async ({ payload }) => {
    if (payload === 'nobody') throw new RpcError(7, 'there is nobody', 'look again');
    return `hello ${payload}`;
  });
}

/** What the method of that participant's gives, or its error. */
export async function callMethod(room: Room, destinationIdentity: string, method: string, payload: string) {
  try {
    return await room.localParticipant.performRpc({ destinationIdentity, method, payload, responseTimeout: 5000 });
  } catch (error) {
    if (error instanceof RpcError) return `error ${error.code}: ${error.message}`;
    throw error;
  }
}
