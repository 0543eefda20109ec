use std::os::unix::fs::MetadataExt as _;

use tempfile::TempDir;

use super::*;

const GIB: u64 = 1 << 30;

struct Fixture {
    folder: TempDir,
    store: Store,
}

impl Fixture {
    fn new(max_disk: u64) -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        let (store, waiting) = Store::open(&folder.path().join("queue.redb"), max_disk).unwrap();
        assert_eq!(waiting, []);
        Fixture { folder, store }
    }

    fn reopened(self, max_disk: u64) -> (Fixture, Vec<Waiting>) {
        let Fixture { folder, store } = self;
        drop(store);
        let (store, waiting) = Store::open(&folder.path().join("queue.redb"), max_disk).unwrap();
        (Fixture { folder, store }, waiting)
    }

    fn add(&mut self, events: &[(&str, usize)]) -> Committed {
        self.change(&Batch::default(), events)
    }

    /// Each event is an id and the length of its body; the body begins with how many were lost before it.
    fn change(&mut self, batch: &Batch, events: &[(&str, usize)]) -> Committed {
        self.store
            .commit(batch, events, |(id, length), lost| Told { records: vec![record(id, *length, lost)] })
            .unwrap()
    }

    fn disk(&self) -> u64 {
        let file = std::fs::metadata(self.folder.path().join("queue.redb")).unwrap();
        file.blocks() * 512
    }
}

fn record(id: &str, length: usize, lost: u64) -> Record {
    let mut body = lost.to_be_bytes().to_vec();
    body.resize(length.max(8), b'x');
    Record { url: "https://a".into(), room: "garden".into(), id: id.into(), body, ..Record::default() }
}

fn failure(number: u64) -> Failure {
    Failure { number, attempts: 3, reason: "answered with status 500".into(), unix_ms: 77 }
}

fn numbers(waiting: &[Waiting]) -> Vec<u64> {
    waiting.iter().map(|waiting| waiting.number).collect()
}

#[test]
fn what_is_written_is_there_after_a_restart_in_order_and_what_is_delivered_is_not() {
    let mut fixture = Fixture::new(GIB);
    let added = fixture.add(&[("EV_a", 10), ("EV_b", 500), ("EV_c", 100_000)]);
    let all = numbers(&added.waiting);
    assert!(all.is_sorted() && all.len() == 3);
    fixture.change(&Batch { delivered: vec![all[1]], ..Batch::default() }, &[]);
    let (mut fixture, waiting) = fixture.reopened(GIB);
    assert_eq!(numbers(&waiting), [all[0], all[2]]);
    assert_eq!((waiting[0].url.as_str(), waiting[0].room.as_str()), ("https://a", "garden"));
    let kept = fixture.store.reader().waiting(all[2]).unwrap().unwrap();
    assert_eq!(kept, record("EV_c", 100_000, 0));
    // Numbers are not used again, even when nothing is left.
    fixture.change(&Batch { delivered: all.clone(), ..Batch::default() }, &[]);
    let (mut fixture, waiting) = fixture.reopened(GIB);
    assert_eq!((waiting, fixture.store.used), (vec![], 0));
    assert!(fixture.add(&[("EV_d", 10)]).waiting[0].number > all[2]);
}

#[test]
fn what_is_given_up_is_listed_and_can_be_tried_again() {
    let mut fixture = Fixture::new(GIB);
    let all = numbers(&fixture.add(&[("EV_a", 10), ("EV_b", 10), ("EV_c", 10)]).waiting);
    fixture.change(&Batch { failed: all.iter().copied().map(failure).collect(), ..Batch::default() }, &[]);
    let (mut fixture, waiting) = fixture.reopened(GIB);
    assert_eq!(waiting, []);
    let reader = fixture.store.reader();
    let listed = reader.failed(None, 2, |_| true).unwrap();
    assert_eq!(listed.iter().map(|(number, _)| *number).collect::<Vec<_>>(), all[..2]);
    let (_, first) = &listed[0];
    assert_eq!((first.attempts, first.failed_ms, first.reason.as_str()), (3, 77, "answered with status 500"));
    let rest = reader.failed(Some(all[1]), 2, |_| true).unwrap();
    assert_eq!(rest.iter().map(|(_, record)| record.id.as_str()).collect::<Vec<_>>(), ["EV_c"]);

    let replay = Batch { replayed: vec![all[2], all[0], 99], unix_ms: 88, ..Batch::default() };
    let again = fixture.change(&replay, &[]);
    assert_eq!((again.replayed, again.waiting.len()), (2, 2));
    assert!(numbers(&again.waiting).iter().all(|number| *number > all[2]), "behind all that is there");
    let replayed = reader.waiting(again.waiting[0].number).unwrap().unwrap();
    assert_eq!((replayed.id.as_str(), replayed.attempts, replayed.queued_ms), ("EV_c", 0, 88));
    let left = reader.failed(None, 10, |_| true).unwrap();
    assert_eq!(left.iter().map(|(_, record)| record.id.as_str()).collect::<Vec<_>>(), ["EV_b"]);
    let holdings = fixture.store.holdings().unwrap();
    assert_eq!((holdings.waiting, holdings.failed, holdings.oldest_ms), (2, 1, Some(88)));
}

