//! Webhooks of the server's own binary over its death: a receiver that fails half of the time, a server that is killed (-9) again
//! and again, and an application that makes and deletes rooms all the while.
//!
//! What the server has answered must arrive, in order of each room, whatever happens; what it had not answered when it died may
//! or may not. The large run, by hand: `cargo test --release --test webhooks -- --ignored --nocapture`.

#[path = "webhooks/application.rs"]
mod application;
#[path = "webhooks/receiver.rs"]
mod receiver;
#[path = "webhooks/server.rs"]
mod server;

use std::time::{Duration, Instant};

use application::Application;
use receiver::Receiver;
use server::Server;

/// Without any progress for so long the test has failed.
const PATIENCE: Duration = Duration::from_mins(1);

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_and_rooms_keep_their_order_over_two_deaths() {
    run(600, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: 200 000 events, five deaths"]
async fn two_hundred_thousand_events_over_five_deaths() {
    run(200_000, 5).await;
}

async fn run(events: usize, deaths: usize) {
    let folder = tempfile::tempdir().expect("a folder");
    let receiver = Receiver::start(0.5).await;
    let mut server = Server::start(&receiver.url(), &folder.path().join("queue.redb"));
    let begin = Instant::now();
    let application = Application::start(server.address(), events);
    for death in 1..=deaths {
        application.until(events * death / (deaths + 1)).await;
        server.kill();
        println!(
            "{:6.1} s: death {death}, {} answered, {} arrived",
            begin.elapsed().as_secs_f64(),
            application.answered(),
            receiver.arrived()
        );
        server.revive();
    }
    let told = application.finish().await;
    let made = begin.elapsed();
    until_quiet(&receiver, &server).await;
    println!(
        "{events} events and {deaths} deaths: made in {:.1} s, delivered in {:.1} s; {}; server {} MB, queue's file {} MB",
        made.as_secs_f64(),
        begin.elapsed().as_secs_f64(),
        receiver.summary(),
        server.resident_mb(),
        std::fs::metadata(folder.path().join("queue.redb")).map_or(0, |file| file.len() >> 20),
    );
    assert_eq!(server.metric("sluice_webhook_dropped_total"), 0, "nothing may be lost");
    assert_eq!(server.metric("sluice_webhook_given_up_total"), 0);
    receiver.judge(&told);
}

/// Until the queue is empty.
async fn until_quiet(receiver: &Receiver, server: &Server) {
    let (mut last, mut progress) = (receiver.arrived(), Instant::now());
    loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let arrived = receiver.arrived();
        if arrived == last
            && server.metric("sluice_webhook_queued") == 0
            && progress.elapsed() > Duration::from_secs(2)
        {
            return;
        }
        if arrived != last {
            (last, progress) = (arrived, Instant::now());
        }
        assert!(progress.elapsed() < PATIENCE, "stands still at {arrived}: {}", receiver.summary());
    }
}
