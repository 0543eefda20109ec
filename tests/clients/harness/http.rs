//! Plain HTTP/1.1 requests, also such as no well-behaved library would send.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// Asks for `target` (path and query) with the given header lines.
///
/// # Errors
/// If the connection fails or what comes is not HTTP; says what came.
pub(crate) fn get(server: SocketAddr, target: &str, headers: &[&str]) -> Result<Answer, String> {
    let wait = Duration::from_secs(5);
    let mut stream = TcpStream::connect_timeout(&server, wait).map_err(|error| error.to_string())?;
    stream.set_read_timeout(Some(wait)).map_err(|error| error.to_string())?;
    let headers: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    let request = format!("GET {target} HTTP/1.1\r\nhost: {server}\r\nconnection: close\r\n{headers}\r\n");
    // A server may refuse before it has read all; what it said counts.
    let written = stream.write_all(request.as_bytes());
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    let text = String::from_utf8_lossy(&answer);
    let parsed = text.split_once("\r\n\r\n").and_then(|(head, body)| {
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some(Answer { status, body: body.to_owned() })
    });
    parsed.ok_or_else(|| format!("wrote {written:?}, read {read:?}: {text:?}"))
}
