/** Watches what a remote track brings: every decoded frame, and the spectrum of the sound. */
import type { RemoteTrack } from 'livekit-client';

import { watchFrames, type FrameReport } from './frames';

// Chromium's, not yet in the standard typings.
declare const MediaStreamTrackProcessor: new (init: { track: MediaStreamTrack }) => { readable: ReadableStream };

/** Frames are read in a worker, so that a busy page does not look like a frozen picture. */
export class VideoWatch {
  private readonly worker: Worker;
  private report: Partial<FrameReport> = {};

  constructor(track: RemoteTrack) {
    const source = new Blob([`(${watchFrames.toString()})()`], { type: 'text/javascript' });
    this.worker = new Worker(URL.createObjectURL(source));
    this.worker.onmessage = ({ data }: MessageEvent<FrameReport>) => (this.report = data);
    const { readable } = new MediaStreamTrackProcessor({ track: track.mediaStreamTrack.clone() });
    this.worker.postMessage({ readable }, [readable]);
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

export class AudioWatch {
  private readonly context = new AudioContext({ sampleRate: 48000 });
  private readonly analyser = new AnalyserNode(this.context, { fftSize: 16384, smoothingTimeConstant: 0 });

  constructor(track: RemoteTrack) {
    this.context.createMediaStreamSource(new MediaStream([track.mediaStreamTrack])).connect(this.analyser);
    void this.context.resume();
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
      rms: Math.sqrt(samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length),
    };
  }

  restart() {}

  stop() {
    void this.context.close();
  }
}
