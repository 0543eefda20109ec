//! Events on disk, in one file (redb, a B-tree that is never written in place): those that wait, and those given up.
//!
//! An event is there once for each receiver, under a number that rises and is never used twice.
//! Always: what [`Store::commit`] has returned for is on the disk, whatever happens to process or machine; a batch is there
//! as a whole or not at all; the file stays below its cap.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use prost::Message as _;
use redb::{
    Database, ReadableDatabase as _, ReadableTable as _, ReadableTableMetadata as _, TableDefinition,
};

use super::record::Record;

const WAITING: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("waiting");
const FAILED: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("failed");
/// Numbers under names: [`NEXT`], [`DROPPED`].
const COUNTS: TableDefinition<'_, &str, u64> = TableDefinition::new("counts");
const NEXT: &str = "next";
const DROPPED: &str = "dropped";

/// Bytes of the file that redb may hold in memory.
const CACHE: usize = 16 << 20;
/// What the tree needs for an entry beside its bytes: key, lengths, its share of the pages above.
const ENTRY: u64 = 64;
const PAGE: u64 = 4096;

/// Why the store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Its folder cannot be had.
    #[error("{0}")]
    Io(io::Error),
    /// The file.
    #[error("{0}")]
    Redb(Box<redb::Error>),
    /// Opening it again failed, and will be tried again.
    #[error("the file is not open")]
    Closed,
}

impl<E: Into<redb::Error>> From<E> for StoreError {
    fn from(error: E) -> StoreError {
        StoreError::Redb(Box::new(error.into()))
    }
}

/// An event that waits for its receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) number: u64,
    pub(super) url: String,
    pub(super) room: String,
    pub(super) queued_ms: i64,
}

/// One event and the body that tells of it.
pub(super) struct Told {
    /// One record for each receiver.
    pub(super) records: Vec<Record>,
}

/// Why and when an event was given up.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) number: u64,
    pub(super) attempts: u32,
    pub(super) reason: String,
    pub(super) unix_ms: i64,
}

/// Changes that are made together.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) delivered: Vec<u64>,
    pub(super) failed: Vec<Failure>,
    /// Numbers of failed events that shall be tried again.
    pub(super) replayed: Vec<u64>,
    /// When they were put back into the queue.
    pub(super) unix_ms: i64,
}

/// What a commit came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Committed {
    /// New and replayed.
    pub(super) waiting: Vec<Waiting>,
    pub(super) replayed: usize,
    /// Events, not entries, for which there was no space.
    pub(super) dropped: u64,
    /// Entries of the failed list that made space.
    pub(super) forgotten: u64,
}

/// What is there at present.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Holdings {
    pub(super) waiting: u64,
    pub(super) failed: u64,
    /// Bytes of both, as they count towards the cap.
    pub(super) bytes: u64,
    /// When the oldest that waits was queued.
    pub(super) oldest_ms: Option<i64>,
}

/// For those who only read. Clones share the file.
#[derive(Clone)]
pub(super) struct Reader(Arc<RwLock<Option<Database>>>);

/// See the module's page. There is one, since there is one that writes.
pub(super) struct Store {
    path: PathBuf,
    reader: Reader,
    /// Bytes that entries may take.
    capacity: u64,
    used: u64,
    next: u64,
    /// Events lost since the last one that was kept.
    dropped: u64,
}

