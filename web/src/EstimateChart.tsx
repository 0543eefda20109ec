import type { Second } from './server-report';

const WIDTH = 300;
const HEIGHT = 90;
/** Samples further apart than this, in milliseconds, are of two connections. */
const GAP = 3000;

/** What may be sent against what arrived, over the last `span` milliseconds. */
export function EstimateChart({ seconds, span }: { seconds: Second[]; span: number }) {
  const newest = seconds.at(-1)?.unix_ms ?? 0;
  const top = ceiling(Math.max(100_000, ...seconds.map((s) => Math.max(s.target_bps, s.delivered_bps ?? 0))));
  const x = (ms: number) => WIDTH * (1 - (newest - ms) / span);
  const y = (bps: number) => HEIGHT * (1 - bps / top);
  const runs = unbroken(seconds);
  const path = (run: Second[], value: (second: Second) => number) =>
    run.map((s, at) => `${at ? 'L' : 'M'}${x(s.unix_ms).toFixed(1)} ${y(value(s)).toFixed(1)}`).join('');
  const delivered = (run: Second[]) => path(run, (second) => second.delivered_bps ?? 0);
  return (
    <figure className="statistics-chart">
      <figcaption>
        <span className="target">may be sent</span>
        <span className="delivered">arrives</span>
      </figcaption>
      <div>
        <svg
          viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
          preserveAspectRatio="none"
          role="img"
          aria-label="Estimate and delivered rate of the last minutes"
        >
          {[0.25, 0.5, 0.75].map((part) => (
            <line key={part} className="grid" x1={0} x2={WIDTH} y1={HEIGHT * part} y2={HEIGHT * part} />
          ))}
          {runs.map((run, at) => (
            <g key={at}>
              <path className="area" d={`${delivered(run)}V${HEIGHT}H${x(run[0]?.unix_ms ?? newest).toFixed(1)}Z`} />
              <path className="delivered" d={delivered(run)} />
              <path className="target" d={path(run, (second) => second.target_bps)} />
            </g>
          ))}
        </svg>
        <span className="top">{top / 1_000_000} Mbit/s</span>
      </div>
      <p>
        <span>{span / 60_000} min ago</span>
        <span>now</span>
      </p>
    </figure>
  );
}

/** Cut where the connection was away: nothing is known of that time. */
function unbroken(seconds: Second[]): Second[][] {
  const runs: Second[][] = [];
  for (const second of seconds) {
    const last = runs.at(-1)?.at(-1);
    if (last && second.unix_ms - last.unix_ms < GAP) runs.at(-1)?.push(second);
    else runs.push([second]);
  }
  return runs;
}

/** The next of 0.1, 0.2, 0.5, 1, 2, 5, … Mbit/s. */
function ceiling(bps: number): number {
  const power = 10 ** Math.floor(Math.log10(bps));
  const step = [1, 2, 5, 10].find((step) => bps <= step * power) ?? 10;
  return step * power;
}
