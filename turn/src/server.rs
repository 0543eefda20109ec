//! The server: what each packet of a client's and of media's leads to (RFC 8656).

use std::collections::{HashSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use ring::hmac;
use turn_config::Secret;

use crate::allocation::{Allocation, AllocationId, Allocations, Client};
use crate::auth::{Authority, Challenge, Denial, User};
use crate::message::{Class, Message, Method, Packet, TransactionId, kind};
use crate::stats::{Drop, Refusal, Stats};
use crate::writer::{MessageWriter, write_channel_data};

/// RFC 8656 §7.2: the default, and the least.
const LIFETIME: u32 = 600;
/// The most.
const MAX_LIFETIME: u32 = 3600;
/// Those of RFC 5766 §11, since clients of its time use them all; RFC 8656 §12 reserves what is above 0x4fff for telling protocols apart on
/// one socket, which is no question here.
const CHANNELS: std::ops::RangeInclusive<u16> = 0x4000..=0x7ffe;
/// IANA's number of UDP.
const UDP: u8 = 17;

/// Both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// For lifetimes.
    pub now: Instant,
    /// Seconds since the Unix epoch, for credentials and nonces.
    pub unix_s: u64,
}

/// How many allocations there may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Together.
    pub allocations: usize,
    /// Of one user.
    pub per_user: usize,
    /// From one address; an IPv6 /64 counts as one.
    pub per_address: usize,
}

/// What a server begins with.
#[derive(Clone, Debug)]
pub struct Config {
    /// With which credentials are made and checked.
    pub secret: Secret,
    /// Random bytes that nobody may guess, for nonces.
    pub nonce_key: [u8; 32],
    /// For transaction ids of indications.
    pub seed: u64,
    /// Bounds.
    pub limits: Limits,
    /// The only peers: our media addresses as clients are told them.
    pub media: Vec<SocketAddr>,
}

/// What to do with a client's packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action<'a> {
    /// Nothing.
    Nothing,
    /// Send the client what was written to `out`.
    Reply,
    /// Open a socket, then call [`Server::bound`].
    Bind {
        /// For this allocation.
        allocation: AllocationId,
        /// Of IPv4, or else of IPv6.
        is_v4: bool,
        /// With a port that is even.
        even: bool,
    },
    /// Send `payload` from the allocation's socket to the peer.
    Relay {
        /// Whose socket.
        allocation: AllocationId,
        /// One of [`Config::media`].
        peer: SocketAddr,
        /// What.
        payload: &'a [u8],
    },
}

/// A TURN server; see the crate's page for how to drive it.
pub struct Server {
    authority: Authority,
    limits: Limits,
    media: HashSet<SocketAddr>,
    media_ips: HashSet<IpAddr>,
    allocations: Allocations,
    /// Waiting for its socket: how its answer is signed.
    opening: Option<Opening>,
    closed: VecDeque<AllocationId>,
    rng: fastrand::Rng,
    stats: Stats,
}

struct Opening {
    id: AllocationId,
    key: hmac::Key,
    fingerprint: bool,
}

/// What an authenticated request led to, when it was not refused.
enum Done {
    Reply,
    Bind { id: AllocationId, is_v4: bool, even: bool },
}

/// An authenticated request, and how to answer it.
struct Request<'a, 'b> {
    message: &'b Message<'a>,
    method: Method,
    user: User<'a>,
}

