//! Reference, file, environment: later layers win, and every value remembers where it came from.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use serde::Deserialize as _;
use toml::de::DeTable;
use toml::{Table, Value};

use super::settings::{Settings, SettingsError};
use super::{Config, REFERENCE};

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A line of the file, counted from 1.
    Line {
        /// The file.
        file: PathBuf,
        /// The line.
        line: usize,
    },
    /// An environment variable.
    Variable(String),
    /// Nowhere: the default, or a value that is missing.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Line { file, line } => write!(f, "{}, line {line}", file.display()),
            Origin::Variable(name) => write!(f, "environment variable {name}"),
            Origin::Default => f.write_str("configuration"),
        }
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{}, line {line}: not TOML: {message}", file.display())]
    Syntax {
        /// The file.
        file: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What the parser expected.
        message: String,
    },
    /// A key that does not exist.
    #[error("{origin}: unknown key {key}; {expected}")]
    UnknownKey {
        /// Where.
        origin: Origin,
        /// With its section.
        key: String,
        /// Which keys there are.
        expected: String,
    },
    /// A value of the wrong type or outside its range.
    #[error("{origin}: {key}: {message}{example}")]
    WrongValue {
        /// Where.
        origin: Origin,
        /// With its section.
        key: String,
        /// What is wrong, and what is expected.
        message: String,
        /// The default, as an example of what is right; may be empty.
        example: String,
    },
    /// Values that are right by themselves and wrong for a server.
    #[error("{origin}: {source}")]
    Refused {
        /// Where.
        origin: Origin,
        /// What is wrong and what would be right.
        source: SettingsError,
    },
}

/// One value laid over the ones before: a section's name, a key's name or `None` for a whole section.
struct Override {
    section: String,
    key: Option<String>,
    /// Readings of what was written, likeliest first.
    readings: Vec<Value>,
    origin: Origin,
}

impl Override {
    fn name(&self) -> String {
        match &self.key {
            Some(key) => format!("{}.{key}", self.section),
            None => self.section.clone(),
        }
    }
}

