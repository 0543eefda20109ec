//! Where virtual time begins.

use std::sync::OnceLock;
use std::time::Instant;

/// The one moment that all virtual times of a process are counted from. Nothing may depend on its value.
#[expect(clippy::disallowed_methods, reason = "virtual time has to begin somewhere")]
pub fn start() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(Instant::now)
}
