import { useState } from 'react';

import { Lobby, type Choices } from './Lobby';
import { Meeting } from './Meeting';
import { ticketFor, type Ticket } from './token';

type Stage =
  | { at: 'lobby'; notice?: string }
  | { at: 'joining' }
  | { at: 'meeting'; ticket: Ticket; choices: Choices };

export function App() {
  const [stage, setStage] = useState<Stage>({ at: 'lobby' });

  async function join(choices: Choices) {
    setStage({ at: 'joining' });
    try {
      const ticket = await ticketFor(choices.room, choices.name);
      setStage({ at: 'meeting', ticket, choices });
    } catch (error) {
      setStage({ at: 'lobby', notice: error instanceof Error ? error.message : String(error) });
    }
  }

  if (stage.at === 'meeting') {
    return <Meeting {...stage} onLeave={(notice) => setStage({ at: 'lobby', notice })} />;
  }
  return (
    <Lobby busy={stage.at === 'joining'} notice={stage.at === 'lobby' ? stage.notice : undefined} onJoin={join} />
  );
}
