/** Data tracks on livekit-client: our own, and what arrives of others'. */
import { RoomEvent, type LocalDataTrack, type RemoteDataTrack, type Room } from 'livekit-client';

import { fingerprint, pattern } from './pattern';

const own = new Map<string, LocalDataTrack>();
const frames: { from: string; track: string; bytes: number; fingerprint: number }[] = [];
/** Names of tracks of which nothing more will come, and what went wrong, if anything did. */
const ended: string[] = [];

/** Subscribes to every data track of others, and takes note of every frame. */
export function watchDataTracks(room: Room) {
  room.on(RoomEvent.DataTrackPublished, (track) => void read(track));
}

async function read(track: RemoteDataTrack) {
  const { name } = track.info;
  try {
    const reader = track.subscribe({ bufferSize: 1024 }).getReader();
    for (let next = await reader.read(); !next.done; next = await reader.read()) {
      const { payload } = next.value;
      frames.push({
        from: track.publisherIdentity,
        track: name,
        bytes: payload.byteLength,
        fingerprint: fingerprint(payload),
      });
    }
    ended.push(name);
  } catch (error) {
    ended.push(`${name}: ${error}`);
  }
}

export async function publishDataTrack(room: Room, name: string) {
  const track = await room.localParticipant.publishDataTrack({ name });
  own.set(name, track);
  return { sid: track.info?.sid };
}

/** Sends `count` frames, one every `interval` milliseconds, and gives their fingerprints. */
export async function pushFrames(name: string, topic: string, count: number, bytes: number, interval: number) {
  const track = own.get(name);
  if (!track) throw new Error(`no data track ${name}`);
  const sent: number[] = [];
  for (let number = 0; number < count; number += 1) {
    const payload = pattern(bytes, `${topic}-${number}`);
    sent.push(fingerprint(payload));
    await track.tryPush({ payload });
    await track.flush();
    await new Promise((resolve) => setTimeout(resolve, interval));
  }
  return sent;
}

export async function unpublishDataTrack(name: string) {
  await own.get(name)?.unpublish();
}

export const dataFrames = () => frames;
export const endedDataTracks = () => ended;
