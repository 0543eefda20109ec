//! SDP fragments: candidates that come after the offer, and credentials that restart ICE (RFC 8840 §9).

use std::fmt::Write as _;

use super::offer::attribute;

/// Longest fragment that is read, in bytes: that of all candidates of a host with many addresses is a tenth of it.
pub const MAX_FRAGMENT: usize = 32 << 10;
/// Most candidates of one fragment.
pub const MAX_CANDIDATES: usize = 64;
/// Longest candidate, in bytes.
const MAX_CANDIDATE: usize = 1024;
/// RFC 8839 §5.4
const MAX_CREDENTIAL: usize = 256;

/// What a client adds to its offer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fragment {
    /// `a=ice-ufrag`
    pub ufrag: Option<String>,
    /// `a=ice-pwd`
    pub pwd: Option<String>,
    /// Candidates.
    pub candidates: Vec<Candidate>,
    /// No more will come (RFC 8840 §4.4).
    pub ended: bool,
}

/// One candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The section it stands in; empty where none is named.
    pub mid: String,
    /// From `candidate:` on.
    pub text: String,
}

/// Why a fragment cannot be read. Lines are counted from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FragmentError {
    /// Too much of it.
    #[error("an SDP fragment of {got} bytes, limit {MAX_FRAGMENT}")]
    TooLong {
        /// Bytes.
        got: usize,
    },
    /// Not text.
    #[error("the SDP fragment is not UTF-8")]
    NotText,
    /// Not a line of SDP.
    #[error("line {0} of the SDP fragment is not <letter>=<value>")]
    Line(usize),
    /// A credential that RFC 8839 §5.4 does not allow.
    #[error("line {0} of the SDP fragment: a=ice-ufrag has 4 to 256 characters, a=ice-pwd 22 to 256")]
    Credential(usize),
    /// One credential without the other.
    #[error("the SDP fragment has one of a=ice-ufrag and a=ice-pwd and not the other")]
    HalfCredentials,
    /// Different credentials in one fragment.
    #[error("the SDP fragment has different ICE credentials: bundled sections have the same")]
    TwoCredentials,
    /// Longer than any candidate.
    #[error("line {0} of the SDP fragment: a candidate of more than {MAX_CANDIDATE} bytes")]
    Candidate(usize),
    /// Too many.
    #[error("more than {MAX_CANDIDATES} candidates in one SDP fragment")]
    TooManyCandidates,
    /// Nothing that means anything.
    #[error("the SDP fragment has neither candidates nor ICE credentials")]
    Empty,
}

impl Fragment {
    /// Reads a fragment. Attributes that say nothing of ICE are skipped.
    ///
    /// # Errors
    /// [`FragmentError`]. Never panics.
    pub fn parse(body: &[u8]) -> Result<Fragment, FragmentError> {
        if body.len() > MAX_FRAGMENT {
            return Err(FragmentError::TooLong { got: body.len() });
        }
        let text = std::str::from_utf8(body).map_err(|_| FragmentError::NotText)?;
        let mut fragment = Fragment::default();
        let mut mid = "";
        for (number, line) in text.lines().enumerate().map(|(at, line)| (at + 1, line.trim_end())) {
            if line.is_empty() {
                continue;
            }
            let (letter, value) = line.split_once('=').ok_or(FragmentError::Line(number))?;
            if letter.len() != 1 || value.chars().any(char::is_control) {
                return Err(FragmentError::Line(number));
            }
            let attribute = match letter {
                "m" => {
                    mid = "";
                    continue;
                }
                "a" => value,
                _ => continue,
            };
            match attribute.split_once(':').unwrap_or((attribute, "")) {
                ("mid", name) => mid = name,
                ("ice-ufrag", value) => take(&mut fragment.ufrag, value, 4, number)?,
                ("ice-pwd", value) => take(&mut fragment.pwd, value, 22, number)?,
                ("end-of-candidates", _) => fragment.ended = true,
                ("candidate", _) => {
                    if attribute.len() > MAX_CANDIDATE {
                        return Err(FragmentError::Candidate(number));
                    }
                    if fragment.candidates.len() == MAX_CANDIDATES {
                        return Err(FragmentError::TooManyCandidates);
                    }
                    let candidate = Candidate { mid: mid.to_owned(), text: attribute.to_owned() };
                    fragment.candidates.push(candidate);
                }
                _ => {}
            }
        }
        if fragment.ufrag.is_some() != fragment.pwd.is_some() {
            return Err(FragmentError::HalfCredentials);
        }
        if fragment == Fragment::default() {
            return Err(FragmentError::Empty);
        }
        Ok(fragment)
    }

    /// The client's credentials, if they are there.
    pub fn credentials(&self) -> Option<(&str, &str)> {
        self.ufrag.as_deref().zip(self.pwd.as_deref())
    }
}

fn take(slot: &mut Option<String>, value: &str, least: usize, line: usize) -> Result<(), FragmentError> {
    let good = value.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'+' || c == b'/');
    if !good || !(least..=MAX_CREDENTIAL).contains(&value.len()) {
        return Err(FragmentError::Credential(line));
    }
    if slot.as_ref().is_some_and(|known| known != value) {
        return Err(FragmentError::TwoCredentials);
    }
    *slot = Some(value.to_owned());
    Ok(())
}

/// Our side of a restarted ICE session, taken from the answer that it led to: credentials, and the candidates of the
/// section that stands for the bundle (RFC 9725 §4.3.3). Those on TCP are left out: whip-whep 1.2 writes several into one line
/// and fails, and a client that needs them makes a new session.
pub fn of_answer(answer: &str) -> String {
    let mut out = String::new();
    let (session, sections) = answer.split_once("\nm=").map_or((answer, None), |(a, b)| (a, Some(b)));
    let mut line = |text: &str| {
        let _ = write!(out, "{}\r\n", text.trim_end());
    };
    for kept in ["a=ice-lite", "a=ice-options", "a=group"] {
        session.lines().filter(|line| line.starts_with(kept)).for_each(&mut line);
    }
    let sections = sections.into_iter().flat_map(|rest| rest.split("\nm="));
    let has_candidates = |section: &&str| attribute(section, "candidate").is_some();
    let Some(section) = sections.clone().find(has_candidates).or_else(|| sections.clone().next()) else {
        return out;
    };
    line(&format!("m={}", section.lines().next().unwrap_or_default()));
    for kept in ["a=mid", "a=ice-ufrag", "a=ice-pwd", "a=candidate", "a=end-of-candidates"] {
        let of_kind = section.lines().filter(|line| line.starts_with(kept));
        of_kind.filter(|line| !line.trim_end().ends_with(" tcptype passive")).for_each(&mut line);
    }
    out
}
