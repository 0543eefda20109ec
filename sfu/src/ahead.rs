//! Reading ahead: the packet path waits for memory more than for anything else.
//!
//! What is known of hundreds of subscribers is in no cache when a frame comes for all of them, and one line after
//! another of each would be waited for. One look at a field of each line, for a group of subscribers at once and before
//! any of them is served, lets those waits overlap. (There is no instruction for it that safe Rust could use.)
//! Not here: which lines; each part knows its own.

/// Subscribers looked at before they are served: enough for the waits to overlap, few enough to stay in the nearest
/// cache until their turn.
pub(crate) const GROUP: usize = 8;

/// Reads a field for the sake of the line it is in.
#[inline]
pub(crate) fn look<T: Copy>(field: &T) {
    std::hint::black_box(*field);
}
