//! What livekit-client's own `ConnectionCheck` says of the server.

use crate::harness::{Browser, Server, alone};

#[test]
fn the_web_sdks_own_examination_finds_nothing_wrong() {
    let _turn = alone();
    let server = Server::start("examination");
    let browser = Browser::start();
    let findings = browser.participant("ada").examine(&server, "surgery");
    assert_eq!(findings.len(), 6, "{findings:#?}");
    for finding in &findings {
        assert_eq!(finding.outcome, "success", "{}: {:#?}", finding.name, finding.said);
    }
}
