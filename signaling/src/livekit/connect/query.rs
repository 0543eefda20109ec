//! Query strings (application/x-www-form-urlencoded, WHATWG URL §5) and what v0 clients say of themselves in one.

use std::borrow::Cow;

use livekit_protocol::ClientInfo;
use livekit_protocol::client_info::{Capability, Sdk};

/// More parameters than any client sends; the rest is not looked at.
const MAX_PARAMETERS: usize = 64;

/// A query string, taken apart.
pub(super) struct Query<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Query<'a> {
    /// Never fails: a bad escape stands for itself, bytes that are not UTF-8 become U+FFFD.
    pub(super) fn parse(text: &'a str) -> Query<'a> {
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).take(MAX_PARAMETERS);
        Query(
            pairs
                .map(|pair| {
                    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                    (percent_decode(name), percent_decode(value))
                })
                .collect(),
        )
    }

    /// The first value of that name.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(have, _)| have == name).map(|(_, value)| &**value)
    }

    /// The client's description of itself; whatever is missing stays empty.
    pub(super) fn client_info(&self) -> ClientInfo {
        let text = |name| self.get(name).unwrap_or_default().to_owned();
        let number = |name| self.get(name).and_then(|value| value.parse().ok()).unwrap_or_default();
        let capabilities = self.get("capabilities").unwrap_or_default().split(',');
        ClientInfo {
            sdk: sdk(self.get("sdk").unwrap_or_default()) as i32,
            version: text("version"),
            protocol: number("protocol"),
            os: text("os"),
            os_version: text("os_version"),
            device_model: text("device_model"),
            browser: text("browser"),
            browser_version: text("browser_version"),
            address: String::new(),
            network: text("network"),
            other_sdks: text("other_sdks"),
            client_protocol: number("client_protocol"),
            capabilities: capabilities
                .filter_map(Capability::from_str_name)
                .map(|one| one as i32)
                .take(16)
                .collect(),
        }
    }
}

fn sdk(name: &str) -> Sdk {
    match name {
        "js" => Sdk::Js,
        "ios" | "swift" => Sdk::Swift,
        "android" => Sdk::Android,
        "flutter" => Sdk::Flutter,
        "go" => Sdk::Go,
        "unity" => Sdk::Unity,
        "reactnative" => Sdk::ReactNative,
        "rust" => Sdk::Rust,
        "python" => Sdk::Python,
        "cpp" => Sdk::Cpp,
        "unityweb" => Sdk::UnityWeb,
        "node" => Sdk::Node,
        "unreal" => Sdk::Unreal,
        "esp32" => Sdk::Esp32,
        "dotnet" => Sdk::Dotnet,
        _ => Sdk::Unknown,
    }
}

/// The browser's name by its `User-Agent`; empty when it is none we know. Safari's name is in all of them, so
/// it comes last.
pub(super) fn browser(user_agent: &str) -> &'static str {
    [
        ("Firefox/", "firefox"),
        ("FxiOS/", "firefox"),
        ("Edg/", "edge"),
        ("Chrome/", "chrome"),
        ("Safari/", "safari"),
    ]
    .into_iter()
    .find(|(mark, _)| user_agent.contains(mark))
    .map_or("", |(_, name)| name)
}

fn percent_decode(text: &str) -> Cow<'_, str> {
    if !text.bytes().any(|c| matches!(c, b'%' | b'+')) {
        return Cow::Borrowed(text);
    }
    let hex = |c: Option<&u8>| c.and_then(|c| char::from(*c).to_digit(16)).map(|digit| digit as u8);
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&c) = bytes.get(at) {
        at += 1;
        plain.push(match c {
            b'+' => b' ',
            b'%' => match (hex(bytes.get(at)), hex(bytes.get(at + 1))) {
                (Some(high), Some(low)) => {
                    at += 2;
                    high << 4 | low
                }
                _ => b'%',
            },
            other => other,
        });
    }
    Cow::Owned(String::from_utf8_lossy(&plain).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_decoded_and_bad_ones_kept() {
        let query = Query::parse("a=1%3D2+3&b&c=%zz%&a=later&d=%ff");
        assert_eq!(query.get("a"), Some("1=2 3"));
        assert_eq!(query.get("b"), Some(""));
        assert_eq!(query.get("c"), Some("%zz%"));
        assert_eq!(query.get("d"), Some("\u{fffd}"));
        assert_eq!(query.get("e"), None);
    }

    #[test]
    fn a_browser_is_known_by_its_user_agent() {
        assert_eq!(
            browser("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
            "firefox"
        );
        assert_eq!(
            browser("Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0 Safari/537.36"),
            "chrome"
        );
        assert_eq!(browser("curl/8"), "");
    }
}
