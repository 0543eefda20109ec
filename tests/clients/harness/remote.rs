//! Processes that do what they are told: `driver.mjs` with a browser, `sdk.py` with the Python SDK, `sdk.mjs` with Node's.
//!
//! One JSON request per line in, one JSON answer per line out. Both speak of participants by name and give them the
//! same functions, so that tests do not care on which client a participant lives.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::namespace::Namespace;
use super::{Participant, artefact, drivers, programs, tail};

/// How long the slowest request may take: joining a room through a bad network.
const PATIENCE: Duration = Duration::from_secs(30);

/// A driver process.
pub(super) struct Remote {
    pipes: Mutex<Pipes>,
    child: Child,
    log: PathBuf,
}

struct Pipes {
    requests: Option<ChildStdin>,
    answers: Receiver<Value>,
    last_id: u64,
}

impl Remote {
    pub(super) fn start(
        name: &str,
        program: &Path,
        arguments: &[&Path],
        place: Option<&Namespace>,
    ) -> Remote {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let log = artefact(&format!("{name}-{}-{count}.log", std::process::id()));
        let mut command = match place {
            Some(namespace) => namespace.command(program),
            None => Command::new(program),
        };
        let mut child = command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).expect("the log can be written"))
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", program.display()));
        let (sender, answers) = channel();
        let output = BufReader::new(child.stdout.take().expect("piped"));
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                // Libraries print, too; what is no answer is theirs.
                if let Ok(answer) = serde_json::from_str(&line)
                    && sender.send(answer).is_err()
                {
                    return;
                }
            }
        });
        let requests = child.stdin.take();
        let remote = Remote { pipes: Mutex::new(Pipes { requests, answers, last_id: 0 }), child, log };
        let ready = remote.pipes.lock().expect("not poisoned").answers.recv_timeout(PATIENCE);
        assert!(ready.is_ok(), "{name} did not start:\n{}", tail(&remote.log));
        remote
    }

    /// Sends one request and waits for its answer.
    ///
    /// # Errors
    /// What the driver says went wrong.
    ///
    /// # Panics
    /// If the driver is gone or silent.
    pub(super) fn request(&self, mut request: Value) -> Result<Value, String> {
        let mut pipes = self.pipes.lock().expect("not poisoned");
        pipes.last_id += 1;
        let id = pipes.last_id;
        let what = request.to_string();
        request["id"] = json!(id);
        let written =
            pipes.requests.as_mut().map(|pipe| writeln!(pipe, "{request}").and_then(|()| pipe.flush()));
        assert!(matches!(written, Some(Ok(()))), "the driver is gone: {written:?}\n{}", tail(&self.log));
        let deadline = Instant::now() + PATIENCE;
        loop {
            match pipes.answers.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(answer) if answer["id"] == json!(id) => {
                    return match answer["error"].as_str() {
                        Some(error) => Err(error.to_owned()),
                        None => Ok(answer["ok"].clone()),
                    };
                }
                // Of a request that was given up.
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => {
                    panic!("no answer in {PATIENCE:?} to {what}\n{}", tail(&self.log))
                }
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("the driver ended at {what}\n{}", tail(&self.log))
                }
            }
        }
    }

    fn participant<'a>(&'a self, name: &str) -> Participant<'a> {
        Participant { remote: self, name: name.to_owned() }
    }

    /// Ends it without a word to anybody.
    fn kill(&mut self) {
        self.child.kill().expect("our own child");
        self.child.wait().expect("our own child");
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        // The end of its input tells a driver to clean up after itself.
        if let Ok(pipes) = self.pipes.get_mut() {
            pipes.requests = None;
        }
        let deadline = Instant::now() + Duration::from_secs(5);
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- end of the driver's log, {}:\n{}\n---", self.log.display(), tail(&self.log));
        }
    }
}

/// A browser without a head: Chromium, where nothing else is said.
pub(crate) struct Browser(Remote);

impl Browser {
    pub(crate) fn start() -> Browser {
        Browser::launch("chromium", &programs::chromium(), None, &json!({}))
    }

    /// One that takes certificates with this public key, whatever else is wrong with them: base64 of the SHA-256 of the
    /// `SubjectPublicKeyInfo` (RFC 7469 §2.4).
    pub(crate) fn start_trusting(key: &str) -> Browser {
        Browser::launch("chromium", &programs::chromium(), None, &json!({ "trustedKey": key }))
    }

    /// One that has all RTP, RTCP and SCTP that it sends and gets in its log, without encryption.
    pub(crate) fn start_dumping() -> Browser {
        Browser::launch("chromium", &programs::chromium(), None, &json!({ "dump": true }))
    }

    /// Where its log is.
    pub(crate) fn log(&self) -> PathBuf {
        self.0.log.clone()
    }

