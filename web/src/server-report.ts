/** The server's side of the statistics: why this participant gets what it gets (docs/debug.md). */

export interface Layer {
  spatial: number;
  temporal: number;
  width: number | null;
  height: number | null;
  fps: number | null;
  bps: number;
}

export interface TrackReport {
  sid: string;
  kind: 'audio' | 'video';
  why: string;
  gets: Layer | null;
  granted: Layer | null;
  wanted: Layer | null;
  next: Layer | null;
}

/** One second of the estimate. */
export interface Second {
  unix_ms: number;
  target_bps: number;
  delivered_bps: number | null;
  queue_delay_ms: number;
  loss: number;
  cause: string;
}

export interface Report {
  unix_ms: number;
  estimate: {
    target_bps: number;
    cause: string;
    delivered_bps: number | null;
    queue_delay_ms: number;
    rtt_ms: number;
    loss: number;
    feedback: 'flows' | 'overdue' | 'missing';
    red_level: number;
  };
  budget: { media_bps: number; used_bps: number; audio_bps: number; retransmission_share: number };
  tracks: TrackReport[];
  history: Second[];
}

/** Asks for the participant's own report, with so many seconds of history; its join token is enough. */
export async function fetchReport(
  token: string,
  room: string,
  identity: string,
  seconds: number,
  signal: AbortSignal,
): Promise<Report> {
  const path = `/debug/rooms/${encodeURIComponent(room)}/participants/${encodeURIComponent(identity)}`;
  const answer = await fetch(`${path}?history=${seconds}`, { headers: { Authorization: `Bearer ${token}` }, signal });
  if (!answer.ok) throw new Error((await answer.text()) || `The server answered ${answer.status}.`);
  return (await answer.json()) as Report;
}

/** What is new of `later` behind what is known, no older than `span` milliseconds. */
export function joined(known: Second[], later: Second[], span: number): Second[] {
  const last = known.at(-1)?.unix_ms ?? 0;
  const all = [...known, ...later.filter((second) => second.unix_ms > last)];
  const newest = all.at(-1)?.unix_ms ?? 0;
  return all.filter((second) => second.unix_ms > newest - span);
}

const REASONS: Record<string, string> = {
  none: 'Best there is',
  unsupported: 'No codec in common',
  connecting: 'Connecting',
  disabled: 'Not shown, so not sent',
  muted: 'Muted by its sender',
  background: 'In the background: sound alone',
  publisher_paused: 'Nothing comes from its sender',
  waiting_for_keyframe: 'More comes with the next keyframe',
  no_feedback: 'Your connection is silent: the least is sent',
  budget: 'Your connection carries no more',
  overload: 'The server has no time for more',
  client_limit: 'You set a limit',
  settling: 'More in a moment',
  data_saver: 'Data saver: half the frames',
  asked_size: 'Enough for the size shown',
  asked_fps: 'As many frames as asked for',
  layer_not_sent: 'Its sender sends no more',
};

/** A reason in words. One that a later server invents stands for itself. */
export function reasonText(why: string): string {
  return REASONS[why] ?? why;
}

const CAUSES: Record<string, string> = {
  start: 'just begun',
  growth: 'used, and nothing speaks against more',
  probe: 'a probe arrived',
  narrow_path: 'the first probe found less',
  queue_rising: 'packets began to queue',
  queue_standing: 'packets queue',
  cliff: 'suddenly little arrived',
  loss: 'packets were lost',
  loss_test: 'testing whether loss depends on the rate',
  loss_test_cleared: 'loss does not depend on the rate',
  route_change: 'another route',
  outage: 'back after an outage',
  new_path: 'another path to the client',
  limit: 'your own limit',
  receiver: 'what this browser reports',
};

/** Why the estimate is what it is, in words. */
export function causeText(cause: string): string {
  return CAUSES[cause] ?? cause;
}
