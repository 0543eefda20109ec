//! What we send in a call of Chromium's and Python's, as somebody else's parsers see it: on the wire, and what Chromium has decrypted.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::harness::{
    Browser, Camera, Mode, Participant, Sdk, Server, alone, artefact, eventually, observe, program,
};
use crate::meeting::{hears, sees};

/// Under which every packet of media of Chromium's log is put into a capture.
const MEDIA: &str = "17882";
const FAULT: &str = "_ws.malformed || _ws.expert.severity == \"Error\"";

#[test]
#[ignore = "half a minute, and `cargo xtask wire` reads more of media in simulated calls"]
fn tshark_finds_no_fault_with_what_we_send_in_a_call() {
    let _turn = alone();
    let server = Server::start("packets");
    let wire = artefact("packets-wire.pcap");
    let capture = Capture::start(&wire, &server);
    let (browser, sdk) = (Browser::start_dumping(), Sdk::start());
    let log = browser.log();
    let (ada, grace, alan) =
        (browser.participant("ada"), browser.participant("grace"), sdk.participant("alan"));
    for (person, mode, hertz) in
        [(&ada, Mode::V1, 440.0), (&grace, Mode::V0, 660.0), (&alan, Mode::V1, 880.0)]
    {
        person.join(&server, "garden", mode);
        person.publish_camera(&Camera { fps: 12, ..Camera::SMALL });
        person.publish_microphone(hertz);
    }
    call(&[(&ada, 440.0), (&grace, 660.0), (&alan, 880.0)]);
    drop((ada, grace, alan));
    drop((browser, sdk));
    drop(capture);

    let ports: Vec<String> =
        server.media_addresses().iter().map(|address| format!("udp.srcport == {}", address.port())).collect();
    let ours = format!("({})", ports.join(" || "));
    for (protocol, least) in [("stun", 10), ("dtls", 100)] {
        judge(&wire, &[], &format!("{ours} && {protocol}"), least);
    }
    let said = Decrypted::read(&log);
    let media = ["-u", &format!("{MEDIA},50000")].map(str::to_owned);
    for (name, text, how, protocol, least) in [
        ("rtp", &said.rtp, media.as_slice(), "rtp", 500),
        ("rtcp", &said.rtcp, media.as_slice(), "rtcp", 50),
        ("sctp", &said.sctp, &["-i", "132"].map(str::to_owned), "sctp", 100),
    ] {
        let capture = artefact(&format!("packets-{name}.pcap"));
        let source = artefact(&format!("packets-{name}.txt"));
        std::fs::write(&source, text).expect("written");
        run(Command::new(program("text2pcap", "tshark")).arg("-q").args(how).arg(&source).arg(&capture));
        let decode = format!("udp.port=={MEDIA},{protocol}");
        let decode =
            if protocol == "sctp" { vec!["-o", "sctp.checksum:CRC32C"] } else { vec!["-d", &decode] };
        judge(&capture, &decode, protocol, least);
    }
}

/// Everybody sees and hears everybody else, and sends messages and a stream.
fn call(people: &[(&Participant<'_>, f64)]) {
    for (speaker, hertz) in people {
        for (listener, _) in people.iter().filter(|(one, _)| one.name() != speaker.name()) {
            eventually(Duration::from_secs(20), || sees(listener, speaker));
            eventually(Duration::from_secs(10), || hears(listener, speaker, *hertz));
        }
        for (reliable, bytes) in [(true, 100), (true, 60_000), (false, 1000)] {
            speaker.send(bytes, reliable, speaker.name()).expect("within the limit");
        }
        speaker.send_file(100_000, speaker.name());
    }
    observe(Duration::from_secs(3));
}

/// tcpdump(8), until it is dropped.
struct Capture(Child);

impl Capture {
    fn start(file: &Path, server: &Server) -> Capture {
        let ports: Vec<String> =
            server.media_addresses().iter().map(|address| format!("udp port {}", address.port())).collect();
        let _ = std::fs::remove_file(file);
        let child = Command::new(program("tcpdump", "tcpdump"))
            .args(["-i", "lo", "-U", "-Z", "root", "-w"])
            .arg(file)
            .arg(ports.join(" or "))
            .stderr(Stdio::null())
            .spawn()
            .expect("tcpdump can be started");
        let capture = Capture(child);
        // The head of the file is written once it listens.
        eventually(Duration::from_secs(10), || match std::fs::metadata(file) {
            Ok(meta) if meta.len() >= 24 => Ok(()),
            other => Err(format!("{other:?}")),
        });
        capture
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What Chromium got of us: packets in the form of text2pcap, one in each line.
#[derive(Default)]
struct Decrypted {
    rtp: String,
    rtcp: String,
    sctp: String,
}

impl Decrypted {
    fn read(log: &Path) -> Decrypted {
        let mut all = Decrypted::default();
        let text = std::fs::read(log).expect("the browser's log");
        for line in String::from_utf8_lossy(&text).lines() {
            let Some((packet, what)) = line.split_once('#') else { continue };
            // `… I 00:00:01.234 0000 80 6f …`: received.
            let Some((_, packet)) = packet.split_once("] I ") else { continue };
            let Some((_, packet)) = packet.split_once(' ') else { continue };
            let second = packet.split(' ').nth(2).and_then(|byte| u8::from_str_radix(byte, 16).ok());
            let kind = match (what.trim().split(' ').next(), second) {
                (Some("SCTP_PACKET"), _) => &mut all.sctp,
                // RFC 5761 §4
                (Some("RTP_DUMP"), Some(192..=223)) => &mut all.rtcp,
                (Some("RTP_DUMP"), Some(_)) => &mut all.rtp,
                _ => continue,
            };
            writeln!(kind, "{packet}").expect("into memory");
        }
        all
    }
}

/// At least so many packets match, and none of them is at fault.
#[track_caller]
fn judge(capture: &Path, options: &[&str], which: &str, least: usize) {
    let seen = |filter: &str| {
        let mut tshark = Command::new(program("tshark", "tshark"));
        tshark.arg("-r").arg(capture).args(options);
        run(tshark.args(["-Y", filter, "-T", "fields", "-e", "frame.number"]))
    };
    let (all, faulty) = (seen(which), seen(&format!("{which} && ({FAULT})")));
    println!("{}: {} packets of {which}", capture.display(), all.lines().count());
    assert!(all.lines().count() >= least, "{which}: {} in {}", all.lines().count(), capture.display());
    assert_eq!(faulty, "", "packets of {} that tshark finds fault with", capture.display());
}

#[track_caller]
fn run(command: &mut Command) -> String {
    let output = command.output().expect("it was found");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
