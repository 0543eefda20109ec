/** What one track's frames have shown since the last `restart`. Times are epoch milliseconds. */
export interface FrameReport {
  frames: number;
  width: number;
  height: number;
  /** The longest time without a new frame, the time since the last one included. */
  longestGap: number;
  /** When that ended; now, if it has not. */
  gapEnded: number;
  /** Every size so far and when it was first seen; survives `restart`. */
  sizes: { at: number; width: number; height: number }[];
  /** Mean colour of the last sampled frame, 0 to 255 each. */
  mean: [number, number, number];
  /** Largest standard deviation of brightness within a sampled frame: 0 for one even colour. */
  spread: number;
  /** Largest mean difference between two sampled frames: 0 for a frozen picture. */
  change: number;
}

/**
 * The worker's whole program. It is turned into text, so it must not use anything outside itself.
 *
 * Takes `{readable}` once or `{frame}` for each, then `{restart: true}` any number of times; posts a report every 50 ms.
 */
export function watchFrames() {
  const SAMPLE_EVERY = 5;
  const scope = self as unknown as DedicatedWorkerGlobalScope;
  const [columns, rows] = [32, 18];
  const sketch = new OffscreenCanvas(columns, rows).getContext('2d', { willReadFrequently: true })!;
  const now = () => performance.timeOrigin + performance.now();
  const fresh = () => ({ frames: 0, longestGap: 0, gapEnded: 0, mean: [0, 0, 0] as [number, number, number], spread: 0, change: 0 });

  const sizes: FrameReport['sizes'] = [];
  let window = fresh();
  let size = { width: 0, height: 0 };
  let last: number | undefined;
  let total = 0;
  let before: Uint8ClampedArray | undefined;

  const sample = (frame: VideoFrame) => {
    sketch.drawImage(frame, 0, 0, columns, rows);
    const { data } = sketch.getImageData(0, 0, columns, rows);
    const pixels = columns * rows;
    const sum = [0, 0, 0];
    let [light, square, difference] = [0, 0, 0];
    for (let at = 0; at < data.length; at += 4) {
      const grey = (data[at] + data[at + 1] + data[at + 2]) / 3;
      light += grey;
      square += grey * grey;
      for (let part = 0; part < 3; part += 1) {
        sum[part] += data[at + part];
        difference += before ? Math.abs(data[at + part] - before[at + part]) / 3 : 0;
      }
    }
    window.mean = [sum[0] / pixels, sum[1] / pixels, sum[2] / pixels];
    window.spread = Math.max(window.spread, Math.sqrt(Math.max(0, square / pixels - (light / pixels) ** 2)));
    window.change = Math.max(window.change, difference / pixels);
    before = data;
  };

  const see = (frame: VideoFrame) => {
    const at = now();
    if (last !== undefined && at - last > window.longestGap) [window.longestGap, window.gapEnded] = [at - last, at];
    last = at;
    if (frame.displayWidth !== size.width || frame.displayHeight !== size.height) {
      size = { width: frame.displayWidth, height: frame.displayHeight };
      sizes.push({ at, ...size });
    }
    if (total % SAMPLE_EVERY === 0) sample(frame);
    total += 1;
    window.frames += 1;
    frame.close();
  };

  const read = async (readable: ReadableStream<VideoFrame>) => {
    const reader = readable.getReader();
    for (;;) {
      const { value: frame, done } = await reader.read();
      if (done || !frame) return;
      see(frame);
    }
  };

  scope.onmessage = ({ data }) => {
    if (data.restart) {
      window = fresh();
      last = last === undefined ? undefined : now();
    } else if (data.frame) {
      see(data.frame as VideoFrame);
    } else {
      void read(data.readable as ReadableStream<VideoFrame>);
    }
  };
  setInterval(() => {
    const open = last === undefined ? 0 : now() - last;
    const gap = open > window.longestGap ? { longestGap: open, gapEnded: now() } : {};
    scope.postMessage({ ...window, ...size, ...gap, sizes } satisfies FrameReport);
  }, 50);
}
