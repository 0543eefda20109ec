//! The hand-over: what becomes of events when the disk does not keep up.

use livekit_protocol::Room;
use prometheus::Registry;

use super::*;

fn event(room: &str, metadata: usize) -> Box<WebhookEvent> {
    let room = Room { name: room.to_owned(), metadata: "x".repeat(metadata), ..Room::default() };
    Box::new(WebhookEvent { event: "room_started".to_owned(), room: Some(room), ..WebhookEvent::default() })
}

#[test]
fn a_hand_over_that_nobody_empties_is_bounded_and_counts_what_it_loses() {
    for (metadata, least) in [(0, 16_384), (64 << 10, 500)] {
        let metrics = WebhookMetrics::register(&Registry::new()).unwrap();
        let hand_over = HandOver::new(metrics.clone());
        for number in 1..=20_000 {
            assert_eq!(hand_over.tell(event("garden", metadata)), number);
        }
        let lost = metrics.dropped_handover.get();
        assert!(20_000 - lost >= least && lost > 0, "{lost} lost of {metadata} bytes");
        assert_eq!(metrics.events.get(), 20_000);
    }
}

#[tokio::test]
async fn whoever_waits_for_an_event_waits_for_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let settings = crate::Settings::test_with_webhooks("http://127.0.0.1:1/", &folder.path().join("q"))
        .webhooks
        .unwrap();
    let metrics = WebhookMetrics::register(&Registry::new()).unwrap();
    let (webhooks, running) = Webhooks::start(&settings, &metrics).unwrap();
    let number = webhooks.tell(event("garden", 10));
    if let Some(written) = webhooks.written(number) {
        written.wait().await;
    }
    assert!(webhooks.written(number).is_none());
    running.stop().await;
    let (_, waiting) = Store::open(&folder.path().join("q"), 1 << 30).unwrap();
    assert_eq!(waiting.len(), 1);
}
