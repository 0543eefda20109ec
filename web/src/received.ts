/** The browser's side of the statistics: what arrives of each remote participant, from `getStats`. */
import { Track, type RemoteParticipant, type RemoteTrack, type Room } from 'livekit-client';

export interface Video {
  sid: string;
  screen: boolean;
  width: number;
  height: number;
  fps: number;
  kbps: number;
  /** Since the track began. */
  freezes: number;
  /** Packets, in percent, lately. */
  lost: number;
  codec: string;
}

export interface Audio {
  sid: string;
  kbps: number;
  lost: number;
  /** Sound that was made up since nothing came, in percent, lately. */
  concealed: number;
}

/** One remote participant, as it arrives. */
export interface Person {
  identity: string;
  name: string;
  videos: Video[];
  audio?: Audio;
}

/** The counters of one stream: TypeScript's own type leaves out half of them. */
interface Inbound {
  timestamp: number;
  bytesReceived?: number;
  packetsReceived?: number;
  packetsLost?: number;
  frameWidth?: number;
  frameHeight?: number;
  framesPerSecond?: number;
  freezeCount?: number;
  codecId?: string;
  concealedSamples?: number;
  silentConcealedSamples?: number;
  totalSamplesReceived?: number;
}

/** Reads what arrives, again and again: rates are those since the last time. */
export class Reception {
  private before = new Map<string, Inbound>();

  async read(room: Room): Promise<Person[]> {
    const now = new Map<string, Inbound>();
    const people = await Promise.all([...room.remoteParticipants.values()].map((who) => this.person(who, now)));
    this.before = now;
    return people;
  }

  private async person(who: RemoteParticipant, now: Map<string, Inbound>): Promise<Person> {
    const person: Person = { identity: who.identity, name: who.name || who.identity, videos: [] };
    for (const publication of who.trackPublications.values()) {
      const track = publication.track as RemoteTrack | undefined;
      const report = await track?.getRTCStatsReport();
      if (!track || !report) continue;
      const entries = [...report.values()] as (Inbound & { type: string; id: string; mimeType?: string })[];
      const entry = entries.find(({ type }) => type === 'inbound-rtp');
      if (!entry) continue;
      const sid = publication.trackSid;
      const last = this.before.get(sid);
      now.set(sid, entry);
      const since = (key: keyof Inbound) => Math.max(0, Number(entry[key] ?? 0) - Number(last?.[key] ?? 0));
      const seconds = last ? since('timestamp') / 1000 : 0;
      const kbps = seconds > 0 ? (since('bytesReceived') * 8) / 1000 / seconds : 0;
      const lost = percent(since('packetsLost'), since('packetsLost') + since('packetsReceived'));
      if (track.kind === Track.Kind.Audio) {
        // What is made up during silence nobody hears.
        const concealed = Math.max(0, since('concealedSamples') - since('silentConcealedSamples'));
        person.audio = { sid, kbps, lost, concealed: percent(concealed, since('totalSamplesReceived')) };
      } else {
        const codec = entries.find(({ id }) => id === entry.codecId)?.mimeType ?? '';
        person.videos.push({
          sid,
          screen: publication.source === Track.Source.ScreenShare,
          width: entry.frameWidth ?? 0,
          height: entry.frameHeight ?? 0,
          fps: entry.framesPerSecond ?? 0,
          kbps,
          freezes: entry.freezeCount ?? 0,
          lost,
          codec: codec.split('/')[1] ?? '',
        });
      }
    }
    return person;
  }
}

function percent(part: number, whole: number): number {
  return whole > 0 ? (100 * part) / whole : 0;
}
