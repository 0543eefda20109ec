//! Every video codec that browsers send, as livekit-client sends it by default: VP8 and H.264 in simulcast, VP9 and
//! AV1 as one scalable stream.

use std::time::Duration;

use crate::harness::{Browser, Camera, Mode, Server, alone, eventually, observe};
use crate::meeting::sees;

#[test]
fn every_video_codec_arrives() {
    let _turn = alone();
    let server = Server::start("codecs");
    let browser = Browser::start();
    for (codec, mime) in
        [("vp8", "video/VP8"), ("h264", "video/H264"), ("vp9", "video/VP9"), ("av1", "video/AV1")]
    {
        // New tabs for each: a tab's camera films until the tab is closed.
        let sender = browser.participant(&format!("{codec}-sender"));
        let viewer = browser.participant(&format!("{codec}-viewer"));
        viewer.join(&server, codec, Mode::V1);
        sender.join(&server, codec, Mode::V1);
        sender.publish_camera(&Camera { codec, ..Camera::SMALL });

        let first = eventually(Duration::from_secs(20), || sees(&viewer, &sender));
        assert_eq!(first.stats.codec, mime, "{first:?}");
        viewer.restart();
        let window = Duration::from_secs(3);
        observe(window);
        let track = sees(&viewer, &sender).unwrap_or_else(|error| panic!("{codec}: {error}"));
        assert!(track.seen.frames as f64 > 8.0 * window.as_secs_f64(), "{codec}: {track:?}");
        assert!(track.seen.longest_gap < 1000.0, "{codec} froze: {track:?}");
        assert_eq!(track.stats.codec, mime);
        sender.close();
        viewer.close();
    }
}
