import { useRoomContext } from '@livekit/components-react';
import { useEffect, useState } from 'react';

import { EstimateChart } from './EstimateChart';
import { Reception, type Audio, type Person, type Video } from './received';
import { causeText, fetchReport, joined, reasonText, type Report, type Second, type TrackReport } from './server-report';

/** How often both sides are asked, in milliseconds. */
const INTERVAL = 2000;
/** What the chart shows, in milliseconds. */
const SPAN = 180_000;

interface State {
  people: Person[];
  report?: Report;
  history: Second[];
  /** Why the server's side is missing. */
  trouble?: string;
}

/** What arrives of the others, and why it is not more. */
export function Statistics({ token, onClose }: { token: string; onClose: () => void }) {
  const { people, report, history, trouble } = useStatistics(token);
  const tracks = new Map(report?.tracks.map((track) => [track.sid, track]));
  return (
    <aside className="statistics" aria-label="Statistics" data-testid="statistics">
      <header>
        <h2>Statistics</h2>
        <button type="button" className="lk-button" onClick={onClose} aria-label="Close statistics">
          ✕
        </button>
      </header>
      <div className="statistics-body">
        {trouble && <p className="statistics-trouble">The server tells no reasons: {trouble}</p>}
        {report && <Connection report={report} history={history} />}
        {people.length === 0 && <p className="statistics-empty">Nobody else is here.</p>}
        {people.map((person) => (
          <PersonCard key={person.identity} person={person} tracks={tracks} />
        ))}
      </div>
    </aside>
  );
}

function useStatistics(token: string): State {
  const room = useRoomContext();
  const [state, setState] = useState<State>({ people: [], history: [] });
  useEffect(() => {
    const reception = new Reception();
    const stop = new AbortController();
    let history: Second[] = [];
    let timer: ReturnType<typeof setTimeout>;

    async function look() {
      const people = await reception.read(room);
      // Later only what is new: the answers share the link with the call.
      const missing = Math.ceil((Date.now() - (history.at(-1)?.unix_ms ?? 0)) / 1000) + 1;
      const seconds = Math.min(missing, SPAN / 1000);
      try {
        const report = await fetchReport(token, room.name, room.localParticipant.identity, seconds, stop.signal);
        history = joined(history, report.history, SPAN);
        if (!stop.signal.aborted) setState({ people, report, history });
      } catch (error) {
        if (stop.signal.aborted) return;
        setState({ people, history, trouble: error instanceof Error ? error.message : String(error) });
      }
    }

    function next() {
      void look().finally(() => {
        if (!stop.signal.aborted) timer = setTimeout(next, INTERVAL);
      });
    }
    next();
    return () => {
      stop.abort();
      clearTimeout(timer);
    };
  }, [room, token]);
  return state;
}

function Connection({ report, history }: { report: Report; history: Second[] }) {
  const { estimate, budget } = report;
  return (
    <section className="statistics-card">
      <h3>Your connection</h3>
      <EstimateChart seconds={history} span={SPAN} />
      <dl>
        <Figure label="May be sent" value={rate(estimate.target_bps)} note={causeText(estimate.cause)} />
        <Figure label="Arrives" value={estimate.delivered_bps === null ? '–' : rate(estimate.delivered_bps)} />
        <Figure label="Pictures may take" value={rate(budget.media_bps)} note={`take ${rate(budget.used_bps)}`} />
        <Figure label="Round trip" value={`${estimate.rtt_ms} ms`} note={`queue ${estimate.queue_delay_ms} ms`} />
        <Figure
          label="Lost"
          value={`${(estimate.loss * 100).toFixed(1)} %`}
          note={estimate.red_level > 0 ? `sound sent ${estimate.red_level + 1} times` : undefined}
        />
      </dl>
      {estimate.feedback !== 'flows' && <p className="statistics-trouble">This browser’s reports do not arrive.</p>}
    </section>
  );
}

function PersonCard({ person, tracks }: { person: Person; tracks: Map<string, TrackReport> }) {
  return (
    <section className="statistics-card" data-testid="statistics-person">
      <h3>{person.name}</h3>
      {person.videos.map((video) => (
        <VideoFigures key={video.sid} video={video} track={tracks.get(video.sid)} />
      ))}
      {person.audio && <AudioFigures audio={person.audio} track={tracks.get(person.audio.sid)} />}
      {person.videos.length === 0 && !person.audio && <p className="statistics-empty">Sends nothing.</p>}
    </section>
  );
}

function VideoFigures({ video, track }: { video: Video; track?: TrackReport }) {
  return (
    <>
      <p className="statistics-why" data-why={track?.why}>
        {video.screen ? 'Screen' : 'Camera'}
        {track && <span title={track.why}>{reasonText(track.why)}</span>}
      </p>
      <dl>
        <Figure
          label="Picture"
          value={video.width > 0 ? `${video.width}×${video.height}` : '–'}
          note={`${Math.round(video.fps)} fps${video.codec && `, ${video.codec}`}`}
        />
        <Figure label="Rate" value={rate(video.kbps * 1000)} note={track?.next ? `next step ${rate(track.next.bps)}` : undefined} />
        <Figure label="Freezes" value={String(video.freezes)} />
        <Figure label="Lost" value={`${video.lost.toFixed(1)} %`} />
      </dl>
    </>
  );
}

function AudioFigures({ audio, track }: { audio: Audio; track?: TrackReport }) {
  return (
    <>
      <p className="statistics-why" data-why={track?.why}>
        Sound
        {track && track.why !== 'none' && <span title={track.why}>{reasonText(track.why)}</span>}
      </p>
      <dl>
        <Figure label="Rate" value={rate(audio.kbps * 1000)} />
        <Figure label="Lost" value={`${audio.lost.toFixed(1)} %`} />
        <Figure label="Concealed" value={`${audio.concealed.toFixed(1)} %`} />
      </dl>
    </>
  );
}

function Figure({ label, value, note }: { label: string; value: string; note?: string }) {
  return (
    <div>
      <dt>{label}</dt>
      <dd>
        {value}
        {note && <small>{note}</small>}
      </dd>
    </div>
  );
}

function rate(bps: number): string {
  return bps >= 1_000_000 ? `${(bps / 1_000_000).toFixed(1)} Mbit/s` : `${Math.round(bps / 1000)} kbit/s`;
}
