use std::path::Path;

use super::layers::apply_text;
use super::*;

const KEYS: &str = "[keys]\nmykey = \"0123456789abcdef0123456789abcdef\"\n";

fn error(text: &str) -> String {
    apply_text(Path::new("sluice.toml"), text).expect_err(text).to_string()
}

fn settings(text: &str) -> Settings {
    apply_text(Path::new("sluice.toml"), &format!("{KEYS}{text}")).unwrap_or_else(|error| panic!("{error}"))
}

fn from_environment(name: &str, value: &str) -> Result<Settings, ConfigError> {
    load_dev([(name.into(), value.into())])
}

#[test]
fn the_reference_is_the_defaults() {
    let plain = settings("");
    assert_eq!(plain.http.listen.to_string(), "0.0.0.0:7880");
    assert_eq!((plain.media.first_port, plain.media.tcp_port), (7882, Some(7881)));
    assert!(plain.rooms.auto_create && !plain.dev);
}

#[test]
fn every_commented_key_of_the_reference_is_a_key() {
    // Only lines that are keys or sections: a comment's sentence begins with "# ".
    let enabled: String = REFERENCE
        .lines()
        .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line))
        .flat_map(|line| [line, "\n"])
        .collect();
    let settings =
        apply_text(Path::new("reference.toml"), &enabled).unwrap_or_else(|error| panic!("{error}"));
    assert!(settings.http.tls.is_some());
    assert_eq!(settings.ice_servers.servers().len(), 2);
    assert!(settings.keys.secret("mykey").is_some());
}

