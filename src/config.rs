//! Configuration: the sections of `sluice.toml`, environment variables over them, and the checked [`Settings`].
//!
//! `config/reference.toml` declares every key once, with its default, unit and purpose: it is what
//! `sluice config reference` prints, and what a file is laid over. Each override is applied alone, so that an
//! error names its key, the line or the variable it came from, and what would be right.
//! Always: settings that exist are valid, and no secret is ever formatted.

mod layers;
mod sections;
mod settings;
mod turn;

#[cfg(test)]
mod tests;

pub use layers::{ConfigError, Origin, load, load_dev};
pub use sections::{
    Config, HttpSection, LimitsSection, LogSection, MediaSection, RoomsSection, TurnSection, TurnTransport,
    WebhooksSection, WhipSection,
};
pub use settings::{
    DEV_KEY, HttpLimits, HttpSettings, Limits, MediaSettings, RoomSettings, Settings, SettingsError, Share,
    TcpLimits, TlsFiles, WhipSettings,
};
pub use turn::{TurnError, TurnLimits, TurnSettings};

/// Every key with its default and purpose, as a configuration file.
pub const REFERENCE: &str = include_str!("config/reference.toml");

/// What others can make grow, as a section of the documentation.
const LIMITS: &str = include_str!("config/limits.md");

/// The page of the documentation: [`REFERENCE`] with its introduction, and [`LIMITS`].
pub fn reference_page() -> String {
    format!(
        "# Configuration\n\
         \n\
         <!-- Written by `sluice config reference --markdown`; a test compares. -->\n\
         \n\
         `sluice serve --config sluice.toml` reads a TOML file; `sluice config check` says whether a file is right.\n\
         Keys that are left out have the defaults below. An unknown key or a wrong value stops the start, with\n\
         the key's name, its line, and what would be right.\n\
         \n\
         Every key is an environment variable, too, and the variable wins over the file: `SLUICE_`, the section,\n\
         two underscores, the key, dashes as underscores. So `workers` in `[media]` is `SLUICE_MEDIA__WORKERS`, and\n\
         the secret of the API key `mykey` is `SLUICE_KEYS__mykey`. Values are as in TOML; text needs no quotes, and\n\
         a list may be written with commas: `SLUICE_MEDIA__NODE_IPS=192.0.2.1,2001:db8::1`. The list of ICE servers\n\
         is `SLUICE_ICE_SERVERS`, written as a TOML array of inline tables.\n\
         \n\
         Durations are numbers with a unit: `500ms`, `30s`, `5m`, `6h`.\n\
         \n\
         ```toml\n{REFERENCE}```\n\n{LIMITS}"
    )
}
