//! The little of an offer that is looked at here, line by line.

/// Whether some section of audio or video sends, and whether one receives (RFC 8866 §6.7). Rejected sections do neither.
pub(super) fn directions(sdp: &str) -> (bool, bool) {
    let (mut session, mut section) = (None, None);
    let (mut sends, mut receives) = (false, false);
    let mut is_media = false;
    let mut settle = |is_media: bool, direction: Option<(bool, bool)>, session: Option<(bool, bool)>| {
        let (out, back) = direction.or(session).unwrap_or((true, true));
        sends |= is_media && out;
        receives |= is_media && back;
    };
    for line in sdp.lines() {
        if let Some(media) = line.strip_prefix("m=") {
            settle(is_media, section.take(), session);
            is_media = media.starts_with("audio ") || media.starts_with("video ");
        } else if let Some(direction) = direction(line) {
            if is_media { section = Some(direction) } else { session = session.or(Some(direction)) }
        }
    }
    settle(is_media, section, session);
    (sends, receives)
}

fn direction(line: &str) -> Option<(bool, bool)> {
    match line.trim_end() {
        "a=sendrecv" => Some((true, true)),
        "a=sendonly" => Some((true, false)),
        "a=recvonly" => Some((false, true)),
        "a=inactive" => Some((false, false)),
        _ => None,
    }
}

/// The first section of audio or video that the answer rejects, counted from 0, though the offer meant it.
pub(super) fn rejected(offer: &str, answer: &str) -> Option<usize> {
    let lines = |sdp: &str| -> Vec<(bool, bool)> {
        let of = |media: &str| {
            let mut words = media.split_ascii_whitespace();
            let is_media = matches!(words.next(), Some("audio" | "video"));
            (is_media, words.next() == Some("0"))
        };
        sdp.lines().filter_map(|line| line.strip_prefix("m=")).map(of).collect()
    };
    let refuses =
        |((is_media, unused), (_, refused)): (&(bool, bool), &(bool, bool))| *is_media && !unused && *refused;
    lines(offer).iter().zip(&lines(answer)).position(refuses)
}

/// An offer with other ICE credentials and without candidates: what the client would offer to restart ICE, could it
/// (RFC 9725 §4.3.3).
pub(super) fn with_credentials(sdp: &str, ufrag: &str, pwd: &str) -> String {
    let mut out = String::with_capacity(sdp.len());
    for line in sdp.lines() {
        let line = line.trim_end();
        let is = |name: &str| line.strip_prefix("a=").is_some_and(|rest| rest.starts_with(name));
        if is("candidate:") || is("end-of-candidates") {
            continue;
        }
        if is("ice-ufrag:") {
            out.push_str("a=ice-ufrag:");
            out.push_str(ufrag);
        } else if is("ice-pwd:") {
            out.push_str("a=ice-pwd:");
            out.push_str(pwd);
        } else {
            out.push_str(line);
        }
        out.push_str("\r\n");
    }
    out
}

/// The first value of an attribute, wherever it stands.
pub(super) fn attribute<'a>(sdp: &'a str, name: &str) -> Option<&'a str> {
    sdp.lines().find_map(|line| line.strip_prefix("a=")?.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}
