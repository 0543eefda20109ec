//! Allocations: whose they are, how long they live, and whom they let in (RFC 8656 §6, §9, §12).

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::message::TransactionId;
use crate::stats::Refusal;

/// RFC 8656 §9.
const PERMISSION_LIFETIME: Duration = Duration::from_mins(5);
/// RFC 8656 §12.
const CHANNEL_LIFETIME: Duration = Duration::from_mins(10);
/// Peers are our media addresses: some interfaces times some workers. A client pairs with those of one worker.
const MAX_PERMISSIONS: usize = 32;
/// The same.
const MAX_CHANNELS: usize = 32;

/// How a client reaches us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// `turn:…?transport=udp`
    Udp,
    /// `turn:…?transport=tcp`
    Tcp,
    /// `turns:…?transport=tcp`
    Tls,
}

impl Transport {
    /// All, in the order of counters.
    pub const ALL: [Transport; 3] = [Transport::Udp, Transport::Tcp, Transport::Tls];

    /// A name for metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
            Transport::Tls => "tls",
        }
    }

    pub(crate) const fn is_stream(self) -> bool {
        !matches!(self, Transport::Udp)
    }
}

/// The 5-tuple that names a client (RFC 8656 §2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Client {
    /// How.
    pub transport: Transport,
    /// Our address.
    pub local: SocketAddr,
    /// The client's, as we see it.
    pub remote: SocketAddr,
}

/// Names an allocation; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AllocationId(pub(crate) u64);

/// One allocation.
#[derive(Debug)]
pub(crate) struct Allocation {
    pub(crate) client: Client,
    pub(crate) username: String,
    /// Its user, for the quota: what credentials of different times have in common.
    user: String,
    /// `None` until its socket is open.
    pub(crate) relayed: Option<SocketAddr>,
    pub(crate) is_v4: bool,
    pub(crate) expires: Instant,
    /// Seconds, as first granted.
    pub(crate) lifetime: u32,
    /// Of the Allocate request, whose repetition is answered again.
    pub(crate) transaction: TransactionId,
    permissions: Vec<(IpAddr, Instant)>,
    channels: Vec<Channel>,
}

#[derive(Debug)]
struct Channel {
    number: u16,
    peer: SocketAddr,
    expires: Instant,
}

impl Allocation {
    pub(crate) fn new(
        client: Client,
        username: &str,
        user: &str,
        is_v4: bool,
        transaction: TransactionId,
        lifetime: u32,
        now: Instant,
    ) -> Allocation {
        let (username, user) = (username.to_owned(), user.to_owned());
        let (permissions, channels) = (Vec::new(), Vec::new());
        Allocation {
            client,
            username,
            user,
            relayed: None,
            is_v4,
            expires: now + Duration::from_secs(lifetime.into()),
            lifetime,
            transaction,
            permissions,
            channels,
        }
    }

    pub(crate) fn permits(&self, now: Instant, peer: IpAddr) -> bool {
        self.permissions.iter().any(|(ip, expires)| *ip == peer && now < *expires)
    }

    /// Lets `peer` in, or lets it in for longer.
    pub(crate) fn permit(&mut self, now: Instant, peer: IpAddr) -> Result<(), Refusal> {
        let expires = now + PERMISSION_LIFETIME;
        if let Some(known) = self.permissions.iter_mut().find(|(ip, _)| *ip == peer) {
            known.1 = expires;
            return Ok(());
        }
        self.permissions.retain(|(_, expires)| now < *expires);
        if self.permissions.len() >= MAX_PERMISSIONS {
            return Err(Refusal::Capacity);
        }
        self.permissions.push((peer, expires));
        Ok(())
    }

    /// Gives `peer` a number. Neither may have another (RFC 8656 §12.2).
    pub(crate) fn bind(&mut self, now: Instant, number: u16, peer: SocketAddr) -> Result<(), Refusal> {
        self.channels.retain(|channel| now < channel.expires);
        let expires = now + CHANNEL_LIFETIME;
        let is_full = self.channels.len() >= MAX_CHANNELS;
        let found = self.channels.iter_mut().find(|channel| channel.number == number || channel.peer == peer);
        match found {
            Some(same) if same.number == number && same.peer == peer => same.expires = expires,
            Some(_) => return Err(Refusal::Malformed),
            None if is_full => return Err(Refusal::Capacity),
            None => self.channels.push(Channel { number, peer, expires }),
        }
        self.permit(now, peer.ip())
    }

    pub(crate) fn peer_of(&self, now: Instant, number: u16) -> Option<SocketAddr> {
        let found = self.channels.iter().find(|channel| channel.number == number && now < channel.expires);
        found.map(|channel| channel.peer)
    }

    pub(crate) fn channel_of(&self, now: Instant, peer: SocketAddr) -> Option<u16> {
        let found = self.channels.iter().find(|channel| channel.peer == peer && now < channel.expires);
        found.map(|channel| channel.number)
    }
}

/// All allocations, by id, by client, and counted by user and by address.
#[derive(Debug, Default)]
pub(crate) struct Allocations {
    by_id: HashMap<AllocationId, Allocation>,
    by_client: HashMap<Client, AllocationId>,
    users: HashMap<String, usize>,
    addresses: HashMap<IpAddr, usize>,
    next: u64,
}

impl Allocations {
    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn of_user(&self, user: &str) -> usize {
        self.users.get(user).copied().unwrap_or_default()
    }

    pub(crate) fn of_address(&self, address: IpAddr) -> usize {
        self.addresses.get(&subscriber(address)).copied().unwrap_or_default()
    }

    pub(crate) fn add(&mut self, allocation: Allocation) -> AllocationId {
        let id = AllocationId(self.next);
        self.next += 1;
        *self.users.entry(allocation.user.clone()).or_default() += 1;
        *self.addresses.entry(subscriber(allocation.client.remote.ip())).or_default() += 1;
        self.by_client.insert(allocation.client, id);
        self.by_id.insert(id, allocation);
        id
    }

    pub(crate) fn remove(&mut self, id: AllocationId) -> Option<Allocation> {
        let gone = self.by_id.remove(&id)?;
        self.by_client.remove(&gone.client);
        release(&mut self.users, &gone.user);
        release(&mut self.addresses, &subscriber(gone.client.remote.ip()));
        Some(gone)
    }

    pub(crate) fn id_of(&self, client: &Client) -> Option<AllocationId> {
        self.by_client.get(client).copied()
    }

    pub(crate) fn get(&self, id: AllocationId) -> Option<&Allocation> {
        self.by_id.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: AllocationId) -> Option<&mut Allocation> {
        self.by_id.get_mut(&id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (AllocationId, &Allocation)> {
        self.by_id.iter().map(|(id, allocation)| (*id, allocation))
    }

    /// That nothing is counted which is gone.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
            && self.by_client.is_empty()
            && self.users.is_empty()
            && self.addresses.is_empty()
    }
}

/// One subscriber's addresses, counted as one: of IPv6 each has a /64 (RFC 6177 §2).
pub fn subscriber(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6((u128::from(ip) >> 64 << 64).into()),
        v4 @ IpAddr::V4(_) => v4,
    }
}

fn release<K, Q>(counts: &mut HashMap<K, usize>, key: &Q)
where
    K: std::borrow::Borrow<Q> + std::hash::Hash + Eq,
    Q: ?Sized + std::hash::Hash + Eq,
{
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}
