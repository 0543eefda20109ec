//! The generator against our own server, in one process.

use std::net::TcpListener;
use std::time::Duration;

use sluice::{RunningServer, Server, Settings as ServerSettings};
use sluice_load::{Protocol, RunError, Settings, Summary, Video};

fn settings(server: &RunningServer) -> Settings {
    Settings {
        url: format!("ws://{}", server.http_addr),
        protocol: Protocol::Livekit,
        api_key: "devkey".to_owned(),
        api_secret: "secret".to_owned(),
        room: "load".to_owned(),
        publishers: 1,
        speakers: u16::MAX,
        subscribers: 5,
        meeting: false,
        duration: Duration::from_secs(5),
        warm_up: Duration::from_secs(1),
        // Below what a server believes in before it has measured.
        video: Video::Single(200_000),
        audio: true,
        joins_per_second: 50.0,
        join_timeout: Duration::from_secs(10),
        quality: None,
        server_pid: None,
        seed: 1,
    }
}

/// Runs beside a server that is started for it.
async fn play(change: impl FnOnce(&mut Settings)) -> Result<Summary, RunError> {
    let server = Server::start(ServerSettings::test()).await.unwrap_or_else(|error| panic!("{error}"));
    let mut settings = settings(&server);
    change(&mut settings);
    let run = tokio::task::spawn_blocking(move || sluice_load::run(&settings, |second| println!("{second}")));
    let result = run.await.expect("no panic");
    server.stop().await;
    if let Ok(summary) = &result {
        println!("{summary}");
    }
    result
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_subscribers_get_everything_and_could_show_it() {
    let summary = play(|_| {}).await.expect("a run");
    assert_eq!((summary.publisher_joins.joined, summary.subscriber_joins.joined), (1, 5), "{summary}");
    let (got, frames) = (&summary.received, &summary.frames);
    assert!(got.lost <= got.dropped_here && got.duplicates == 0, "{summary}");
    assert!(got.audio_packets > 0 && got.video_packets > 0, "{summary}");
    assert_eq!((frames.undecodable, frames.skipped_numbers), (0, 0), "{summary}");
    assert!(frames.keyframes >= 5 && frames.shown > frames.keyframes, "{summary}");
    assert!(summary.video_delay.is_some() && summary.audio_delay.is_some(), "{summary}");
    assert_eq!(summary.srtp_profiles.len(), 1, "{summary}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_meeting_everybody_gets_everybody() {
    let meeting = |settings: &mut Settings| {
        (settings.publishers, settings.subscribers, settings.meeting) = (5, 0, true);
        settings.video = Video::Simulcast;
    };
    let summary = play(meeting).await.expect("a run");
    assert_eq!(summary.publisher_joins.joined, 5, "{summary}");
    // Five cameras for four people each: more than the sections of a first offer.
    assert!(summary.frames.keyframes >= 20, "{summary}");
    assert_eq!(summary.frames.undecodable, 0, "{summary}");
    assert_eq!(summary.layers.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_secret_ends_the_run_and_says_what_to_do() {
    let error = play(|settings| settings.api_secret = "wrong".to_owned()).await.unwrap_err().to_string();
    assert!(error.contains("401") && error.contains("--api-secret"), "{error}");
}

#[test]
fn a_server_that_is_not_there_ends_the_run() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let http_addr = listener.local_addr().unwrap();
    drop(listener);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let error = runtime.block_on(play(|settings| settings.url = format!("ws://{http_addr}"))).unwrap_err();
    assert!(error.to_string().contains("cannot reach the server"), "{error}");
}
