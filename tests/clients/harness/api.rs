//! Applications' servers: the two stock SDKs of the server API, driven the same way.

use std::path::Path;

use serde_json::{Value, json};

use super::remote::Remote;
use super::{Server, drivers, programs};

/// The key of a development server…
const KEY: &str = "devkey";
/// …and its secret.
const SECRET: &str = "secret";

/// A process with a server SDK.
pub(crate) struct Api(Remote);

impl Api {
    /// `livekit-api`, which speaks protobuf.
    pub(crate) fn python(server: &Server) -> Api {
        Api::with_secret(server, SECRET)
    }

    /// The same, with a secret that may be wrong.
    pub(crate) fn with_secret(server: &Server, secret: &str) -> Api {
        Api::start(&programs::python(), "api.py", server, secret)
    }

    /// `livekit-server-sdk`, which speaks JSON.
    pub(crate) fn node(server: &Server) -> Api {
        Api::start(&programs::node(), "api.mjs", server, SECRET)
    }

    fn start(program: &Path, driver: &str, server: &Server, secret: &str) -> Api {
        let (path, url) = (drivers().join(driver), server.url());
        let arguments = [path.as_path(), Path::new(&url), Path::new(KEY), Path::new(secret)];
        Api(Remote::start(driver, program, &arguments, None))
    }

    /// Calls a function of `api.py` or `api.mjs`.
    ///
    /// # Errors
    /// Code and text of the server's error.
    pub(crate) fn call(&self, function: &str, arguments: &Value) -> Result<Value, String> {
        self.0.request(json!({ "fn": function, "args": arguments }))
    }

    /// The same, where no error is right.
    #[track_caller]
    pub(crate) fn done(&self, function: &str, arguments: &Value) -> Value {
        self.call(function, arguments).unwrap_or_else(|error| panic!("{function}{arguments}: {error}"))
    }
}

/// A process with a server SDK's receiver of webhooks.
pub(crate) struct Hooks(Remote);

impl Hooks {
    /// `livekit-api`, which checks signatures with `secret`.
    pub(crate) fn python(secret: &str) -> Hooks {
        Hooks::start(&programs::python(), "webhooks.py", secret)
    }

    /// `livekit-server-sdk`, the same.
    pub(crate) fn node(secret: &str) -> Hooks {
        Hooks::start(&programs::node(), "webhooks.mjs", secret)
    }

    fn start(program: &Path, driver: &str, secret: &str) -> Hooks {
        let path = drivers().join(driver);
        let arguments = [path.as_path(), Path::new(KEY), Path::new(secret)];
        Hooks(Remote::start(driver, program, &arguments, None))
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> String {
        let url = self.0.request(json!({ "fn": "url" })).expect("a URL");
        url.as_str().expect("text").to_owned()
    }

    /// What has come, in order.
    pub(crate) fn events(&self) -> Vec<Value> {
        let events = self.0.request(json!({ "fn": "events" })).expect("a list");
        events.as_array().expect("a list").clone()
    }
}
