//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use sluice_load::{Protocol, Quality, Settings, Video};

/// The shortest run in which anything can be seen.
const MIN_DURATION: Duration = Duration::from_secs(1);

/// Puts load on a server that speaks the LiveKit protocol, and tells what arrived.
///
/// Publishers and subscribers are played on one thread of this process. It ends after --duration, and with status 1
/// if nobody got media.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
#[command(after_help = "Examples:
  sluice-load --subscribers 100 --video 1200k                         one to a hundred
  sluice-load --publishers 10 --subscribers 300 --video off           speakers and listeners
  sluice-load --publishers 30 --subscribers 0 --meeting --quality low everybody sees everybody
Run it on another machine than the server's, or pin both: taskset -c 1 sluice-load ...")]
pub(crate) struct Args {
    /// The server: ws://host:port, or wss
    #[arg(long, env = "LIVEKIT_URL", default_value = "ws://127.0.0.1:7880", value_parser = url)]
    url: String,
    /// What the server speaks: LiveKit's protocol, or the VideoRoom of Janus, which needs no key
    #[arg(long, value_enum, default_value_t = Protocol::Livekit)]
    protocol: Protocol,
    /// API key that signs tokens
    #[arg(long, env = "SLUICE_API_KEY", default_value = "devkey")]
    api_key: String,
    /// The key's secret
    #[arg(long, env = "SLUICE_API_SECRET", hide_env_values = true, default_value = "secret")]
    api_secret: String,
    /// The room that everybody joins
    #[arg(long, default_value = "load")]
    room: String,
    /// Participants with camera and microphone; 0: the others only wait
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(..=5000))]
    publishers: u16,
    /// Participants who only watch and listen
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(..=5000))]
    subscribers: u16,
    /// Publishers watch each other, too
    #[arg(long)]
    meeting: bool,
    /// How long it takes in all, such as 30s or 5m
    #[arg(long, default_value = "30s", value_parser = duration)]
    duration: Duration,
    /// From the last join until figures are taken
    #[arg(long, default_value = "1s", value_parser = humantime::parse_duration)]
    warm_up: Duration,
    /// A camera's video: a rate, such as 1200k or 2.5M, `simulcast` (160k, 450k and 1700k), or `off`
    #[arg(long, value_name = "RATE|simulcast|off", default_value = "simulcast", value_parser = video)]
    video: Video,
    /// A microphone for each publisher
    #[arg(long, value_name = "on|off", default_value = "on", value_parser = switch, action = clap::ArgAction::Set)]
    audio: bool,
    /// So many microphones at most, those of the publishers that come first [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    speakers: Option<u16>,
    /// Participants that join in a second
    #[arg(long, value_name = "N", default_value_t = 20.0, value_parser = rate)]
    joins_per_second: f64,
    /// Who has no media so long after its request has failed
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    join_timeout: Duration,
    /// Picture size that watchers ask for [default: they do not say, and get the largest that fits]
    #[arg(long)]
    quality: Option<Quality>,
    /// Also tell this process's CPU time for each packet, and its memory: the server, on this machine
    #[arg(long, value_name = "PID")]
    server_pid: Option<i32>,
    /// Write the summary to this file, too
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Write each second to this file, too, a line of JSON each
    #[arg(long, value_name = "FILE")]
    pub(crate) seconds: Option<PathBuf>,
    /// No line a second
    #[arg(long)]
    pub(crate) quiet: bool,
    /// Seed of the streams' random numbers and the participants' names [default: another each time]
    #[arg(long)]
    seed: Option<u64>,
}

impl Args {
    pub(crate) fn settings(&self) -> Settings {
        Settings {
            url: self.url.clone(),
            protocol: self.protocol,
            api_key: self.api_key.clone(),
            api_secret: self.api_secret.clone(),
            room: self.room.clone(),
            publishers: self.publishers,
            subscribers: self.subscribers,
            meeting: self.meeting,
            duration: self.duration,
            warm_up: self.warm_up,
            video: self.video,
            audio: self.audio,
            speakers: self.speakers.unwrap_or(u16::MAX),
            joins_per_second: self.joins_per_second,
            join_timeout: self.join_timeout,
            quality: self.quality,
            server_pid: self.server_pid,
            seed: self.seed.unwrap_or_else(|| fastrand::u64(..)),
        }
    }