    /// With all its traffic through a namespace's link.
    pub(crate) fn start_in(namespace: &Namespace) -> Browser {
        Browser::launch("chromium", &programs::chromium(), Some(namespace), &json!({}))
    }

    /// Firefox, whose tabs can do what participants do.
    pub(crate) fn start_firefox() -> Browser {
        Browser::launch("firefox", &programs::firefox(), None, &json!({}))
    }

    fn launch(kind: &str, program: &Path, place: Option<&Namespace>, options: &Value) -> Browser {
        let driver = drivers().join("driver.mjs");
        // Firefox's agent is talked to over a WebSocket, which Node.js has unasked only from version 22 on.
        let options = options.to_string();
        let arguments =
            [Path::new("--experimental-websocket"), &driver, Path::new(kind), program, Path::new(&options)];
        Browser(Remote::start(kind, &programs::node(), &arguments, place))
    }

    /// A tab with a participant on livekit-client, not in a room yet.
    pub(crate) fn participant(&self, name: &str) -> Participant<'_> {
        self.0.request(json!({ "op": "open", "name": name })).expect("a tab");
        self.0.participant(name)
    }

    /// A tab at `url`, of `width` by `height` CSS pixels.
    pub(crate) fn open(&self, name: &str, url: &str, (width, height): (u32, u32)) -> Tab<'_> {
        let request = json!({ "op": "open", "name": name, "url": url, "width": width, "height": height });
        self.0.request(request).expect("a tab");
        Tab { remote: &self.0, name: name.to_owned() }
    }
}

/// A tab whose page is used through its own controls.
pub(crate) struct Tab<'a> {
    remote: &'a Remote,
    name: String,
}

impl Tab<'_> {
    #[track_caller]
    fn request(&self, mut request: Value) -> Value {
        request["name"] = json!(self.name);
        self.remote.request(request).unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    /// Writes into the field with that label.
    #[track_caller]
    pub(crate) fn fill(&self, label: &str, text: &str) {
        self.request(json!({ "op": "fill", "label": label, "text": text }));
    }

    /// Presses the button with that text.
    #[track_caller]
    pub(crate) fn press(&self, label: &str) {
        self.request(json!({ "op": "click", "role": "button", "label": label }));
    }

    /// All text that the page shows.
    pub(crate) fn text(&self) -> String {
        self.request(json!({ "op": "text" })).as_str().unwrap_or_default().to_owned()
    }

    /// `inbound`: the inbound-rtp statistics of all its connections; `videos`: its video elements.
    pub(crate) fn media(&self) -> Value {
        self.request(json!({ "op": "media" }))
    }

    pub(crate) fn screenshot(&self, path: &Path) {
        self.request(json!({ "op": "screenshot", "path": path }));
    }

    pub(crate) fn close(self) {
        self.request(json!({ "op": "close" }));
    }
}

/// A process with publishers and players over HTTP that are not browsers.
pub(crate) struct OverHttp(Remote);

impl OverHttp {
    /// FFmpeg's muxer and aiortc.
    pub(crate) fn start() -> OverHttp {
        OverHttp(Remote::start("whip", &programs::python(), &[&drivers().join("whip.py")], None))
    }

    /// GStreamer, with Debian's own Python, which its packages are for.
    pub(crate) fn start_gstreamer() -> OverHttp {
        let python = Path::new("/usr/bin/python3");
        OverHttp(Remote::start("gst", python, &[&drivers().join("gst.py")], None))
    }

    /// One publisher or player, not connected yet.
    pub(crate) fn client(&self, name: &str) -> Participant<'_> {
        self.0.request(json!({ "op": "open", "name": name })).expect("a client");
        self.0.participant(name)
    }
}

/// A process with the Python SDK, or Node's.
pub(crate) struct Sdk(Remote);

impl Sdk {
    pub(crate) fn start() -> Sdk {
        Sdk::launch(None)
    }

    /// With all its traffic through a namespace's link.
    pub(crate) fn start_in(namespace: &Namespace) -> Sdk {
        Sdk::launch(Some(namespace))
    }

    fn launch(place: Option<&Namespace>) -> Sdk {
        Sdk(Remote::start("sdk", &programs::python(), &[&drivers().join("sdk.py")], place))
    }

    /// With Node's SDK, `@livekit/rtc-node`.
    pub(crate) fn start_node() -> Sdk {
        Sdk(Remote::start("sdk-node", &programs::node(), &[&drivers().join("sdk.mjs")], None))
    }

    /// A participant on the SDK, not in a room yet.
    pub(crate) fn participant(&self, name: &str) -> Participant<'_> {
        self.0.request(json!({ "op": "open", "name": name })).expect("a participant");
        self.0.participant(name)
    }

    /// Ends the process without a word to anybody.
    pub(crate) fn kill(&mut self) {
        self.0.kill();
    }
}
