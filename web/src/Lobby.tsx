import { MediaDeviceMenu, usePreviewTracks } from '@livekit/components-react';
import { Track, type LocalAudioTrack, type LocalVideoTrack } from 'livekit-client';
import { useEffect, useMemo, useRef, useState, type FormEvent } from 'react';

/** What somebody chose before entering. */
export interface Choices {
  name: string;
  room: string;
  camera: boolean;
  microphone: boolean;
  cameraId?: string;
  microphoneId?: string;
}

const REMEMBERED = 'sluice.choices';

interface Props {
  busy: boolean;
  notice?: string;
  onJoin: (choices: Choices) => void;
}

export function Lobby({ busy, notice, onJoin }: Props) {
  const [choices, setChoices] = useState<Choices>(remembered);
  const [trouble, setTrouble] = useState<string>();
  const change = (part: Partial<Choices>) => setChoices((now) => ({ ...now, ...part }));

  const tracks = usePreviewTracks(
    useMemo(
      () => ({
        audio: choices.microphone ? { deviceId: choices.microphoneId } : false,
        video: choices.camera ? { deviceId: choices.cameraId } : false,
      }),
      [choices.camera, choices.cameraId, choices.microphone, choices.microphoneId],
    ),
    (error) => setTrouble(`No access to camera or microphone: ${error.message}`),
  );
  const video = tracks?.find((track) => track.kind === Track.Kind.Video) as LocalVideoTrack | undefined;
  const audio = tracks?.find((track) => track.kind === Track.Kind.Audio) as LocalAudioTrack | undefined;

  function submit(event: FormEvent) {
    event.preventDefault();
    localStorage.setItem(REMEMBERED, JSON.stringify(choices));
    tracks?.forEach((track) => track.stop());
    onJoin({ ...choices, name: choices.name.trim(), room: choices.room.trim() });
  }

  return (
    <main className="lobby" data-lk-theme="default">
      <header>
        <Mark />
        <h1>Sluice</h1>
        <p>Pick a name and a room, check how you look, and come in.</p>
      </header>
      <form className="lobby-card" onSubmit={submit}>
        <Preview video={video} wanted={choices.camera} name={choices.name} />
        <div className="lobby-devices">
          <DeviceButton
            label="Microphone"
            kind="audioinput"
            on={choices.microphone}
            onToggle={(microphone) => change({ microphone })}
            onSelect={(microphoneId) => change({ microphoneId })}
            track={audio}
          />
          <DeviceButton
            label="Camera"
            kind="videoinput"
            on={choices.camera}
            onToggle={(camera) => change({ camera })}
            onSelect={(cameraId) => change({ cameraId })}
            track={video}
          />
        </div>
        <label>
          Your name
          <input
            name="name"
            value={choices.name}
            onChange={(event) => change({ name: event.target.value })}
            placeholder="Ada"
            maxLength={64}
            autoComplete="name"
            autoFocus
            required
          />
        </label>
        <label>
          Room
          <input
            name="room"
            value={choices.room}
            onChange={(event) => change({ room: event.target.value })}
            placeholder="garden"
            maxLength={128}
            autoComplete="off"
            required
          />
        </label>
        {(notice ?? trouble) && (
          <p className="lobby-notice" role="alert">
            {notice ?? trouble}
          </p>
        )}
        <button className="lobby-join" type="submit" disabled={busy || !choices.name.trim() || !choices.room.trim()}>
          {busy ? 'Joining…' : 'Join'}
        </button>
      </form>
    </main>
  );
}

function Preview({ video, wanted, name }: { video?: LocalVideoTrack; wanted: boolean; name: string }) {
  const element = useRef<HTMLVideoElement>(null);
  useEffect(() => {
    const target = element.current;
    if (!target || !video) return;
    video.attach(target);
    return () => {
      video.detach(target);
    };
  }, [video]);
  return (
    <div className="lobby-preview">
      {wanted ? (
        <video ref={element} muted playsInline autoPlay data-testid="preview" />
      ) : (
        <span className="initial">{name.trim().charAt(0).toUpperCase() || '?'}</span>
      )}
    </div>
  );
}

interface DeviceButtonProps {
  label: string;
  kind: MediaDeviceKind;
  on: boolean;
  onToggle: (on: boolean) => void;
  onSelect: (id: string) => void;
  track?: LocalAudioTrack | LocalVideoTrack;
}

function DeviceButton({ label, kind, on, onToggle, onSelect, track }: DeviceButtonProps) {
  return (
    <div className="lk-button-group">
      <button type="button" className="lk-button" aria-pressed={on} onClick={() => onToggle(!on)}>
        {label} {on ? 'on' : 'off'}
      </button>
      <div className="lk-button-group-menu">
        <MediaDeviceMenu
          kind={kind}
          disabled={!on}
          tracks={{ [kind]: track }}
          onActiveDeviceChange={(_, id) => onSelect(id)}
        />
      </div>
    </div>
  );
}

export function Mark() {
  return (
    <svg className="mark" viewBox="0 0 32 32" aria-hidden="true">
      <rect width="32" height="32" rx="8" />
      <path d="M7 12c3-3 6-3 9 0s6 3 9 0M7 20c3-3 6-3 9 0s6 3 9 0" />
    </svg>
  );
}

/** The last choices on this device; a room in the address (`?room=…`) wins. */
function remembered(): Choices {
  const defaults: Choices = { name: '', room: '', camera: true, microphone: true };
  const query = new URLSearchParams(location.search);
  let saved: Partial<Choices> = {};
  try {
    saved = JSON.parse(localStorage.getItem(REMEMBERED) ?? '{}') as Partial<Choices>;
  } catch {
    // Somebody else's value under our name: start afresh.
  }
  const choices = { ...defaults, ...saved };
  return { ...choices, room: query.get('room') ?? choices.room, name: query.get('name') ?? choices.name };
}