impl Request<'_, '_> {
    fn succeed(&self, out: &mut Vec<u8>, fill: impl FnOnce(&mut MessageWriter<'_>)) {
        let mut reply = MessageWriter::start(out, self.method, Class::Success, self.message.transaction);
        fill(&mut reply);
        finish(&mut reply, &self.user.key, self.message.has_fingerprint());
    }

    fn refuse(&self, out: &mut Vec<u8>, code: u16, unknown: &[u16]) {
        let mut reply = MessageWriter::start(out, self.method, Class::Error, self.message.transaction);
        reply.error_code(code);
        if !unknown.is_empty() {
            let kinds: Vec<u8> = unknown.iter().flat_map(|kind| kind.to_be_bytes()).collect();
            reply.attribute(kind::UNKNOWN_ATTRIBUTES, &kinds);
        }
        finish(&mut reply, &self.user.key, self.message.has_fingerprint());
    }
}

fn finish(reply: &mut MessageWriter<'_>, key: &hmac::Key, fingerprint: bool) {
    reply.sign(key);
    if fingerprint {
        reply.fingerprint();
    }
    reply.finish();
}

/// Understood in requests; all else below 0x8000 is answered with 420.
const KNOWN: [u16; 14] = [
    kind::USERNAME,
    kind::MESSAGE_INTEGRITY,
    kind::ERROR_CODE,
    kind::UNKNOWN_ATTRIBUTES,
    kind::CHANNEL_NUMBER,
    kind::LIFETIME,
    kind::XOR_PEER_ADDRESS,
    kind::DATA,
    kind::REALM,
    kind::NONCE,
    kind::REQUESTED_ADDRESS_FAMILY,
    kind::EVEN_PORT,
    kind::REQUESTED_TRANSPORT,
    kind::RESERVATION_TOKEN,
];

/// RFC 8656 §19, RFC 8489 §14.8.
const fn code(why: Refusal) -> u16 {
    match why {
        Refusal::Malformed => 400,
        Refusal::WrongCredential | Refusal::Expired => 401,
        Refusal::ForbiddenPeer => 403,
        Refusal::UnknownAttribute => 420,
        Refusal::Mismatch => 437,
        Refusal::StaleNonce => 438,
        Refusal::Family => 443,
        Refusal::WrongUser => 441,
        Refusal::Transport => 442,
        Refusal::UserQuota | Refusal::AddressQuota => 486,
        Refusal::Capacity | Refusal::Reservation | Refusal::Socket => 508,
    }
}

impl Server {
    /// Without allocations.
    pub fn new(config: Config) -> Server {
        Server {
            authority: Authority::new(config.secret, &config.nonce_key),
            limits: config.limits,
            media_ips: config.media.iter().map(SocketAddr::ip).collect(),
            media: config.media.into_iter().collect(),
            allocations: Allocations::default(),
            opening: None,
            closed: VecDeque::new(),
            rng: fastrand::Rng::with_seed(config.seed),
            stats: Stats::default(),
        }
    }

