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

    // Ada's own join token is enough for the server's side.
    for (who, tab, other) in [("Ada", &ada, "Grace"), ("Grace", &grace, "Ada")] {
        tab.press("Statistics");
        eventually(Duration::from_secs(20), || shows_statistics(who, &tab.text(), other));
    }
    ada.screenshot(&artefact("page-statistics.png"));
    grace.screenshot(&artefact("page-statistics-phone.png"));
    ada.press("Close statistics");
    grace.press("Close statistics");
    assert!(!ada.text().contains("Your connection"), "{}", ada.text());

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

/// The panel has numbers of both sides, for the one other person: a size and rates that are not zero, and a reason.
fn shows_statistics(who: &str, text: &str, other: &str) -> Result<(), String> {
    let panel = text.split_once("Your connection").map(|(_, panel)| panel);
    let panel = panel.ok_or_else(|| format!("{who}: no panel: {text:.500}"))?;
    let fault = |what: &str| Err(format!("{who}: {what}: {panel:.900}"));
    if panel.contains("tells no reasons") {
        return fault("the server's side is missing");
    }
    let (own, person) = panel.split_once(other).ok_or_else(|| format!("{who}: nobody: {panel:.900}"))?;
    let number = |text: &str, label: &str, unit: &str| -> Option<f64> {
        let value = text.split_once(label)?.1.trim_start().split_once(unit)?.0;
        value.trim().parse().ok()
    };
    let rate = |text: &str, label: &str| {
        let after = text.split_once(label)?.1.trim_start();
        let line = after.lines().next()?;
        number(line, "", "kbit/s").or_else(|| Some(number(line, "", "Mbit/s")? * 1000.0))
    };
    let picture = person.split_once("Picture").and_then(|(_, rest)| rest.trim_start().split_once('×'));
    let width = picture.and_then(|(width, _)| width.parse::<u32>().ok());
    let reasons =
        ["Best there is", "Enough for the size shown", "Its sender sends no more", "Your connection carries"];
    let reasons = [&reasons[..], &["More in a moment", "More comes with the next keyframe"]].concat();
    match () {
        () if rate(own, "May be sent") < Some(100.0) => fault("no estimate"),
        () if rate(own, "Arrives") <= Some(0.0) => fault("nothing delivered"),
        () if width < Some(100) => fault("no picture"),
        () if rate(person, "Rate") <= Some(0.0) => fault("no video rate"),
        () if !person.contains("fps") || !person.contains("Concealed") => fault("no frames or no sound"),
        () if !reasons.iter().any(|reason| person.contains(reason)) => fault("no reason"),
        () => Ok(()),
    }
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
    let shown = |video: &&Value| video["width"].as_u64() > Some(0) && video["visible"] == true;
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
