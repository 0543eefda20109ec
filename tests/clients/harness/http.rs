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

/// Asks for `target` (path and query) with the given header lines, on a connection of its own.
///
/// # Errors
/// If the connection fails or what comes is not HTTP; says what came.
pub(crate) fn get(server: SocketAddr, target: &str, headers: &[&str]) -> Result<Answer, String> {
    let wait = Duration::from_secs(5);
    let mut stream = TcpStream::connect_timeout(&server, wait).map_err(|error| error.to_string())?;
    stream.set_read_timeout(Some(wait)).map_err(|error| error.to_string())?;
    let host = format!("host: {server}");
    let lines = [&[host.as_str()], headers].concat().join("\r\n");
    let request = format!("GET {target} HTTP/1.1\r\n{lines}\r\n\r\n");
    // A server may refuse before it has read all; what it said counts.
    let written = stream.write_all(request.as_bytes());
    let (mut received, mut chunk) = (Vec::new(), [0; 16 << 10]);
    loop {
        match stream.read(&mut chunk) {
            Ok(length @ 1..) => received.extend_from_slice(&chunk[..length]),
            ended => {
                let text = String::from_utf8_lossy(&received);
                return Err(format!("wrote {written:?}, then {ended:?} after {text:?}"));
            }
        }
        if let Some(answer) = complete(&String::from_utf8_lossy(&received)) {
            return Ok(answer);
        }
    }
}

/// The answer, once all of its body is there.
fn complete(text: &str) -> Option<Answer> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let length = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
    (body.len() >= length.unwrap_or(0)).then(|| Answer { status, body: body.to_owned() })
}