#[test]
fn a_full_queue_forgets_failures_first_then_loses_events_and_the_next_one_says_how_many() {
    let mut fixture = Fixture::new(1 << 20);
    let old = numbers(&fixture.add(&[("EV_old", 1000); 20]).waiting);
    fixture.change(&Batch { failed: old.iter().copied().map(failure).collect(), ..Batch::default() }, &[]);
    let many = vec![("EV_new", 1000); 1000];
    let full = fixture.add(&many);
    assert_eq!(full.forgotten, 20, "failures make space");
    assert_eq!(full.waiting.len() as u64 + full.dropped, 1000);
    assert!(full.dropped > 100 && full.waiting.len() > 100, "{} lost", full.dropped);
    fixture.store.lost(7);
    // The count survives a restart, too, once it was written.
    fixture.add(&[("EV_lost", 1000)]);
    let (mut fixture, waiting) = fixture.reopened(1 << 20);
    assert_eq!(waiting.len(), full.waiting.len());
    let delivered = Batch { delivered: numbers(&waiting), ..Batch::default() };
    let next = fixture.change(&delivered, &[("EV_kept", 10), ("EV_after", 10)]);
    let lost = |number| {
        let body = fixture.store.reader().waiting(number).unwrap().unwrap().body;
        u64::from_be_bytes(body[..8].try_into().unwrap())
    };
    assert_eq!(lost(next.waiting[0].number), full.dropped + 7 + 1);
    assert_eq!(lost(next.waiting[1].number), 0);
}

#[test]
fn the_file_stays_below_its_cap_whatever_the_events_are_like() {
    for (cap, length) in
        [(8 << 20, 600), (8 << 20, 10), (8 << 20, 2100), (16 << 20, 5000), (64 << 20, 200_000)]
    {
        let mut fixture = Fixture::new(cap);
        let mut most = 0;
        for round in 0..12 {
            let mut kept = Vec::new();
            loop {
                let added = fixture.add(&vec![("EV_x", length); 1 + 100_000 / length]);
                kept.extend(numbers(&added.waiting));
                most = most.max(fixture.disk());
                if added.dropped > 0 {
                    break;
                }
            }
            let with_key = (length + 128) as u64;
            assert!(kept.len() as u64 * with_key > cap / 8, "{} of {length} bytes in {cap}", kept.len());
            // Every other one is delivered, so that holes are left, then all.
            let (some, others): (Vec<u64>, Vec<u64>) =
                kept.iter().partition(|number| **number % 2 == round % 2);
            for delivered in [some, others] {
                fixture.change(&Batch { delivered, ..Batch::default() }, &[]);
                most = most.max(fixture.disk());
            }
        }
        println!("cap {cap}, events of {length}: at most {most} on disk");
        assert!(most <= cap, "events of {length} bytes: {most} bytes on disk of {cap}");
    }
}

#[test]
fn a_second_server_is_refused_and_so_is_another_kind_of_file() {
    let fixture = Fixture::new(GIB);
    let path = fixture.folder.path().join("queue.redb");
    assert!(Store::open(&path, GIB).is_err());
    let other = fixture.folder.path().join("other");
    std::fs::write(&other, "not a queue".repeat(1000)).unwrap();
    assert!(Store::open(&other, GIB).is_err());
}

#[test]
fn a_file_that_was_closed_by_an_error_can_be_opened_again() {
    let mut fixture = Fixture::new(GIB);
    fixture.add(&[("EV_a", 10)]);
    fixture.store.reopen().unwrap();
    fixture.add(&[("EV_b", 10)]);
    assert_eq!(fixture.store.holdings().unwrap().waiting, 2);
}
