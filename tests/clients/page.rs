//! People in two browser windows, who know nothing but the page.

use std::time::Duration;

use serde_json::Value;

use crate::harness::{Browser, Server, Tab, alone, artefact, eventually};

#[test]
fn two_people_meet_through_the_pages_own_controls() {
    let _turn = alone();
    let server = Server::start("page");
    let browser = Browser::start();

    let ada = enter(&browser, &server, "Ada", (1280, 800));
    let grace = enter(&browser, &server, "Grace", (390, 844));

    for (who, tab) in [("Ada", &ada), ("Grace", &grace)] {
        let before = eventually(Duration::from_secs(20), || hears_and_sees(who, tab));
        eventually(Duration::from_secs(10), || {
            let now = hears_and_sees(who, tab)?;
            let grows = now.frames > before.frames + 20 && now.energy > before.energy;
            if grows { Ok(()) } else { Err(format!("{who}: {before:?}, then {now:?}")) }
        });
    }
    assert!(ada.text().contains("Grace"), "{}", ada.text());
    assert!(ada.text().contains("2 people"), "{}", ada.text());
    ada.screenshot(&artefact("page.png"));
    grace.screenshot(&artefact("page-phone.png"));

    ada.press("Speaker");
    eventually(Duration::from_secs(10), || hears_and_sees("Ada", &ada));
    ada.screenshot(&artefact("page-speaker.png"));

    grace.close();
    eventually(Duration::from_secs(20), || {
        let text = ada.text();
        if text.contains("only you") { Ok(()) } else { Err(text) }
    });
}

/// Opens the page, writes name and room, and presses Join.
fn enter<'a>(browser: &'a Browser, server: &Server, name: &str, size: (u32, u32)) -> Tab<'a> {
    let tab = browser.open(name, &server.page(), size);
    tab.fill("Your name", name);
    tab.fill("Room", "garden");
    tab.press("Join");
    tab
}

#[derive(Debug)]
struct Media {
    frames: u64,
    energy: f64,
}

/// What has been decoded so far of the one other person: a picture that is shown, and sound that is not silence.
fn hears_and_sees(who: &str, tab: &Tab<'_>) -> Result<Media, String> {
    let media = tab.media();
    let inbound = |kind: &str, key: &str| {
        let entries = media["inbound"].as_array().into_iter().flatten();
        entries.filter(|entry| entry["kind"] == kind).filter_map(|entry| entry[key].as_f64()).sum::<f64>()
    };
    let shown = |video: &&Value| video["width"].as_u64() > Some(0) && video["shownWidth"].as_u64() > Some(0);
    let pictures = media["videos"].as_array().into_iter().flatten().filter(shown).count();
    let now = Media {
        frames: inbound("video", "framesDecoded") as u64,
        energy: inbound("audio", "totalAudioEnergy"),
    };
    // Their picture and our own.
    if now.frames > 0 && now.energy > 0.0 && pictures >= 2 {
        Ok(now)
    } else {
        Err(format!("{who}: {now:?}, {pictures} pictures, page: {:.300}", tab.text()))
    }
}
