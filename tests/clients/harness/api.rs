//! Applications' servers: the two stock SDKs of the server API, driven the same way.

use serde_json::{Value, json};

use super::remote::Remote;
use super::{Server, drivers, programs};

/// The key of a development server.
const KEY: [&str; 2] = ["devkey", "secret"];

/// A process with a server SDK.
pub(crate) struct Api(Remote);

impl Api {
    /// `livekit-api`, which speaks protobuf.
    pub(crate) fn python(server: &Server) -> Api {
        Api::with_secret(server, KEY[1])
    }

    /// The same, with a secret that may be wrong.
    pub(crate) fn with_secret(server: &Server, secret: &str) -> Api {
        let (driver, url) = (drivers().join("api.py"), server.url());
        let arguments = [&driver, url.as_ref(), KEY[0].as_ref(), secret.as_ref()];
        Api(Remote::start("api-python", &programs::python(), &arguments, None))
    }

    /// `livekit-server-sdk`, which speaks JSON.
    pub(crate) fn node(server: &Server) -> Api {
        let (driver, url) = (drivers().join("api.mjs"), server.url());
        let arguments = [&driver, url.as_ref(), KEY[0].as_ref(), KEY[1].as_ref()];
        Api(Remote::start("api-node", &programs::node(), &arguments, None))
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
