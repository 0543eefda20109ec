/** Watches what a remote track brings: every decoded frame, and the spectrum of the sound. */
import { watchFrames, type FrameReport } from './frames';

// Chromium's, not yet in the standard typings.
declare const MediaStreamTrackProcessor: new (init: { track: MediaStreamTrack }) => { readable: ReadableStream };

const now = () => performance.timeOrigin + performance.now();

/** A track of livekit-client's, or one in its form. */
export interface Watched {
  mediaStreamTrack: MediaStreamTrack;
}

function rms(samples: Float32Array): number {
  return Math.sqrt(samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length);
}

/** What a track shows, for browsers that let only workers read a track itself, as Firefox does: frames of an element that plays it. */
function play(track: MediaStreamTrack, show: (frame: VideoFrame) => void): void {
  const video = document.createElement('video');
  video.muted = true;
  video.srcObject = new MediaStream([track]);
  document.body.append(video);
  void video.play();
  const take = (_: number, { mediaTime }: VideoFrameCallbackMetadata) => {
    show(new VideoFrame(video, { timestamp: mediaTime * 1e6 }));
    video.requestVideoFrameCallback(take);
  };
  video.requestVideoFrameCallback(take);
}

/** Frames are read in a worker, so that a busy page does not look like a frozen picture. */
export class VideoWatch {
  private readonly worker: Worker;
  private report: Partial<FrameReport> = {};

  constructor(track: Watched) {
    const source = new Blob([`(${watchFrames.toString()})()`], { type: 'text/javascript' });
    this.worker = new Worker(URL.createObjectURL(source));
    this.worker.onmessage = ({ data }: MessageEvent<FrameReport>) => (this.report = data);
    const mediaStreamTrack = track.mediaStreamTrack.clone();
    if ('MediaStreamTrackProcessor' in window) {
      const { readable } = new MediaStreamTrackProcessor({ track: mediaStreamTrack });
      this.worker.postMessage({ readable }, [readable]);
    } else {
      // One by one: a stream that is transferred copies them, and nobody would close what was copied.
      play(mediaStreamTrack, (frame) => this.worker.postMessage({ frame }, [frame]));
    }
  }

  /** As of at most 50 ms ago; the gap that is still open is counted in. */
  seen() {
    return this.report;
  }

  restart() {
    this.report = {};
    this.worker.postMessage({ restart: true });
  }

  stop() {
    this.worker.terminate();
  }
}

/** A tone quieter than this is concealed or gone: NetEq fades out what it makes up. */
const QUIET = 0.02;

export class AudioWatch {
  private readonly context = new AudioContext({ sampleRate: 48000 });
  private readonly analyser = new AnalyserNode(this.context, { fftSize: 16384, smoothingTimeConstant: 0 });

  /** Of the last 20 ms. */
  private readonly ear = new AnalyserNode(this.context, { fftSize: 1024 });
  private readonly timer = setInterval(() => this.listen(), 20);
  private heard = now();
  private gap = { longestGap: 0, gapEnded: 0 };

  constructor(track: Watched) {
    const source = this.context.createMediaStreamSource(new MediaStream([track.mediaStreamTrack]));
    source.connect(this.analyser);
    source.connect(this.ear);
    void this.context.resume();
  }

  private listen() {
    const samples = new Float32Array(this.ear.fftSize);
    this.ear.getFloatTimeDomainData(samples);
    const at = now();
    if (at - this.heard > this.gap.longestGap) this.gap = { longestGap: at - this.heard, gapEnded: at };
    if (rms(samples) > QUIET) this.heard = at;
  }

  /** The strongest frequency of the last third of a second, in hertz, and the root mean square of its samples. */
  seen() {
    const levels = new Float32Array(this.analyser.frequencyBinCount);
    this.analyser.getFloatFrequencyData(levels);
    const loudest = levels.reduce((best, level, at) => (level > levels[best] ? at : best), 0);
    const samples = new Float32Array(this.analyser.fftSize);
    this.analyser.getFloatTimeDomainData(samples);
    return {
      hertz: (loudest * this.context.sampleRate) / this.analyser.fftSize,
      rms: rms(samples),
      ...this.gap,
    };
  }

  restart() {
    this.heard = now();
    this.gap = { longestGap: 0, gapEnded: 0 };
  }

  stop() {
    clearInterval(this.timer);
    void this.context.close();
  }
}
