//! Media workers without time left.

use std::sync::atomic::Ordering;

use super::*;

/// What one who would join is told, and what SDKs hear when they ask why.
async fn refusal(server: &RunningServer, room: &str, identity: &str) -> (u16, String) {
    let path = format!("access_token={}&protocol=16", token(room, identity));
    let refused = server.try_connect(&format!("/rtc?{path}")).await.err().expect("refused");
    assert_eq!(server.get(&format!("/rtc/validate?{path}")).await, refused);
    refused
}

#[tokio::test]
async fn a_worker_without_time_takes_nobody_and_who_is_there_stays() {
    let mut settings = Settings::test();
    settings.media.workers = std::num::NonZeroUsize::new(2).unwrap();
    let server = start(settings).await;
    let mut ada = server.join("garden", "ada").await;
    let loads: Vec<_> = server.workers.iter().map(|worker| worker.client().load()).collect();
    let garden = loads.iter().position(|load| load.participants().load(Ordering::Relaxed) == 1).unwrap();
    let (of_garden, other) = (loads[garden], loads[1 - garden]);

    of_garden.admit(false);
    let (status, why) = refusal(&server, "garden", "grace").await;
    assert!(status == 503 && why.contains("overloaded"), "{status} {why}");
    server.join("cellar", "alan").await.leave().await; // on the other worker
    other.admit(false);
    let (status, why) = refusal(&server, "attic", "alan").await;
    assert!(status == 503 && why.contains("overloaded"), "{status} {why}");
    server.until_metric("sluice_limit_hits_total{limit=\"load\"} 4").await;
    ada.send(ToServer::Ping(1)).await;
    ada.until(|message| matches!(message, ToClient::Pong(_))).await;

    of_garden.admit(true);
    server.join("garden", "grace").await.leave().await;
    ada.leave().await;
    server.stop().await;
}
