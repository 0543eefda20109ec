use super::*;

fn parse(line: &str) -> Result<Cli, String> {
    Cli::try_parse_from(line.split_whitespace()).map_err(|error| error.to_string())
}

fn claims(line: &str) -> signaling::access::Claims {
    let Command::Token(args) = parse(line).unwrap_or_else(|error| panic!("{error}")).command else {
        panic!("not a token command");
    };
    let keys = [("devkey", "secret"), ("k", "s")].map(|(key, secret)| (key.to_owned(), secret.to_owned()));
    let token = args.token(1_700_000_000_000).unwrap_or_else(|error| panic!("{error}"));
    signaling::access::verify(&keys.into_iter().collect(), &token, 1_700_000_000).expect("it verifies")
}

fn serve_settings(line: &str) -> Result<Settings, CliError> {
    let Command::Serve(args) = parse(line).unwrap_or_else(|error| panic!("{error}")).command else {
        panic!("not a serve command");
    };
    settings(&args)
}

#[test]
fn the_command_line_is_consistent() {
    use clap::CommandFactory as _;
    Cli::command().debug_assert();
}

#[test]
fn a_token_says_what_was_asked_for() {
    let plain = claims("sluice token --room r --identity i");
    let grant = plain.video.as_ref().unwrap();
    assert_eq!((plain.iss.as_str(), plain.identity(), grant.room.as_str()), ("devkey", "i", "r"));
    assert!(
        grant.room_join && grant.can_publish() && grant.can_subscribe() && !grant.hidden && !grant.room_admin
    );
    assert_eq!(plain.exp, Some(1_700_000_000 + 6 * 3600));

    let full = claims(
        "sluice token --room r --identity i --name N --ttl 30m --key k --secret s --can-publish=false \
         --can-subscribe=false --can-publish-data --hidden --room-admin --metadata m --attribute a=b=c \
         --can-publish-source camera",
    );
    let grant = full.video.as_ref().unwrap();
    assert_eq!((full.iss.as_str(), full.name.as_str(), full.metadata.as_str()), ("k", "N", "m"));
    assert_eq!(full.attributes["a"], "b=c");
    assert!(!grant.can_publish() && !grant.can_subscribe() && grant.can_publish_data());
    assert!(grant.hidden && grant.room_admin);
    assert_eq!(grant.can_publish_sources, ["camera"]);
    assert_eq!(full.exp, Some(1_700_000_000 + 1800));
}

#[test]
fn errors_name_the_flag_and_what_is_right() {
    for (line, parts) in [
        ("sluice token --identity i", ["--room", "required"]),
        ("sluice token --room r --identity=", ["--identity", "empty"]),
        ("sluice token --room r --identity i --ttl 6", ["--ttl", "6h"]),
        ("sluice token --room r --identity i --attribute x", ["--attribute", "KEY=VALUE"]),
        ("sluice token --room r --identity i --can-publish=maybe", ["--can-publish", "true"]),
        ("sluice token --room r --identity i --can-publish-source webcam", ["webcam", "camera"]),
        ("sluice serve --dev --bind here", ["--bind", "here"]),
        ("sluice serve --config f --port 1", ["--config", "--port"]),
    ] {
        let error = parse(line).expect_err(line);
        for part in parts {
            assert!(error.contains(part), "{line}: {part:?} in {error}");
        }
    }
    let error = serve_settings("sluice serve").expect_err("neither way").to_string();
    assert!(error.contains("--dev") && error.contains("--config"), "{error}");
    let Command::Token(args) = parse("sluice token --room r --identity i --key other").unwrap().command
    else {
        panic!("not a token command");
    };
    assert!(args.token(0).expect_err("no secret").to_string().contains("--secret"));
}

#[test]
fn development_takes_its_addresses_from_flags() {
    let settings = serve_settings("sluice serve --dev").unwrap();
    assert_eq!(settings.http.listen.to_string(), "127.0.0.1:7880");
    let settings =
        serve_settings("sluice serve --dev --bind 0.0.0.0 --port 8000 --node-ip 192.0.2.1 --node-ip ::2")
            .unwrap();
    assert_eq!(settings.http.listen.to_string(), "0.0.0.0:8000");
    assert_eq!(settings.media.node_ips.len(), 2);
    let error = serve_settings("sluice serve --dev --node-ip 0.0.0.0").expect_err("useless").to_string();
    assert!(error.contains("--node-ip 0.0.0.0"), "{error}");
}
