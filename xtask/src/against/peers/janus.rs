//! Debian's Janus with its VideoRoom plugin.

use std::path::PathBuf;
use std::process::Command;

use super::{Peer, configuration};
use crate::against::folder;
use crate::place::{ADDRESS, Place};
use crate::run::{Result, output};
use crate::tools;

const PORT: u16 = 8188;

pub(in crate::against) struct Janus {
    name: &'static str,
    /// `general.event_loops`; 0: a thread for each connection, which is its default.
    event_loops: u32,
}

impl Janus {
    pub(in crate::against) fn thread_per_handle() -> Janus {
        Janus { name: "Janus", event_loops: 0 }
    }

    /// One loop, as the server has one core.
    pub(in crate::against) fn event_loop() -> Janus {
        Janus { name: "Janus, event loop", event_loops: 1 }
    }

    fn folder(&self) -> PathBuf {
        folder().join(format!("janus-{}", self.event_loops))
    }
}

impl Peer for Janus {
    fn name(&self) -> &'static str {
        self.name
    }

    fn install(&self) -> Result {
        tools::debian(&[("janus", "janus")])
    }

    fn version(&self) -> Result<String> {
        // It has no flag for that.
        let told = output("dpkg-query", &["--show", "--showformat", "${Version}", "janus"]);
        Ok(told.unwrap_or_else(|| "not Debian's".to_owned()))
    }

    /// Its defaults but for the loops; plugins and transports that are not used are left out.
    fn command(&self, place: &Place) -> Result<Command> {
        let folder = self.folder();
        let loops = match self.event_loops {
            0 => String::new(),
            count => format!("event_loops = {count}"),
        };
        let general = format!(
            "general: {{ debug_level = 3, interface = \"{ADDRESS}\", {loops} }}\n\
             nat: {{ ice_enforce_list = \"{ADDRESS}\" }}\n\
             plugins: {{ disable = \"libjanus_audiobridge.so,libjanus_echotest.so,libjanus_recordplay.so,libjanus_sip.so,libjanus_nosip.so,libjanus_streaming.so,libjanus_textroom.so,libjanus_videocall.so,libjanus_voicemail.so,libjanus_duktape.so,libjanus_lua.so\" }}\n\
             transports: {{ disable = \"libjanus_http.so,libjanus_pfunix.so,libjanus_rabbitmq.so,libjanus_mqtt.so,libjanus_nanomsg.so\" }}\n"
        );
        configuration(&folder.join("janus.jcfg"), &general)?;
        let websockets = format!("general: {{ ws = true, ws_ip = \"{ADDRESS}\", ws_port = {PORT} }}\n");
        configuration(&folder.join("janus.transport.websockets.jcfg"), &websockets)?;
        configuration(&folder.join("janus.plugin.videoroom.jcfg"), "general: { }\n")?;
        let mut command = place.on_server_core("janus");
        command.arg("--disable-colors").arg("--configs-folder").arg(folder);
        Ok(command)
    }

    fn port(&self) -> u16 {
        PORT
    }

    fn joining(&self) -> Vec<String> {
        let url = format!("ws://{ADDRESS}:{PORT}");
        ["--protocol", "videoroom", "--url", &url].map(str::to_owned).to_vec()
    }
}