impl Drop for Store {
    /// Closes the file, for readers too, so that another can open it.
    fn drop(&mut self) {
        *self.reader.0.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Store {
    /// Opens the file, or makes it, and gives what waits in it, in order.
    ///
    /// # Errors
    /// Another process has it open, it cannot be written, or it is not a queue.
    pub(super) fn open(path: &Path, max_disk: u64) -> Result<(Store, Vec<Waiting>), StoreError> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(StoreError::Io)?;
        }
        let database = open(path)?;
        let setup = database.begin_write()?;
        let (mut used, mut waiting) = (0, Vec::new());
        let (next, dropped);
        {
            for entry in setup.open_table(WAITING)?.iter()? {
                let (number, bytes) = entry?;
                used += charge(bytes.value().len());
                if let Ok(record) = Record::decode(bytes.value()) {
                    waiting.push(record.waiting(number.value()));
                }
            }
            for entry in setup.open_table(FAILED)?.iter()? {
                used += charge(entry?.1.value().len());
            }
            let counts = setup.open_table(COUNTS)?;
            let count = |name| counts.get(name).map(|count| count.map_or(0, |count| count.value()));
            (next, dropped) = (count(NEXT)?, count(DROPPED)?);
        }
        setup.commit()?;
        // The name itself must survive a crash, too.
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = File::open(folder.unwrap_or(Path::new(".")));
        folder.and_then(|folder| folder.sync_all()).map_err(StoreError::Io)?;
        let reader = Reader(Arc::new(RwLock::new(Some(database))));
        // Every commit writes new pages before old ones are free, and the file grows in steps.
        let capacity = max_disk / 2;
        Ok((Store { path: path.to_owned(), reader, capacity, used, next, dropped }, waiting))
    }

    pub(super) fn reader(&self) -> Reader {
        self.reader.clone()
    }

    /// Events that were lost before they came here; the next one that is kept tells of them.
    pub(super) fn lost(&mut self, events: u64) {
        self.dropped = self.dropped.saturating_add(events);
    }

    /// Makes the changes. `events` are encoded when their turn comes, with the number of those lost before each.
    /// When there is no space, the oldest of the failed list go; when none are left, the event is lost.
    ///
    /// # Errors
    /// Nothing has changed then. Most errors leave the file unusable until [`Store::reopen`].
    pub(super) fn commit<T>(
        &mut self,
        batch: &Batch,
        events: &[T],
        mut encode: impl FnMut(&T, u64) -> Told,
    ) -> Result<Committed, StoreError> {
        let shelf = self.reader.0.read().unwrap_or_else(PoisonError::into_inner);
        let database = shelf.as_ref().ok_or(StoreError::Closed)?;
        let mut transaction = database.begin_write()?;
        // After a crash the file is usable at once, however large it is.
        transaction.set_quick_repair(true);
        let (mut used, mut next, mut dropped) = (self.used, self.next, self.dropped);
        let mut done = Committed::default();
        {
            let mut waiting = transaction.open_table(WAITING)?;
            let mut failed = transaction.open_table(FAILED)?;
            for number in &batch.delivered {
                if let Some(bytes) = waiting.remove(number)? {
                    used -= charge(bytes.value().len());
                }
            }
            for failure in &batch.failed {
                let Some(bytes) = waiting.remove(&failure.number)?.map(|bytes| bytes.value().to_vec()) else {
                    continue;
                };
                used -= charge(bytes.len());
                let Ok(record) = Record::decode(&bytes[..]) else { continue };
                let bytes = record.failed(failure).encode_to_vec();
                used += charge(bytes.len());
                failed.insert(failure.number, &bytes[..])?;
            }
            for number in &batch.replayed {
                let Some(bytes) = failed.remove(number)?.map(|bytes| bytes.value().to_vec()) else {
                    continue;
                };
                used -= charge(bytes.len());
                let Ok(record) = Record::decode(&bytes[..]) else { continue };
                let record = record.replayed(batch.unix_ms);
                let bytes = record.encode_to_vec();
                used += charge(bytes.len());
                waiting.insert(next, &bytes[..])?;
                done.waiting.push(record.waiting(next));
                (next, done.replayed) = (next + 1, done.replayed + 1);
            }
            for event in events {
                let told = encode(event, dropped);
                let bytes: Vec<Vec<u8>> = told.records.iter().map(Record::encode_to_vec).collect();
                let wanted: u64 = bytes.iter().map(|bytes| charge(bytes.len())).sum();
                while used + wanted > self.capacity {
                    let Some((_, oldest)) = failed.pop_first()? else { break };
                    used -= charge(oldest.value().len());
                    done.forgotten += 1;
                }
                if used + wanted > self.capacity {
                    (dropped, done.dropped) = (dropped.saturating_add(1), done.dropped + 1);
                    continue;
                }
                (used, dropped) = (used + wanted, 0);
                for (record, bytes) in told.records.into_iter().zip(&bytes) {
                    waiting.insert(next, &bytes[..])?;
                    done.waiting.push(record.waiting(next));
                    next += 1;
                }
            }
            let mut counts = transaction.open_table(COUNTS)?;
            counts.insert(NEXT, next)?;
            counts.insert(DROPPED, dropped)?;
        }
        transaction.commit()?;
        drop(shelf);
        (self.used, self.next, self.dropped) = (used, next, dropped);
        Ok(done)
    }

