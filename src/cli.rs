//! The command line: what each command takes, and what it does.

mod token;

use std::io::Write as _;
use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub use token::{TokenArgs, TokenError};
use turn_config::CoturnConfig;

use crate::config::{self, ConfigError, DEV_KEY, Settings};
use crate::media::kernel::raise_open_file_limit;
use crate::server::{Server, StartError};

/// An SFU that speaks the LiveKit client protocol: calls for mobile apps, from one binary.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server
    Serve(ServeArgs),
    /// Print a token with which a client can join a room
    Token(Box<TokenArgs>),
    /// Check or explain the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Configure a TURN relay of others
    #[command(subcommand)]
    Turn(TurnCommand),
}

/// Configure a TURN relay of others.
#[derive(Debug, Subcommand)]
pub enum TurnCommand {
    /// Print a configuration for coturn that relays to our media addresses alone; it contains a secret
    CoturnConfig {
        /// The file with [[ice-servers]] that has a secret
        #[arg(value_name = "FILE", env = "SLUICE_CONFIG", default_value = "sluice.toml")]
        file: PathBuf,
    },
}

/// Run the server, either for development or with a configuration file.
#[derive(Debug, Args)]
#[command(after_help = "Try it out:   sluice serve --dev\nFor real:     sluice serve --config sluice.toml")]
pub struct ServeArgs {
    /// Try things out: no configuration, the API key "devkey" with the secret "secret", bound to loopback
    #[arg(long, conflicts_with = "config")]
    pub dev: bool,
    /// Configuration file [env: SLUICE_CONFIG]; `sluice config reference` prints one
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// With --dev: bind this address in place of loopback, such as 0.0.0.0 to reach it from a phone
    #[arg(long, value_name = "ADDR", requires = "dev", conflicts_with = "config")]
    pub bind: Option<IpAddr>,
    /// With --dev: tell clients this address; may be repeated [default: those it is bound to]
    #[arg(long = "node-ip", value_name = "ADDR", requires = "dev", conflicts_with = "config")]
    pub node_ips: Vec<IpAddr>,
    /// With --dev: HTTP port; 0 lets the system choose [default: 7880]
    #[arg(long, value_name = "N", requires = "dev", conflicts_with = "config")]
    pub port: Option<u16>,
}

/// Check or explain the configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Say whether a configuration file is right, environment variables included
    Check {
        /// The file
        #[arg(value_name = "FILE", env = "SLUICE_CONFIG", default_value = "sluice.toml")]
        file: PathBuf,
    },
    /// Print every key with its default and purpose, as a configuration file
    Reference {
        /// As a page of documentation
        #[arg(long)]
        markdown: bool,
    },
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// Neither of the two ways to serve.
    #[error("nothing to go by: --dev tries things out without a configuration, --config FILE reads one")]
    NoConfig,
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An address that no client could use.
    #[error("--node-ip {0}: not an address that clients can reach; write one of this machine's addresses")]
    NodeIp(IpAddr),
    /// Nothing to configure coturn with.
    #[error(transparent)]
    Coturn(#[from] turn_config::CoturnError),
    /// The server did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Output or the runtime.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// Does what the command line says.
///
/// # Errors
/// [`CliError`], to be shown to whoever typed it.
pub fn run(cli: Cli) -> Result<(), CliError> {
    let mut out = std::io::stdout().lock();
    match cli.command {
        Command::Serve(args) => {
            drop(out);
            serve(&args)
        }
        Command::Token(args) => Ok(writeln!(out, "{}", args.token(crate::bridge::unix_ms())?)?),
        Command::Config(ConfigCommand::Check { file }) => {
            let settings = config::load(&file, std::env::vars_os())?;
            Ok(writeln!(
                out,
                "{} is right: HTTP on {}, {} media workers on UDP {} and up",
                file.display(),
                settings.http.listen,
                settings.media.workers,
                settings.media.first_port
            )?)
        }
        Command::Turn(TurnCommand::CoturnConfig { file }) => {
            let settings = config::load(&file, std::env::vars_os())?;
            let first = settings.media.first_port;
            let last = first.saturating_add((settings.media.workers.get() - 1) as u16);
            let media = crate::server::announced_ips(&settings.media)?;
            let coturn = CoturnConfig::new(&settings.ice_servers, media, (first, last))?;
            Ok(write!(out, "{}", coturn.write())?)
        }
        Command::Config(ConfigCommand::Reference { markdown: false }) => {
            Ok(write!(out, "{}", config::REFERENCE)?)
        }
        Command::Config(ConfigCommand::Reference { markdown: true }) => {
            Ok(write!(out, "{}", config::reference_page())?)
        }
    }
}

/// The settings that the command line asks for.
fn settings(args: &ServeArgs) -> Result<Settings, CliError> {
    if !args.dev {
        // Read here, since a variable that is always set (in a container) must not forbid --dev.
        let file = args.config.clone().or_else(|| std::env::var_os("SLUICE_CONFIG").map(PathBuf::from));
        return Ok(config::load(&file.ok_or(CliError::NoConfig)?, std::env::vars_os())?);
    }
    let mut settings = config::load_dev(std::env::vars_os())?;
    if let Some(ip) = args.bind {
        settings.bind_to(ip);
    }
    if let Some(port) = args.port {
        settings.http.listen.set_port(port);
    }
    if let Some(&ip) = args.node_ips.iter().find(|ip| ip.is_unspecified() || ip.is_multicast()) {
        return Err(CliError::NodeIp(ip));
    }
    settings.media.node_ips.clone_from(&args.node_ips);
    Ok(settings)
}

fn serve(args: &ServeArgs) -> Result<(), CliError> {
    let settings = settings(args)?;
    // The DTLS crate warns of every extension that it does not know, at every handshake.
    let level = format!("rtc_dtls=error,{}", settings.log_level);
    let filter = tracing_subscriber::EnvFilter::builder().parse_lossy(level);
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    if let Err(error) = raise_open_file_limit() {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut stop = StopSignals::listen()?;
        let server = Server::start(settings.clone()).await?;
        if settings.dev {
            greet(&settings, server.http_addr.port())?;
        }
        stop.next().await;
        tracing::info!("stopping; a second signal stops at once");
        tokio::select! {
            () = server.stop() => {}
            () = stop.next() => tracing::warn!("stopped at once"),
        }
        Ok(())
    })
}

/// What somebody needs who has just started a server to try things out.
fn greet(settings: &Settings, port: u16) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    let ip = settings.http.listen.ip();
    let host = if ip.is_loopback() || ip.is_unspecified() { "localhost".to_owned() } else { ip.to_string() };
    let host = if ip.is_ipv6() && host != "localhost" { format!("[{host}]") } else { host };
    let (key, secret) = DEV_KEY;
    writeln!(out, "Sluice for development: anybody who can reach it can join.\n")?;
    writeln!(out, "  page     http://{host}:{port}")?;
    writeln!(out, "  clients  ws://{host}:{port}   (API key {key}, secret {secret})")?;
    writeln!(out, "  token    sluice token --room test --identity alice\n")?;
    if !ip.is_loopback() {
        writeln!(out, "Bound to {ip}: everybody on the network gets in. Do not do this on the Internet.\n")?;
    }
    out.flush()
}

/// SIGTERM and SIGINT.
struct StopSignals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl StopSignals {
    fn listen() -> std::io::Result<StopSignals> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(StopSignals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests;