#[test]
fn the_documentation_is_the_reference() {
    let page = include_str!("../../docs/configuration.md");
    assert!(page == reference_page(), "run: sluice config reference --markdown > docs/configuration.md");
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_the_keys_there_are() {
    let error = error("[http]\nlisten = \"127.0.0.1:1\"\n\n[media]\n# a comment\nport = 7882\n");
    assert!(error.starts_with("sluice.toml, line 6: unknown key media.port; "), "{error}");
    assert!(error.contains("`udp-port-start`"), "{error}");
}

#[test]
fn an_unknown_section_is_named_with_its_line() {
    for text in ["\n[medai]\nworkers = 1\n", "\n[medai]\n", "\nmedai = 1\n"] {
        let error = error(text);
        assert!(error.contains("line") && error.contains("unknown key medai"), "{error}");
        assert!(error.contains("`media`"), "{error}");
    }
}

#[test]
fn a_wrong_value_is_named_with_its_line_and_what_is_right() {
    for (text, key, parts) in [
        ("[media]\nworkers = \"two\"", "media.workers", ["line 2", "default is 0"]),
        ("[media]\nudp-port-start = 70000", "media.udp-port-start", ["u16", "default is 7882"]),
        ("[http]\nlisten = \"7880\"", "http.listen", ["socket address", "0.0.0.0:7880"]),
        ("[rooms]\nempty-timeout = \"5 lightyears\"", "rooms.empty-timeout", ["line 2", "\"5m\""]),
        ("[rooms]\nmax-data-tracks = 65536", "rooms.max-data-tracks", ["u16", "default is 32"]),
        ("[rooms]\nauto-create = \"yes\"", "rooms.auto-create", ["boolean", "true"]),
        ("\n\n[[ice-servers]]\nurls = [\"http://x\"]", "ice-servers", ["line 3", "stun:"]),
    ] {
        let error = error(text);
        assert!(error.contains(key), "{error}");
        for part in parts {
            assert!(error.contains(part), "{part:?} in {error}");
        }
    }
}

#[test]
fn values_that_do_not_fit_together_are_refused_with_their_line() {
    for (text, parts) in [
        ("[keys]\nshort = \"tooshort\"", ["line 2: keys.short", "at least 32"]),
        ("[http]\ntls-cert = \"a.pem\"", ["line 2: http.tls-cert", "http.tls-key is missing"]),
        ("[media]\nbind = [\"::\", \"::1\"]", ["line 2: media.bind", "one of each"]),
        ("[media]\nworkers = 9\nudp-port-start = 65530", ["line 3: media.udp-port-start", "at most 65527"]),
        ("[media]\nnode-ips = [\"0.0.0.0\"]", ["line 2: media.node-ips", "public address"]),
        ("[media]\ntcp-connections = 0", ["line 2: media.tcp-connections:", "media.tcp-port = 0"]),
        ("[media]\nmax-load = 10", ["line 2: media.max-load", "20 to 95"]),
        ("[media]\ntcp-connections-per-address = 0", ["line 2: media.tcp-connections-per", "nobody"]),
        ("[media]\nworkers = 100000", ["line 2: media.workers", "limit of 1024"]),
        ("[media]\nsend-buffer = 1", ["line 2: media.send-buffer", "65536"]),
        ("[limits]\nidle-timeout = \"1s\"", ["line 2: limits.idle-timeout", "11s"]),
        ("[http]\nmax-connections = 0", ["line 2: http.max-connections", "at least 1"]),
        ("[http]\nmax-handshakes-per-second = 0", ["line 2: http.max-handshakes-per-second", "at least 1"]),
        ("[rooms]\nmax-tracks = 0", ["line 2: rooms.max-tracks", "at least 1, at most 512"]),
        ("[rooms]\nmax-subscriptions = 1025", ["line 2: rooms.max-subscriptions", "at most 1024"]),
        ("[rooms]\nmax-data-rate = 1000", ["line 2: rooms.max-data-rate", "at least 262144"]),
        ("[limits]\nsession-queue = 0", ["line 2: limits.session-queue", "1024"]),
        ("[turn]\nenabled = true\ntransports = []", ["line 3: turn.transports", "turn.enabled = false"]),
        ("[turn]\nenabled = true\ntransports = [\"tls\"]", ["line 3: turn.transports", "turn.tls-cert"]),
        ("[turn]\nenabled = true\ntls-key = \"k\"", ["line 3: turn.tls-key", "turn.tls-cert is missing"]),
        ("[turn]\nenabled = true\ndomain = \"a b\"", ["line 3: turn.domain", "turn.example.org"]),
        ("[turn]\nenabled = true\nsecret = \"short\"", ["line 3: turn.secret", "at least 32"]),
        ("[turn]\nenabled = true\nsend-queue = 1", ["line 3: turn.send-queue", "262144"]),
        ("[turn]\nenabled = true\nmax-allocations = 0", ["line 3: turn.max-allocations", "2000"]),
        ("[log]\nlevel = \"sluice=loud\"", ["line 2: log.level", "trace"]),
    ] {
        // With a good key last, so that only the fault of `text` is left.
        let text = if text.starts_with("[keys]") { text.to_owned() } else { format!("{text}\n{KEYS}") };
        let error = error(&text);
        for part in parts {
            assert!(error.contains(part), "{part:?} in {error}");
        }
    }
    assert!(error("").contains("no API key"));
}

#[test]
fn webhooks_are_off_by_default_and_wrong_ones_are_refused_with_their_line() {
    assert!(settings("").webhooks.is_none());
    let good = settings(
        "[webhooks]\nurls = [\"https://a.example/hooks\"]\nallow = [\"10.1.0.0/16\", \"::1\", \"Hooks.Internal\"]\nmax-attempts = 3",
    );
    let webhooks = good.webhooks.expect("a receiver");
    assert_eq!((webhooks.key.name.as_str(), webhooks.patience.max_attempts), ("mykey", Some(3)));
    assert_eq!((webhooks.allowed.networks.len(), webhooks.allowed.hosts[0].as_str()), (2, "hooks.internal"));
    assert!(!format!("{webhooks:?}").contains("0123456789abcdef"), "no secret is formatted");
    for (text, parts) in [
        ("urls = [\"http://a.example/\"]", ["line 2: webhooks.urls", "allow-http"]),
        ("urls = [\"ftp://a.example/\"]", ["line 2: webhooks.urls", "neither https nor http"]),
        ("urls = [\"/hooks\"]", ["line 2: webhooks.urls", "no host"]),
        ("urls = [\"https://ada:x@a.example/\"]", ["line 2: webhooks.urls", "signature"]),
        ("urls = [\"https://a.example/\"]\napi-key = \"other\"", ["line 3: webhooks.api-key", "no API key"]),
        ("allow = [\"10.0.0.0/99\"]", ["line 2: webhooks.allow", "host name"]),
        ("max-disk = 1000", ["line 2: webhooks.max-disk", "1048576"]),
        ("connections = 0", ["line 2: webhooks.connections", "at least 1"]),
        ("longest-retry = \"10ms\"", ["line 2: webhooks.longest-retry", "first-retry"]),
        ("timeout = \"5\"", ["line 2: webhooks.timeout", "\"5s\""]),
    ] {
        let error = error(&format!("[webhooks]\n{text}\n{KEYS}"));
        for part in parts {
            assert!(error.contains(part), "{part:?} in {error}");
        }
    }
    let two = "[webhooks]\nurls = [\"https://a.example/\"]\n[keys]\nb = \"0123456789abcdef0123456789abcdef\"\na = \"0123456789abcdef0123456789abcdef\"\n";
    assert!(error(two).contains("webhooks.api-key: there are 2 API keys"), "{}", error(two));
    let dev =
        from_environment("SLUICE_WEBHOOKS__URLS", "http://localhost:9/hooks").unwrap().webhooks.unwrap();
    assert!(dev.allowed.permits("localhost", "127.0.0.1".parse().unwrap()));
    assert!(!dev.allowed.permits("a.example", "10.0.0.1".parse().unwrap()));
}

#[test]
fn text_that_is_not_toml_is_refused_with_its_line() {
    let error = error("[http]\nlisten = \"a\"\nlisten\n");
    assert!(error.starts_with("sluice.toml, line 3: not TOML"), "{error}");
}

#[test]
fn variables_win_over_the_file_and_need_no_quotes() {
    let dir = std::env::temp_dir().join(format!("sluice-config-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let file = dir.join("sluice.toml");
    std::fs::write(&file, format!("{KEYS}[media]\nworkers = 2\n")).unwrap();
    let settings = load(
        &file,
        [
            ("SLUICE_MEDIA__WORKERS".into(), "3".into()),
            ("SLUICE_MEDIA__NODE_IPS".into(), "192.0.2.1, 2001:db8::1".into()),
            ("SLUICE_HTTP__LISTEN".into(), "127.0.0.1:80".into()),
            ("SLUICE_ROOMS__EMPTY_TIMEOUT".into(), "1m".into()),
            // A secret that looks like a number is still text.
            ("SLUICE_KEYS__Other".into(), "01234567890123456789012345678901".into()),
            ("SLUICE_KEYS__Digits".into(), "12345678901234567890123456789012".into()),
            ("SLUICE_ICE_SERVERS".into(), "[{urls = [\"stun:stun.example.org\"]}]".into()),
            ("SLUICE_CONFIG".into(), "not a key".into()),
            ("PATH".into(), "/bin".into()),
        ],
    );
    std::fs::remove_dir_all(&dir).unwrap();
    let settings = settings.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(settings.media.workers.get(), 3);
    assert_eq!(settings.media.node_ips.len(), 2);
    assert_eq!(settings.http.listen.port(), 80);
    assert_eq!(settings.rooms.empty_timeout.as_secs(), 60);
    assert!(settings.keys.secret("mykey").is_some() && settings.keys.secret("Other").is_some());
    assert_eq!(settings.keys.secret("Digits"), Some("12345678901234567890123456789012"));
    assert_eq!(settings.ice_servers.servers().len(), 1);
}

#[test]
fn a_wrong_variable_is_named() {
    let error = from_environment("SLUICE_MEDIA__WORKERS", "two").expect_err("not a number").to_string();
    assert!(error.starts_with("environment variable SLUICE_MEDIA__WORKERS: media.workers"), "{error}");
    let error = from_environment("SLUICE_MEDIA__WORKER", "2").expect_err("no such key").to_string();
    assert!(error.contains("unknown key media.worker; ") && error.contains("`workers`"), "{error}");
}

#[test]
fn no_secret_is_formatted() {
    let secret = "0123456789abcdef0123456789abcdef";
    assert!(!format!("{:?}", settings("")).contains(secret));
    assert!(!error("[keys]\na = \"short-secret\"").contains("short-secret"));
}

#[test]
fn development_stays_on_loopback_unless_told_otherwise() {
    let mut settings = Settings::dev();
    assert!(settings.dev && settings.http.listen.ip().is_loopback());
    assert!(settings.media.bind_v4.unwrap().is_loopback() && settings.media.bind_v6.unwrap().is_loopback());
    settings.bind_to("0.0.0.0".parse().unwrap());
    assert!(
        settings.media.bind_v4.unwrap().is_unspecified() && settings.media.bind_v6.unwrap().is_unspecified()
    );
}