    /// After an error: opens the file anew.
    ///
    /// # Errors
    /// As before; to be tried again later.
    pub(super) fn reopen(&mut self) -> Result<(), StoreError> {
        let mut shelf = self.reader.0.write().unwrap_or_else(PoisonError::into_inner);
        // Its lock must be gone before it can be opened.
        *shelf = None;
        *shelf = Some(open(&self.path)?);
        Ok(())
    }

    /// # Errors
    /// The file cannot be read.
    pub(super) fn holdings(&self) -> Result<Holdings, StoreError> {
        self.reader.read(|reading| {
            let (waiting, failed) = (reading.open_table(WAITING)?, reading.open_table(FAILED)?);
            let oldest = waiting.first()?;
            let oldest = oldest.and_then(|(_, bytes)| Record::decode(bytes.value()).ok());
            Ok(Holdings {
                waiting: waiting.len()?,
                failed: failed.len()?,
                bytes: self.used,
                oldest_ms: oldest.map(|record| record.queued_ms),
            })
        })
    }
}

impl Reader {
    fn read<T>(
        &self,
        read: impl FnOnce(redb::ReadTransaction) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let shelf = self.0.read().unwrap_or_else(PoisonError::into_inner);
        read(shelf.as_ref().ok_or(StoreError::Closed)?.begin_read()?)
    }

    /// An event that waits; `None` if it does not.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn waiting(&self, number: u64) -> Result<Option<Record>, StoreError> {
        self.read(|reading| {
            let bytes = reading.open_table(WAITING)?.get(number)?;
            Ok(bytes.and_then(|bytes| Record::decode(bytes.value()).ok()))
        })
    }

    /// Events that were given up, with numbers above `after`, at most `limit`, in order, of those that are `wanted`.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn failed(
        &self,
        after: Option<u64>,
        limit: usize,
        wanted: impl Fn(&Record) -> bool,
    ) -> Result<Vec<(u64, Record)>, StoreError> {
        self.read(|reading| {
            let mut found = Vec::new();
            let first = after.map_or(0, |after| after.saturating_add(1));
            for entry in reading.open_table(FAILED)?.range(first..)? {
                if found.len() == limit {
                    break;
                }
                let (number, bytes) = entry?;
                if let Ok(record) = Record::decode(bytes.value())
                    && wanted(&record)
                {
                    found.push((number.value(), record));
                }
            }
            Ok(found)
        })
    }

    /// The numbers of those given up that are `wanted`, in order.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn failed_numbers(&self, wanted: impl Fn(&Record) -> bool) -> Result<Vec<u64>, StoreError> {
        self.read(|reading| {
            let mut numbers = Vec::new();
            for entry in reading.open_table(FAILED)?.iter()? {
                let (number, bytes) = entry?;
                if Record::decode(bytes.value()).is_ok_and(|record| wanted(&record)) {
                    numbers.push(number.value());
                }
            }
            Ok(numbers)
        })
    }
}

fn open(path: &Path) -> Result<Database, StoreError> {
    Ok(Database::builder().set_cache_size(CACHE).create(path)?)
}

/// What an entry counts for: small ones share pages, large ones have pages of their own, of which there are 2^n.
fn charge(bytes: usize) -> u64 {
    let bytes = bytes as u64 + ENTRY;
    if bytes <= PAGE / 2 { bytes * 4 / 3 } else { bytes.next_multiple_of(PAGE).next_power_of_two() }
}

#[cfg(test)]
mod tests;
