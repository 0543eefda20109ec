/** Cameras and microphones without devices: a painted picture that gives encoders real work, and a sine. */

export interface CameraOptions {
  width: number;
  height: number;
  fps: number;
  /** Fills the picture; without it, moving bands of all colours under noise. */
  rgb?: [number, number, number];
}

const NOISE_TILES = 4;

/** Tiles of grey noise, made once: drawing them at changing places is cheap, and no encoder can predict them. */
function noiseTiles(size: number): HTMLCanvasElement[] {
  return Array.from({ length: NOISE_TILES }, () => {
    const tile = document.createElement('canvas');
    tile.width = tile.height = size;
    const context = tile.getContext('2d')!;
    const image = context.createImageData(size, size);
    for (let at = 0; at < image.data.length; at += 4) {
      const grey = Math.random() * 255;
      image.data.set([grey, grey, grey, 12], at);
    }
    context.putImageData(image, 0, 0);
    return tile;
  });
}

export function paintedCamera({ width, height, fps, rgb }: CameraOptions): MediaStreamTrack {
  const canvas = document.createElement('canvas');
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext('2d', { alpha: false })!;
  const tileSize = 256;
  const tiles = noiseTiles(tileSize);
  let frame = 0;
  const paint = () => {
    frame += 1;
    if (rgb) {
      context.fillStyle = `rgb(${rgb.join(' ')})`;
      context.fillRect(0, 0, width, height);
      // A small moving mark, so that the stream is not frozen by any measure.
      context.fillStyle = 'white';
      context.fillRect((frame * 4) % width, height - 8, 8, 8);
      return;
    }
    const bands = 8;
    for (let band = 0; band < bands; band += 1) {
      context.fillStyle = `hsl(${(band * 45 + frame * 3) % 360} 80% 50%)`;
      context.fillRect(0, (band * height) / bands, width, height / bands + 1);
    }
    const shift = (frame * 37) % tileSize;
    for (let x = -shift; x < width; x += tileSize) {
      for (let y = -shift; y < height; y += tileSize) {
        context.drawImage(tiles[frame % NOISE_TILES], x, y);
      }
    }
  };
  paint();
  setInterval(paint, 1000 / fps);
  return canvas.captureStream(fps).getVideoTracks()[0];
}

export async function tone(hertz: number): Promise<MediaStreamTrack> {
  const audio = new AudioContext({ sampleRate: 48000 });
  await audio.resume();
  const oscillator = new OscillatorNode(audio, { frequency: hertz });
  const volume = new GainNode(audio, { gain: 0.5 });
  const out = audio.createMediaStreamDestination();
  oscillator.connect(volume).connect(out);
  oscillator.start();
  return out.stream.getAudioTracks()[0];
}
