//! The web page, built by `web/` and embedded in the binary.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};

/// What Vite built. A debug build reads the folder when asked, a release build has it inside.
#[derive(rust_embed::RustEmbed)]
#[folder = "web/dist"]
#[allow_missing = true]
struct Files;

/// Shown in the page's place when it was not built.
const NOT_BUILT: &str = include_str!("page/not_built.html");

/// The page itself.
pub fn index() -> Response {
    match Files::get("index.html") {
        // Its name is always the same, so it must be asked for each time; what it loads has names by content.
        Some(file) => respond("text/html; charset=utf-8", "no-cache", file.data),
        None => {
            (StatusCode::OK, [(header::CONTENT_TYPE, "text/html; charset=utf-8")], NOT_BUILT).into_response()
        }
    }
}

/// A file that the page loads, by its path without the leading slash.
pub fn asset(path: &str) -> Option<Response> {
    let file = Files::get(path)?;
    let kind = mime_guess::from_path(path).first_or_octet_stream();
    let cache = if path.starts_with("assets/") { "public, max-age=31536000, immutable" } else { "no-cache" };
    Some(respond(kind.essence_str(), cache, file.data))
}

fn respond(kind: &str, cache: &'static str, data: std::borrow::Cow<'static, [u8]>) -> Response {
    let body = match data {
        std::borrow::Cow::Borrowed(bytes) => Body::from(bytes),
        std::borrow::Cow::Owned(bytes) => Body::from(bytes),
    };
    let kind = HeaderValue::from_str(kind).unwrap_or(HeaderValue::from_static("application/octet-stream"));
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, HeaderValue::from_static(cache)),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    (headers, body).into_response()
}
