/**
 * The server API by way of Node's `livekit-server-sdk`: one JSON request per line in, one JSON answer per line out.
 *
 * Arguments: the server's URL, API key and secret. Request `{id, fn, args}`, answer `{id, ok}` or `{id, error: "code: text"}`;
 * functions and their arguments are those of `api.py`, messages are JSON under the protocol's own field names.
 */
import { createInterface } from 'node:readline';

import { CreateRoomRequest, ParticipantPermission } from '@livekit/protocol';
import { AgentDispatchClient, DataPacket_Kind, EgressClient, RoomServiceClient } from 'livekit-server-sdk';

const [url, key, secret] = process.argv.slice(2);
const rooms = new RoomServiceClient(url, key, secret);
const egress = new EgressClient(url, key, secret);
const agents = new AgentDispatchClient(url, key, secret);

const told = (message) => message.toJson({ useProtoFieldName: true });

const functions = {
  createRoom: async (options) => told(await rooms.createRoom(CreateRoomRequest.fromJson(options))),
  listRooms: async (names) => (await rooms.listRooms(names)).map(told),
  deleteRoom: (name) => rooms.deleteRoom(name),
  updateRoomMetadata: async (name, metadata) => told(await rooms.updateRoomMetadata(name, metadata)),
  listParticipants: async (name) => (await rooms.listParticipants(name)).map(told),
  getParticipant: async (name, identity) => told(await rooms.getParticipant(name, identity)),
  removeParticipant: (name, identity) => rooms.removeParticipant(name, identity),
  moveParticipant: (name, identity, destination) => rooms.moveParticipant(name, identity, destination),
  mutePublishedTrack: async (name, identity, sid, muted) =>
    told(await rooms.mutePublishedTrack(name, identity, sid, muted)),
  updateParticipant: async (name, identity, { permission, ...options }) => {
    const changes = { attributes: {}, ...options };
    if (permission) changes.permission = ParticipantPermission.fromJson(permission);
    return told(await rooms.updateParticipant(name, identity, changes));
  },
  updateSubscriptions: (name, identity, sids, subscribe) => rooms.updateSubscriptions(name, identity, sids, subscribe),
  sendData: (name, text, reliable, to, topic) =>
    rooms.sendData(name, new TextEncoder().encode(text), reliable ? DataPacket_Kind.RELIABLE : DataPacket_Kind.LOSSY, {
      destinationIdentities: to,
      topic,
    }),
  // No function of the SDK's has it yet; its own transport does it.
  performRpc: async (room, destinationIdentity, method, payload, responseTimeoutMs) => {
    const headers = await rooms.authHeader({ roomAdmin: true, room });
    const request = { room, destinationIdentity, method, payload, responseTimeoutMs };
    return (await rooms.rpc.request('RoomService', 'PerformRpc', request, headers)).payload;
  },
  listEgress: () => egress.listEgress(),
  createDispatch: async (room, agent, metadata) => told(await agents.createDispatch(room, agent, { metadata })),
  deleteDispatch: (id, room) => agents.deleteDispatch(id, room),
  listDispatch: async (room) => (await agents.listDispatch(room)).map(told),
};

console.log(JSON.stringify({ ready: true }));
for await (const line of createInterface({ input: process.stdin })) {
  const { id, fn, args } = JSON.parse(line);
  try {
    console.log(JSON.stringify({ id, ok: (await functions[fn](...args)) ?? null }));
  } catch (error) {
    console.log(JSON.stringify({ id, error: `${error.code ?? error.name}: ${error.message}` }));
  }
}
