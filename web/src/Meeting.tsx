import {
  CarouselLayout,
  Chat,
  ConnectionStateToast,
  ControlBar,
  FocusLayout,
  FocusLayoutContainer,
  GridLayout,
  LayoutContextProvider,
  LiveKitRoom,
  ParticipantTile,
  RoomAudioRenderer,
  isTrackReference,
  useCreateLayoutContext,
  useParticipants,
  usePinnedTracks,
  useSpeakingParticipants,
  useTracks,
  type TrackReferenceOrPlaceholder,
} from '@livekit/components-react';
import { DisconnectReason, RoomEvent, Track, type RoomOptions } from 'livekit-client';
import { useEffect, useRef, useState } from 'react';

import { Mark, type Choices } from './Lobby';
import { Statistics } from './Statistics';
import type { Ticket } from './token';

interface Props {
  ticket: Ticket;
  choices: Choices;
  onLeave: (notice?: string) => void;
}

export function Meeting({ ticket, choices, onLeave }: Props) {
  const [options] = useState<RoomOptions>(() => ({
    adaptiveStream: true,
    dynacast: true,
    audioCaptureDefaults: { deviceId: choices.microphoneId },
    videoCaptureDefaults: { deviceId: choices.cameraId },
    // For support: `?v0` joins over the older two-connection protocol.
    singlePeerConnection: !new URLSearchParams(location.search).has('v0'),
  }));
  return (
    <LiveKitRoom
      className="meeting"
      data-lk-theme="default"
      serverUrl={ticket.url}
      token={ticket.token}
      connect
      audio={choices.microphone}
      video={choices.camera}
      options={options}
      onDisconnected={(reason) => onLeave(farewell(reason))}
      onError={(error) => onLeave(error.message)}
    >
      <Stage room={choices.room} token={ticket.token} />
      <RoomAudioRenderer />
      <ConnectionStateToast />
    </LiveKitRoom>
  );
}

type View = 'grid' | 'speaker';

function Stage({ room, token }: { room: string; token: string }) {
  const layout = useCreateLayoutContext();
  const [view, setView] = useState<View>('grid');
  const [chatOpen, setChatOpen] = useState(false);
  const [statisticsOpen, setStatisticsOpen] = useState(false);
  const participants = useParticipants();
  const tracks = useTracks(
    [
      { source: Track.Source.Camera, withPlaceholder: true },
      { source: Track.Source.ScreenShare, withPlaceholder: false },
    ],
    { updateOnlyOn: [RoomEvent.ActiveSpeakersChanged], onlySubscribed: false },
  );
  const focus = useFocus(tracks, usePinnedTracks(layout)[0], view);
  const others = tracks.filter((track) => track !== focus);

  return (
    <LayoutContextProvider
      value={layout}
      onWidgetChange={(state) => setChatOpen(state.showChat)}
    >
      <div className="meeting-main">
        <header className="meeting-bar">
          <Mark />
          <strong>{room}</strong>
          <span className="meeting-count" data-testid="count">
            {participants.length === 1 ? 'only you' : `${participants.length} people`}
          </span>
          <div className="meeting-view" role="group" aria-label="View">
            <button type="button" aria-pressed={view === 'grid'} onClick={() => setView('grid')}>
              Grid
            </button>
            <button type="button" aria-pressed={view === 'speaker'} onClick={() => setView('speaker')}>
              Speaker
            </button>
          </div>
        </header>
        <div className="meeting-stage">
          {focus ? (
            <FocusLayoutContainer>
              <CarouselLayout tracks={others}>
                <ParticipantTile />
              </CarouselLayout>
              <FocusLayout trackRef={focus} />
            </FocusLayoutContainer>
          ) : (
            <GridLayout tracks={tracks}>
              <ParticipantTile />
            </GridLayout>
          )}
        </div>
        <div className="lk-control-bar">
          {/* Its buttons stand in our bar: it takes none of ours. */}
          <ControlBar
            className="meeting-controls"
            variation="minimal"
            controls={{ chat: true, screenShare: true, settings: false }}
          />
          <button
            type="button"
            className="lk-button meeting-statistics"
            aria-label="Statistics"
            aria-pressed={statisticsOpen}
            onClick={() => setStatisticsOpen(!statisticsOpen)}
          >
            <svg viewBox="0 0 16 16" aria-hidden="true">
              <path d="M2 14V9M6 14V4M10 14V7M14 14V2" />
            </svg>
          </button>
        </div>
      </div>
      {statisticsOpen && <Statistics token={token} onClose={() => setStatisticsOpen(false)} />}
      <Chat style={{ display: chatOpen ? 'grid' : 'none' }} />
    </LayoutContextProvider>
  );
}

/** Who fills the stage: a pin, else a shared screen, else in speaker view whoever spoke last. */
function useFocus(
  tracks: TrackReferenceOrPlaceholder[],
  pinned: TrackReferenceOrPlaceholder | undefined,
  view: View,
): TrackReferenceOrPlaceholder | undefined {
  const speaking = useSpeakingParticipants().find((participant) => !participant.isLocal);
  const lastSpeaker = useRef<string>(undefined);
  useEffect(() => {
    if (speaking) lastSpeaker.current = speaking.identity;
  }, [speaking]);

  if (pinned) return tracks.find((track) => same(track, pinned));
  const screen = tracks.find(
    (track) => isTrackReference(track) && track.source === Track.Source.ScreenShare && !track.participant.isLocal,
  );
  if (screen) return screen;
  if (view === 'grid' || tracks.length < 2) return undefined;
  const remote = tracks.filter((track) => !track.participant.isLocal);
  const wanted = speaking?.identity ?? lastSpeaker.current;
  return remote.find((track) => track.participant.identity === wanted) ?? remote[0] ?? tracks[0];
}

function same(a: TrackReferenceOrPlaceholder, b: TrackReferenceOrPlaceholder): boolean {
  return a.participant.identity === b.participant.identity && a.source === b.source;
}

function farewell(reason?: DisconnectReason): string | undefined {
  switch (reason) {
    case DisconnectReason.DUPLICATE_IDENTITY:
      return 'You joined from somewhere else; this place was closed.';
    case DisconnectReason.SERVER_SHUTDOWN:
      return 'The server is being restarted. Join again in a moment.';
    case DisconnectReason.PARTICIPANT_REMOVED:
      return 'You were removed from the room.';
    case DisconnectReason.ROOM_DELETED:
    case DisconnectReason.ROOM_CLOSED:
      return 'The room was closed.';
    case DisconnectReason.JOIN_FAILURE:
      return 'No connection for media could be made. Is UDP blocked here?';
    default:
      return undefined;
  }
}