    /// What makes no sense together.
    pub(crate) fn contradiction(&self) -> Option<&'static str> {
        if self.video == Video::Off && !self.audio {
            return Some("--video off and --audio off: there would be nothing to measure");
        }
        if self.publishers == 0 && self.protocol == Protocol::Videoroom {
            return Some("--publishers 0 with --protocol videoroom: there would be nothing to watch");
        }
        if self.subscribers == 0 && !self.meeting {
            return Some("--subscribers 0 without --meeting: nobody would watch");
        }
        if self.protocol == Protocol::Videoroom && (self.meeting || self.quality.is_some()) {
            return Some("--protocol videoroom has neither --meeting nor --quality");
        }
        None
    }
}

fn url(text: &str) -> Result<String, String> {
    let (scheme, rest) = text.split_once("://").ok_or("a scheme is missing: ws://host:port")?;
    let scheme = match scheme {
        "ws" | "http" => "ws",
        "wss" | "https" => "wss",
        other => return Err(format!("{other}:// is none of ws, wss, http, https")),
    };
    let host = rest.trim_end_matches('/');
    if host.is_empty() || host.contains(['?', '#', ' ']) {
        return Err("expected ws://host:port, without anything behind it".to_owned());
    }
    Ok(format!("{scheme}://{host}"))
}

fn duration(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if duration < MIN_DURATION {
        return Err("at least 1s".to_owned());
    }
    Ok(duration)
}

fn video(text: &str) -> Result<Video, String> {
    match text {
        "off" => Ok(Video::Off),
        "simulcast" => Ok(Video::Simulcast),
        rate => bits_per_second(rate).map(Video::Single),
    }
}

fn bits_per_second(text: &str) -> Result<u64, String> {
    let (number, unit) = match text.strip_suffix(['k', 'K']) {
        Some(number) => (number, 1e3),
        None => text.strip_suffix(['m', 'M']).map_or((text, 1.0), |number| (number, 1e6)),
    };
    let number: f64 = number.parse().map_err(|_| "neither a rate, such as 1200k, nor simulcast nor off")?;
    let rate = number * unit;
    if (10e3..=100e6).contains(&rate) {
        Ok(rate as u64)
    } else {
        Err("a camera sends from 10k to 100M".to_owned())
    }
}

fn switch(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("on or off".to_owned()),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (0.01..=10_000.0).contains(&rate) => Ok(rate),
        _ => Err("a number from 0.01 to 10000".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Args, clap::Error> {
        Args::try_parse_from(std::iter::once(&"sluice-load").chain(words))
    }

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory as _;
        Args::command().debug_assert();
    }

    #[test]
    fn an_example_means_what_it_says() {
        let words = "--url https://calls.example.com/ --api-key k --api-secret s --room r --publishers 2 \
                     --subscribers 100 --duration 90s --video 1.2M --audio off --joins-per-second 2.5 --quality low";
        let settings = parse(&words.split_whitespace().collect::<Vec<_>>()).unwrap().settings();
        assert_eq!(settings.url, "wss://calls.example.com");
        assert_eq!((settings.publishers, settings.subscribers), (2, 100));
        assert_eq!(settings.duration, Duration::from_secs(90));
        assert_eq!((settings.video, settings.audio), (Video::Single(1_200_000), false));
        assert_eq!((settings.joins_per_second, settings.quality), (2.5, Some(Quality::Low)));
    }

    #[test]
    fn without_words_it_tries_the_development_server() {
        let args = parse(&[]).unwrap();
        assert_eq!(args.contradiction(), None);
        let settings = args.settings();
        assert_eq!(settings.api_key, "devkey");
        assert_eq!((settings.video, settings.audio), (Video::Simulcast, true));
    }

    #[test]
    fn mistakes_are_told() {
        for (words, hint) in [
            (["--url", "localhost:7880"], "scheme"),
            (["--url", "ftp://x"], "ws, wss"),
            (["--url", "ws://x/?a=b"], "without anything behind"),
            (["--video", "12"], "10k to 100M"),
            (["--video", "much"], "simulcast"),
            (["--audio", "maybe"], "on or off"),
            (["--duration", "10"], "time unit"),
            (["--duration", "10ms"], "at least 1s"),
            (["--joins-per-second", "0"], "from 0.01"),
        ] {
            let error = parse(&words).unwrap_err().to_string();
            assert!(error.contains(hint), "{words:?}: {error}");
        }
    }

    #[test]
    fn contradictions_are_told() {
        for words in [
            &["--video", "off", "--audio", "off"][..],
            &["--subscribers", "0"],
            &["--protocol", "videoroom", "--meeting"],
            &["--protocol", "videoroom", "--publishers", "0"],
        ] {
            assert!(parse(words).unwrap().contradiction().is_some(), "{words:?}");
        }
        assert_eq!(parse(&["--subscribers", "0", "--meeting"]).unwrap().contradiction(), None);
    }
}