/// Reads `file` and the environment (`variables`, of which those beginning with `SLUICE_` and having the form
/// of a key count) into settings.
///
/// # Errors
/// [`ConfigError`], the first thing found wrong.
pub fn load(
    file: &Path,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Settings, ConfigError> {
    let text = std::fs::read_to_string(file)
        .map_err(|source| ConfigError::Unreadable { file: file.to_owned(), source })?;
    let mut overrides = from_text(file, &text)?;
    overrides.extend(from_variables(variables));
    apply(&overrides, false)
}

/// For development, without a file: the key `devkey` with the secret `secret`, everything bound to loopback.
///
/// # Errors
/// As [`load`], of the environment only.
pub fn load_dev(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Result<Settings, ConfigError> {
    let mut settings = apply(&from_variables(variables), true)?;
    settings.bind_to(IpAddr::V4(Ipv4Addr::LOCALHOST));
    Ok(settings)
}

#[cfg(test)]
pub(super) fn apply_text(file: &Path, text: &str) -> Result<Settings, ConfigError> {
    apply(&from_text(file, text)?, false)
}

fn apply(overrides: &[Override], dev: bool) -> Result<Settings, ConfigError> {
    let (config, origins) = merge(overrides)?;
    Settings::checked(config, dev).map_err(|source| {
        let origin = origins.get(source.key().as_ref()).cloned().unwrap_or(Origin::Default);
        ConfigError::Refused { origin, source }
    })
}

/// Lays each override over the reference, alone, so that an error is its own.
fn merge(overrides: &[Override]) -> Result<(Config, BTreeMap<String, Origin>), ConfigError> {
    let reference: Table = REFERENCE.parse().expect("the reference is TOML; a test reads it");
    let mut table = reference.clone();
    let mut config = Config::deserialize(table.clone()).expect("the reference is complete; a test reads it");
    let mut origins = BTreeMap::new();
    for each in overrides {
        let mut failure = None;
        for reading in &each.readings {
            let mut next = table.clone();
            set(&mut next, each, reading.clone());
            match Config::deserialize(next.clone()) {
                Ok(read) => {
                    (table, config) = (next, read);
                    failure = None;
                    break;
                }
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        if let Some(error) = failure {
            return Err(explain(each, &error, &reference));
        }
        origins.insert(each.name(), each.origin.clone());
    }
    Ok((config, origins))
}

fn set(table: &mut Table, each: &Override, value: Value) {
    match &each.key {
        None => drop(table.insert(each.section.clone(), value)),
        Some(key) => {
            let section = table.entry(each.section.clone()).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(section) = section {
                section.insert(key.clone(), value);
            }
        }
    }
}

fn explain(each: &Override, error: &toml::de::Error, reference: &Table) -> ConfigError {
    let (origin, key) = (each.origin.clone(), each.name());
    let message = error.message().lines().next().unwrap_or_default().to_owned();
    if let Some(known) = message.strip_prefix("unknown field ") {
        let expected = known.split_once(", ").map_or("it has no keys", |(_, known)| known).to_owned();
        return ConfigError::UnknownKey { origin, key, expected };
    }
    let default = each.key.as_ref().and_then(|key| reference.get(&each.section)?.as_table()?.get(key));
    let example = default.map_or_else(String::new, |value| format!("; the default is {value}"));
    ConfigError::WrongValue { origin, key, message, example }
}

/// The file's values, one by one. A section is taken apart; anything else at the top level is one value.
fn from_text(file: &Path, text: &str) -> Result<Vec<Override>, ConfigError> {
    let line_of = |at: usize| text.get(..at).map_or(1, |before| before.matches('\n').count() + 1);
    let origin = |at: usize| Origin::Line { file: file.to_owned(), line: line_of(at) };
    let syntax = |error: &toml::de::Error| ConfigError::Syntax {
        file: file.to_owned(),
        line: line_of(error.span().map_or(0, |span| span.start)),
        message: error.message().replace('\n', ", "),
    };
    let spans = DeTable::parse(text).map_err(|error| syntax(&error))?;
    let values: Table = text.parse().map_err(|error| syntax(&error))?;

    let mut overrides = Vec::new();
    for (section, content) in spans.get_ref() {
        let name = section.get_ref().to_string();
        let Some(value) = values.get(&name) else { continue };
        match (content.get_ref().as_table(), value) {
            (Some(keys), Value::Table(inner)) => {
                if inner.is_empty() {
                    overrides.push(Override {
                        section: name.clone(),
                        key: None,
                        readings: vec![reference_section(&name, value)],
                        origin: origin(section.span().start),
                    });
                }
                for key in keys.keys() {
                    let Some(value) = inner.get(key.get_ref().as_ref()) else { continue };
                    overrides.push(Override {
                        section: name.clone(),
                        key: Some(key.get_ref().to_string()),
                        readings: vec![value.clone()],
                        origin: origin(key.span().start),
                    });
                }
            }
            _ => overrides.push(Override {
                section: name,
                key: None,
                readings: vec![value.clone()],
                origin: origin(section.span().start),
            }),
        }
    }
    Ok(overrides)
}

/// A section written without keys changes nothing, but its name must exist.
fn reference_section(name: &str, written: &Value) -> Value {
    let reference: Table = REFERENCE.parse().expect("the reference is TOML; a test reads it");
    reference.get(name).unwrap_or(written).clone()
}

/// The environment's values. Variables of other makers that begin with `SLUICE_` have no double underscore.
fn from_variables(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Vec<Override> {
    let mut overrides = Vec::new();
    for (name, value) in variables {
        let (Some(name), Some(text)) = (name.to_str(), value.to_str()) else { continue };
        let Some(path) = name.strip_prefix("SLUICE_") else { continue };
        let written = |part: &str| part.to_ascii_lowercase().replace('_', "-");
        let (section, key) = match path.split_once("__") {
            // API keys are names of the operator's, kept as they are.
            Some(("KEYS", key)) => ("keys".to_owned(), Some(key.to_owned())),
            Some((section, key)) => (written(section), Some(written(key))),
            None if path == "ICE_SERVERS" => (written(path), None),
            None => continue,
        };
        overrides.push(Override {
            section,
            key,
            readings: readings(text),
            origin: Origin::Variable(name.to_owned()),
        });
    }
    // The environment has no order; errors should.
    overrides.sort_by_key(Override::name);
    overrides
}

/// What a variable's text may mean: TOML, plain text, or a list with commas.
fn readings(text: &str) -> Vec<Value> {
    let mut readings = Vec::new();
    if let Ok(mut table) = format!("value = {text}").parse::<Table>()
        && let Some(value) = table.remove("value")
    {
        readings.push(value);
    }
    readings.push(Value::String(text.to_owned()));
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    readings.push(Value::Array(parts.map(|part| Value::String(part.to_owned())).collect()));
    readings
}
