//! What livekit-client's own `ConnectionCheck` says of the server.

use crate::harness::{Browser, Mode, Server, alone, own_address};

#[test]
fn the_web_sdks_own_examination_finds_nothing_wrong() {
    examination(Mode::V1);
}

#[test]
#[ignore = "half a minute, for what other tests show over two connections"]
fn the_web_sdks_own_examination_finds_nothing_wrong_over_two_connections() {
    examination(Mode::V0);
}

fn examination(mode: Mode) {
    let _turn = alone();
    let turn = [
        ("SLUICE_TURN__ENABLED", "true"),
        ("SLUICE_TURN__TRANSPORTS", "[\"udp\", \"tcp\"]"),
        ("SLUICE_TURN__UDP_PORT", "0"),
        ("SLUICE_TURN__TCP_PORT", "0"),
    ];
    let server = Server::start_with("examination", own_address(), &turn);
    let browser = Browser::start();
    let findings = browser.participant("ada").examine(&server, "surgery", mode);
    assert_eq!(findings.len(), 6, "{findings:#?}");
    for finding in &findings {
        assert_eq!(finding.outcome, "success", "{}: {:#?}", finding.name, finding.said);
    }
}
