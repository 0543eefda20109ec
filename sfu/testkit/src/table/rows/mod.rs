//! The rows.

mod crowd;
mod loss;
mod outage;
mod room;
mod shared;
mod steady;
mod weather;

use std::time::Duration;

use sfu::units::{Bitrate, DataSize};

use super::Row;
use crate::call::Access;
use crate::link::LinkConfig;

pub(super) use self::room::ten_clients;

pub(super) fn all() -> Vec<Row> {
    let mut rows = Vec::new();
    rows.extend(steady::rows());
    rows.extend(loss::rows());
    rows.extend(shared::rows());
    rows.extend(outage::rows());
    rows.extend(crowd::rows());
    rows.extend(weather::rows());
    rows.extend(room::rows());
    rows
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A path of this rate, with a queue of 200 ms at it; `rtt` there and back. Upwards there is room.
fn access(kbps: u64, rtt: u64) -> Access {
    let link = LinkConfig { delay: ms(rtt) / 2, bucket: DataSize::bytes(3000), ..LinkConfig::fiber() };
    Access {
        down: LinkConfig { rate: Some(Bitrate::kbps(kbps)), ..link },
        up: LinkConfig { rate: Some(Bitrate::kbps(kbps.max(1000))), ..link },
    }
}

/// A publisher's path: 20 Mbit/s, 20 ms.
fn good() -> Access {
    access(20_000, 20)
}
