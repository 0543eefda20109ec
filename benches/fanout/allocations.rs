//! Counts what one thread allocates while it is being measured, and can say where.
//!
//! Always: other threads, and the watched one outside of a measurement, pay for one relaxed load.
#![expect(unsafe_code, reason = "an allocator can be had in no other way; it only passes on to the system's")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::Cell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Backtraces taken in one measurement: each costs about a millisecond.
const MAX_TRACES: u64 = 1000;
/// Frames of our own code kept of each.
const FRAMES: usize = 3;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    static WATCHED: Cell<bool> = const { Cell::new(false) };
}

static RECORDING: AtomicBool = AtomicBool::new(false);
static COUNT: AtomicU64 = AtomicU64::new(0);
static TRACES_LEFT: AtomicU64 = AtomicU64::new(0);
static TRACES: Mutex<Vec<Backtrace>> = Mutex::new(Vec::new());

/// Allocations of the thread that calls this count from now on.
pub(crate) fn watch_this_thread() {
    WATCHED.set(true);
}

/// Begins to count, from zero.
pub(crate) fn start(with_sites: bool) {
    COUNT.store(0, Ordering::Relaxed);
    TRACES_LEFT.store(if with_sites { MAX_TRACES } else { 0 }, Ordering::Relaxed);
    RECORDING.store(true, Ordering::SeqCst);
}

/// Stops counting: how many allocations and reallocations there were.
pub(crate) fn stop() -> u64 {
    RECORDING.store(false, Ordering::SeqCst);
    COUNT.load(Ordering::Relaxed)
}

/// Where the traced allocations came from, the most frequent first: our own frames, innermost first.
pub(crate) fn take_sites() -> Vec<(u64, String)> {
    let traces = std::mem::take(&mut *TRACES.lock().unwrap_or_else(PoisonError::into_inner));
    let mut counts: HashMap<String, u64> = HashMap::new();
    for trace in traces {
        *counts.entry(own_frames(&trace.to_string())).or_default() += 1;
    }
    let mut sites: Vec<_> = counts.into_iter().map(|(site, count)| (count, site)).collect();
    sites.sort_by(|a, b| b.cmp(a));
    sites
}

/// The `at file:line` of frames in the server and the core, out of a backtrace as it prints itself.
fn own_frames(trace: &str) -> String {
    let places = trace.lines().filter_map(|line| line.trim().strip_prefix("at "));
    let ours = |place: &&str| place.contains("sfu/src/") || place.starts_with("./src/");
    let frames: Vec<&str> = places.filter(ours).take(FRAMES).collect();
    frames.join(" < ")
}

fn note() {
    if !RECORDING.load(Ordering::Relaxed) || !WATCHED.try_with(Cell::get).unwrap_or(false) {
        return;
    }
    COUNT.fetch_add(1, Ordering::Relaxed);
    let trace = TRACES_LEFT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
    if trace.is_ok() {
        WATCHED.set(false); // what a backtrace allocates is not the thread's own
        TRACES.lock().unwrap_or_else(PoisonError::into_inner).push(Backtrace::force_capture());
        WATCHED.set(true);
    }
}

struct Counting;

// SAFETY: every call goes to the system's allocator with the arguments that it came with.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller's promise is the one that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note();
        // SAFETY: as above.
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}