    /// What it has counted.
    pub const fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Takes a packet: a datagram, or what [`crate::first_packet`] has cut from a stream. Answers go to `out`.
    pub fn handle_client<'a>(
        &mut self,
        clock: Clock,
        client: Client,
        bytes: &'a [u8],
        out: &mut Vec<u8>,
    ) -> Action<'a> {
        out.clear();
        match Packet::read(bytes) {
            Err(_) => self.drop(Drop::Malformed),
            Ok(Packet::ChannelData { channel, payload }) => {
                self.relay(client, payload, |allocation| allocation.peer_of(clock.now, channel))
            }
            Ok(Packet::Message(message)) => match (message.class, message.method) {
                (Class::Indication, Some(Method::Send)) => self.send(clock, client, &message),
                (Class::Request, Some(Method::Binding)) => self.binding(client, &message, out),
                (
                    Class::Request,
                    Some(
                        method @ (Method::Allocate
                        | Method::Refresh
                        | Method::CreatePermission
                        | Method::ChannelBind),
                    ),
                ) => self.request(clock, client, &message, method, out),
                (Class::Request, Some(Method::Send | Method::Data) | None) => {
                    self.refuse_stranger(&message, Refusal::Malformed, out)
                }
                (Class::Indication | Class::Success | Class::Error, _) => self.drop(Drop::Malformed),
            },
        }
    }

    /// The socket that [`Action::Bind`] asked for is open, or could not be. Writes the answer to the client.
    pub fn bound(&mut self, allocation: AllocationId, relayed: Option<SocketAddr>, out: &mut Vec<u8>) {
        out.clear();
        let Some(opening) = self.opening.take_if(|opening| opening.id == allocation) else { return };
        let Some(open) = self.allocations.get_mut(allocation) else { return };
        let (client, transaction) = (open.client, open.transaction);
        if let Some(relayed) = relayed {
            open.relayed = Some(relayed);
            self.stats.allocated[client.transport as usize] += 1;
            self.stats.allocations[client.transport as usize] += 1;
            let mut reply = MessageWriter::start(out, Method::Allocate, Class::Success, transaction);
            write_allocated(&mut reply, relayed, client.remote, open.lifetime);
            finish(&mut reply, &opening.key, opening.fingerprint);
        } else {
            self.allocations.remove(allocation);
            self.stats.refuse(Refusal::Socket);
            let mut reply = MessageWriter::start(out, Method::Allocate, Class::Error, transaction);
            reply.error_code(code(Refusal::Socket));
            finish(&mut reply, &opening.key, opening.fingerprint);
        }
    }

    /// A datagram came to an allocation's socket from `peer`, one of [`Config::media`]. Gives the client for whom `out` is.
    pub fn handle_peer(
        &mut self,
        now: Instant,
        allocation: AllocationId,
        peer: SocketAddr,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Option<Client> {
        let open = self.allocations.get(allocation)?;
        if let Some(channel) = open.channel_of(now, peer) {
            write_channel_data(out, channel, payload, open.client.transport.is_stream());
        } else if open.permits(now, peer.ip()) && self.media.contains(&peer) {
            let transaction = TransactionId(std::array::from_fn(|_| self.rng.u8(..)));
            let mut data = MessageWriter::start(out, Method::Data, Class::Indication, transaction);
            data.address(kind::XOR_PEER_ADDRESS, peer).attribute(kind::DATA, payload).finish();
        } else {
            self.stats.drop(Drop::NoPermission);
            return None;
        }
        self.stats.outward.add(payload.len());
        Some(open.client)
    }

    /// A client's connection is gone, and so is its allocation.
    pub fn disconnected(&mut self, client: &Client) {
        if let Some(id) = self.allocations.id_of(client) {
            self.end(id);
        }
    }

    /// Whether a client has an allocation.
    pub fn has_allocation(&self, client: &Client) -> bool {
        self.allocations.id_of(client).is_some()
    }

    /// Ends allocations that were not refreshed.
    pub fn handle_timeout(&mut self, now: Instant) {
        let over = self.allocations.iter().filter(|(_, allocation)| allocation.expires <= now);
        for id in over.map(|(id, _)| id).collect::<Vec<_>>() {
            self.end(id);
        }
    }

    /// When the next allocation ends.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.allocations.iter().map(|(_, allocation)| allocation.expires).min()
    }

    /// The next allocation that has ended, whose socket is to be closed.
    pub fn poll_closed(&mut self) -> Option<AllocationId> {
        self.closed.pop_front()
    }

    fn end(&mut self, id: AllocationId) {
        if let Some(gone) = self.allocations.remove(id) {
            if gone.relayed.is_some() {
                self.stats.allocations[gone.client.transport as usize] -= 1;
            }
            self.closed.push_back(id);
        }
    }

    fn drop<'a>(&mut self, why: Drop) -> Action<'a> {
        self.stats.drop(why);
        Action::Nothing
    }

    fn relay<'a>(
        &mut self,
        client: Client,
        payload: &'a [u8],
        peer: impl FnOnce(&Allocation) -> Option<SocketAddr>,
    ) -> Action<'a> {
        let Some(id) = self.allocations.id_of(&client) else { return self.drop(Drop::NoAllocation) };
        match self.allocations.get(id).and_then(peer) {
            Some(peer) => {
                self.stats.inward.add(payload.len());
                Action::Relay { allocation: id, peer, payload }
            }
            None => self.drop(Drop::NoPermission),
        }
    }

    fn send<'a>(&mut self, clock: Clock, client: Client, message: &Message<'a>) -> Action<'a> {
        let peer = message.addresses(kind::XOR_PEER_ADDRESS).next().flatten();
        let (Some(peer), Some(data)) = (peer, message.attribute(kind::DATA)) else {
            return self.drop(Drop::Malformed);
        };
        if !message.unknown(&KNOWN).kinds().is_empty() {
            return self.drop(Drop::Malformed);
        }
        let is_media = self.media.contains(&peer);
        self.relay(client, data, |allocation| {
            (is_media && allocation.permits(clock.now, peer.ip())).then_some(peer)
        })
    }

    /// Address discovery (RFC 8489 §2), for requests that are long enough for the answer.
    fn binding<'a>(&mut self, client: Client, message: &Message<'_>, out: &mut Vec<u8>) -> Action<'a> {
        let mut reply = MessageWriter::start(out, Method::Binding, Class::Success, message.transaction);
        let mapped = SocketAddr::new(client.remote.ip().to_canonical(), client.remote.port());
        reply.address(kind::XOR_MAPPED_ADDRESS, mapped).finish();
        if client.transport.is_stream() || out.len() <= message.length() * 3 / 2 {
            return Action::Reply;
        }
        self.refuse_stranger(message, Refusal::Malformed, out)
    }

    fn request<'a>(
        &mut self,
        clock: Clock,
        client: Client,
        message: &Message<'_>,
        method: Method,
        out: &mut Vec<u8>,
    ) -> Action<'a> {
        let begins = method == Method::Allocate && self.allocations.id_of(&client).is_none();
        let user = match self.authority.authenticate(clock, &client, message, begins) {
            Ok(user) => user,
            Err(Denial::Unsigned) => {
                self.stats.challenged += 1;
                return self.challenge(clock, client, message, 401, out);
            }
            Err(Denial::Refused(Refusal::Malformed)) => {
                return self.refuse_stranger(message, Refusal::Malformed, out);
            }
            Err(Denial::Refused(why)) => {
                self.stats.refuse(why);
                return self.challenge(clock, client, message, code(why), out);
            }
        };
        let request = Request { message, method, user };
        let unknown = message.unknown(&KNOWN);
        if !unknown.kinds().is_empty() {
            self.stats.refuse(Refusal::UnknownAttribute);
            request.refuse(out, code(Refusal::UnknownAttribute), unknown.kinds());
            return Action::Reply;
        }
        let done = match method {
            Method::Allocate => self.allocate(clock.now, client, &request, out),
            Method::Refresh => self.refresh(clock.now, client, &request, out),
            Method::CreatePermission => self.create_permission(clock.now, client, &request, out),
            Method::ChannelBind => self.channel_bind(clock.now, client, &request, out),
            Method::Binding | Method::Send | Method::Data => Err(Refusal::Malformed),
        };
        match done {
            Ok(Done::Reply) => Action::Reply,
            Ok(Done::Bind { id: allocation, is_v4, even }) => {
                let fingerprint = message.has_fingerprint();
                self.opening = Some(Opening { id: allocation, key: request.user.key, fingerprint });
                Action::Bind { allocation, is_v4, even }
            }
            Err(why) => {
                self.stats.refuse(why);
                // RFC 8656 §7.2: a family that no allocation can have is told from one that this one has not.
                let code = if why == Refusal::Family && method == Method::Allocate { 440 } else { code(why) };
                request.refuse(out, code, &[]);
                Action::Reply
            }
        }
    }

    /// Tells somebody how to bring a credential.
    fn challenge<'a>(
        &mut self,
        clock: Clock,
        client: Client,
        message: &Message<'_>,
        code: u16,
        out: &mut Vec<u8>,
    ) -> Action<'a> {
        let Some(challenge) = Challenge::within(message.length(), client.transport.is_stream()) else {
            return self.refuse_stranger(message, Refusal::Malformed, out);
        };
        let nonce = self.authority.nonce(clock, &client, challenge);
        let mut reply = MessageWriter::start_raw(out, message.raw_method, Class::Error, message.transaction);
        reply.error_code(code);
        reply.attribute(kind::REALM, challenge.realm().as_bytes()).attribute(kind::NONCE, &nonce).finish();
        Action::Reply
    }

    /// An error and no more, for somebody who has not proved anything.
    fn refuse_stranger<'a>(&mut self, message: &Message<'_>, why: Refusal, out: &mut Vec<u8>) -> Action<'a> {
        self.stats.refuse(why);
        let mut reply = MessageWriter::start_raw(out, message.raw_method, Class::Error, message.transaction);
        reply.error_code(code(why)).finish();
        self.bounded(message, out)
    }

    /// Whoever forges the source address gains little by it.
    fn bounded<'a>(&mut self, request: &Message<'_>, out: &[u8]) -> Action<'a> {
        if out.len() <= request.length() * 3 / 2 { Action::Reply } else { self.drop(Drop::TooLarge) }
    }

    /// RFC 8656 §7.2.
    fn allocate(
        &mut self,
        now: Instant,
        client: Client,
        request: &Request<'_, '_>,
        out: &mut Vec<u8>,
    ) -> Result<Done, Refusal> {
        let message = request.message;
        if let Some(open) = self.allocations.id_of(&client).and_then(|id| self.allocations.get(id)) {
            let relayed = open.relayed.filter(|_| open.transaction == message.transaction);
            let relayed = relayed.ok_or(Refusal::Mismatch)?;
            if open.username != request.user.username {
                return Err(Refusal::WrongUser);
            }
            let left = open.expires.saturating_duration_since(now).as_secs();
            request.succeed(out, |reply| write_allocated(reply, relayed, client.remote, left as u32));
            return Ok(Done::Reply);
        }
        match message.attribute(kind::REQUESTED_TRANSPORT) {
            Some([UDP, _, _, _]) => {}
            Some([_, _, _, _]) => return Err(Refusal::Transport),
            Some(_) | None => return Err(Refusal::Malformed),
        }
        // The first bit asks to reserve the next port (RFC 8656 §18.5).
        let even = message.attribute(kind::EVEN_PORT);
        if even.is_some_and(|even| even.first().is_none_or(|first| first & 0x80 != 0))
            || message.attribute(kind::RESERVATION_TOKEN).is_some()
        {
            return Err(Refusal::Reservation);
        }
        let is_v4 = match message.attribute(kind::REQUESTED_ADDRESS_FAMILY) {
            None | Some([1, _, _, _]) => true,
            Some([2, _, _, _]) => false,
            Some(_) => return Err(Refusal::Family),
        };
        if !self.media_ips.iter().any(|ip| ip.is_ipv4() == is_v4) {
            return Err(Refusal::Family);
        }
        let Limits { allocations, per_user, per_address } = self.limits;
        if self.allocations.of_user(request.user.name) >= per_user {
            return Err(Refusal::UserQuota);
        }
        if self.allocations.of_address(client.remote.ip()) >= per_address {
            return Err(Refusal::AddressQuota);
        }
        if self.allocations.len() >= allocations {
            return Err(Refusal::Capacity);
        }
        let lifetime = message.number(kind::LIFETIME).unwrap_or(LIFETIME).clamp(LIFETIME, MAX_LIFETIME);
        let id = self.allocations.add(Allocation::new(
            client,
            request.user.username,
            request.user.name,
            is_v4,
            message.transaction,
            lifetime,
            now,
        ));
        Ok(Done::Bind { id, is_v4, even: even.is_some() })
    }

    /// The client's allocation, if it is this user's.
    fn own(
        &mut self,
        client: Client,
        request: &Request<'_, '_>,
    ) -> Result<(AllocationId, &mut Allocation), Refusal> {
        let id = self.allocations.id_of(&client).ok_or(Refusal::Mismatch)?;
        let open = self.allocations.get_mut(id).ok_or(Refusal::Mismatch)?;
        if open.username != request.user.username {
            return Err(Refusal::WrongUser);
        }
        Ok((id, open))
    }

    /// RFC 8656 §8.2.
    fn refresh(
        &mut self,
        now: Instant,
        client: Client,
        request: &Request<'_, '_>,
        out: &mut Vec<u8>,
    ) -> Result<Done, Refusal> {
        let wanted = request.message.number(kind::LIFETIME).unwrap_or(LIFETIME);
        let family = request.message.attribute(kind::REQUESTED_ADDRESS_FAMILY);
        let (id, open) = self.own(client, request)?;
        if family.is_some_and(|family| family.first() != Some(if open.is_v4 { &1 } else { &2 })) {
            return Err(Refusal::Family);
        }
        let lifetime = if wanted == 0 { 0 } else { wanted.clamp(LIFETIME, MAX_LIFETIME) };
        open.expires = now + Duration::from_secs(lifetime.into());
        if lifetime == 0 {
            self.end(id);
        }
        request.succeed(out, |reply| {
            reply.attribute(kind::LIFETIME, &lifetime.to_be_bytes());
        });
        Ok(Done::Reply)
    }

    /// RFC 8656 §10.2: all of the addresses or none.
    fn create_permission(
        &mut self,
        now: Instant,
        client: Client,
        request: &Request<'_, '_>,
        out: &mut Vec<u8>,
    ) -> Result<Done, Refusal> {
        let is_v4 = self.own(client, request)?.1.is_v4;
        let mut peers = Vec::new();
        for peer in request.message.addresses(kind::XOR_PEER_ADDRESS) {
            let ip = peer.ok_or(Refusal::Malformed)?.ip();
            check_peer(is_v4, ip, self.media_ips.contains(&ip))?;
            peers.push(ip);
        }
        if peers.is_empty() {
            return Err(Refusal::Malformed);
        }
        let (_, open) = self.own(client, request)?;
        for ip in peers {
            open.permit(now, ip)?;
        }
        request.succeed(out, |_| {});
        Ok(Done::Reply)
    }

    /// RFC 8656 §12.2.
    fn channel_bind(
        &mut self,
        now: Instant,
        client: Client,
        request: &Request<'_, '_>,
        out: &mut Vec<u8>,
    ) -> Result<Done, Refusal> {
        let is_v4 = self.own(client, request)?.1.is_v4;
        let message = request.message;
        let number = match message.attribute(kind::CHANNEL_NUMBER) {
            Some(&[high, low, _, _]) => u16::from_be_bytes([high, low]),
            Some(_) | None => return Err(Refusal::Malformed),
        };
        let peer = message.addresses(kind::XOR_PEER_ADDRESS).next().flatten().ok_or(Refusal::Malformed)?;
        if !CHANNELS.contains(&number) {
            return Err(Refusal::Malformed);
        }
        check_peer(is_v4, peer.ip(), self.media.contains(&peer))?;
        let (_, open) = self.own(client, request)?;
        open.bind(now, number, peer)?;
        request.succeed(out, |_| {});
        Ok(Done::Reply)
    }
}

/// Whether an allocation of that family may have that peer.
fn check_peer(is_v4: bool, ip: IpAddr, is_media: bool) -> Result<(), Refusal> {
    match (ip.is_ipv4() == is_v4, is_media) {
        (true, true) => Ok(()),
        (true, false) => Err(Refusal::ForbiddenPeer),
        (false, _) => Err(Refusal::Family),
    }
}

fn write_allocated(reply: &mut MessageWriter<'_>, relayed: SocketAddr, mapped: SocketAddr, lifetime: u32) {
    let mapped = SocketAddr::new(mapped.ip().to_canonical(), mapped.port());
    reply.address(kind::XOR_RELAYED_ADDRESS, relayed);
    reply.address(kind::XOR_MAPPED_ADDRESS, mapped);
    reply.attribute(kind::LIFETIME, &lifetime.to_be_bytes());
}

#[cfg(test)]
mod tests;
