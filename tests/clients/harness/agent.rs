//! Workers of agents, on the stock framework.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::{Server, artefact, drivers, programs, tail};

/// A running `agent.py`; ended when dropped, with the processes of its jobs, its log shown if the test has failed.
pub(crate) struct AgentWorker {
    child: Child,
    log: PathBuf,
}

impl AgentWorker {
    /// Registers under `name`, which may be empty, for jobs of rooms.
    pub(crate) fn start(server: &Server, name: &str) -> AgentWorker {
        let log = artefact(&format!("agent-{}-{name}.log", server.address().port()));
        let output = File::create(&log).expect("the log can be written");
        let child = Command::new(programs::agents_python())
            .arg(drivers().join("agent.py"))
            .arg("start")
            .env("LIVEKIT_URL", server.url())
            .env("LIVEKIT_API_KEY", "devkey")
            .env("LIVEKIT_API_SECRET", "secret")
            .env("AGENT_NAME", name)
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("one more file"))
            .stderr(output)
            // Its jobs are processes of its own group, which end with it.
            .process_group(0)
            .spawn()
            .expect("the agent can be started");
        AgentWorker { child, log }
    }
}

impl Drop for AgentWorker {
    fn drop(&mut self) {
        let group = format!("-{}", self.child.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- end of the agent's log, {}:\n{}\n---", self.log.display(), tail(&self.log));
        }
    }
}
