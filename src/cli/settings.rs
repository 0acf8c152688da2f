//! Where the values of flags come from: what was typed, else the environment, else a file, else the
//! default.
//!
//! A file (TOML) names settings as the flags are named. Its values are put in front of what was
//! typed, for those flags that neither the command line nor the environment has: so a value is
//! read, and refused, in one way wherever it comes from.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, Error};

/// The flag that names the file, and those that mean nothing in it.
const CONFIG: &str = "config";
const NOT_IN_A_FILE: [&str; 7] =
    [CONFIG, "background", "check_config", "help", "version", "json", "seccomp_profile"];

/// What a command line amounts to.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) matches: ArgMatches,
    pub(super) settings: Vec<Setting>,
}

/// One flag of the subcommand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    /// As typed, without the dashes.
    pub(super) name: String,
    /// Empty if it has none.
    pub(super) values: Vec<String>,
    pub(super) source: Source,
}

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Flag,
    Environment,
    File,
    Default,
}

impl Source {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Flag => "flag",
            Self::Environment => "environment",
            Self::File => "file",
            Self::Default => "default",
        }
    }
}

/// Parses `args`, the program's name first.
///
/// # Errors
/// What is wrong with the usage or in the file.
pub(super) fn parse(command: &Command, args: &[OsString]) -> Result<Parsed, Error> {
    let command = super::environment::without_empty(command.clone());
    let matches = command.clone().try_get_matches_from(args)?;
    let Some((name, given)) = matches.subcommand() else {
        return Ok(Parsed { matches, settings: Vec::new() });
    };
    let subcommand = command.find_subcommand(name).expect("what was matched");
    let from_file = match config_file(given) {
        Some(path) => File::read(&path, subcommand)?.arguments(given),
        None => Vec::new(),
    };
    let in_file: Vec<String> = from_file.iter().map(|(name, _)| name.clone()).collect();
    // The subcommand is the first word: the program has no flags with values in front of it.
    let (front, typed) = args.split_at(2.min(args.len()));
    let synthetic = from_file.into_iter().map(|(name, value)| argument(&name, value));
    let all = front.iter().cloned().chain(synthetic).chain(typed.iter().cloned());
    let complete = command.clone().try_get_matches_from(all).map_err(|mut error| {
        super::environment::blame_file(&mut error, &in_file);
        error
    })?;
    let settings = settings(subcommand, &complete, given, &in_file);
    Ok(Parsed { matches: complete, settings })
}

fn config_file(given: &ArgMatches) -> Option<PathBuf> {
    given.try_get_one::<PathBuf>(CONFIG).ok().flatten().cloned()
}

fn argument(name: &str, value: Option<String>) -> OsString {
    match value {
        Some(value) => format!("--{name}={value}").into(),
        None => format!("--{name}").into(),
    }
}

/// Every flag that can be set, in the order of the help.
fn settings(
    subcommand: &Command,
    complete: &ArgMatches,
    given: &ArgMatches,
    in_file: &[String],
) -> Vec<Setting> {
    let complete = complete.subcommand().expect("parsed before").1;
    flags(subcommand)
        .map(|(arg, name)| {
            let id = arg.get_id().as_str();
            let raw = complete.get_raw(id).into_iter().flatten();
            let values = raw.map(|value: &OsStr| value.to_string_lossy().into_owned());
            let source = match given.value_source(id) {
                Some(ValueSource::CommandLine) => Source::Flag,
                Some(ValueSource::EnvVariable) => Source::Environment,
                _ if in_file.iter().any(|known| known == name) => Source::File,
                _ => Source::Default,
            };
            let values = match arg.get_action() {
                ArgAction::SetTrue => vec![complete.get_flag(id).to_string()],
                _ => values.collect(),
            };
            Setting { name: name.to_owned(), values, source }
        })
        .collect()
}

/// The flags that may be in a file, by their long names.
fn flags(subcommand: &Command) -> impl Iterator<Item = (&Arg, &str)> {
    let settable = |arg: &&Arg| !NOT_IN_A_FILE.contains(&arg.get_id().as_str());
    subcommand.get_arguments().filter(settable).filter_map(|arg| Some((arg, arg.get_long()?)))
}

/// The settings of a file, each with the flag that it is named after.
#[derive(Debug)]
struct File<'a>(Vec<(&'a Arg, &'a str, Vec<String>)>);

impl<'a> File<'a> {
    fn read(path: &Path, subcommand: &'a Command) -> Result<Self, Error> {
        let wrong = |why: String| {
            let text = format!("--config {}: {why}\n", path.display());
            Error::raw(ErrorKind::InvalidValue, text)
        };
        let text = fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        let table: toml::Table = text.parse().map_err(|error| wrong(format!("{error}")))?;
        let setting = |(key, value): (String, toml::Value)| {
            let flag = flags(subcommand).find(|(_, name)| *name == key);
            let (arg, name) = flag.ok_or_else(|| wrong(format!("{key} is no setting: {HOW}")))?;
            let values = texts(arg, value)
                .map_err(|expected| wrong(format!("{key}: expected {expected}")))?;
            Ok((arg, name, values))
        };
        Ok(Self(table.into_iter().map(setting).collect::<Result<_, Error>>()?))
    }

    /// Arguments for what was neither typed nor in the environment.
    fn arguments(self, given: &ArgMatches) -> Vec<(String, Option<String>)> {
        let is_free = |arg: &Arg| {
            let source = given.value_source(arg.get_id().as_str());
            !matches!(source, Some(ValueSource::CommandLine | ValueSource::EnvVariable))
        };
        let free = self.0.into_iter().filter(|(arg, ..)| is_free(arg));
        free.flat_map(|(arg, name, values)| {
            let is_switch = matches!(arg.get_action(), ArgAction::SetTrue);
            let on = values.into_iter().filter(move |value| !is_switch || value == "true");
            on.map(move |value| (name.to_owned(), (!is_switch).then_some(value)))
        })
        .collect()
    }
}

const HOW: &str = "settings are named as the flags of serve, without the dashes in front";

/// A value as it would be typed; where the flag may be given several times also several.
fn texts(arg: &Arg, value: toml::Value) -> Result<Vec<String>, &'static str> {
    match (arg.get_action(), value) {
        (ArgAction::Append, toml::Value::Array(values)) => {
            values.into_iter().map(|value| text(value).ok_or("a list of texts")).collect()
        }
        (ArgAction::SetTrue, toml::Value::Boolean(on)) => Ok(vec![on.to_string()]),
        (ArgAction::SetTrue, _) => Err("true or false"),
        (_, value) => Ok(vec![text(value).ok_or("a text or a number")?]),
    }
}

fn text(value: toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text),
        toml::Value::Integer(number) => Some(number.to_string()),
        _ => None,
    }
}

/// The settings as a file that `--config` takes, with the source of each behind it.
pub(super) fn as_file(settings: &[Setting]) -> String {
    settings.iter().map(line).collect()
}

fn line(Setting { name, values, source }: &Setting) -> String {
    let bare = |value: &String| value.parse::<u64>().is_ok() || value == "true" || value == "false";
    let quoted = |value: &String| match bare(value) {
        true => value.clone(),
        false => toml::Value::String(value.clone()).to_string(),
    };
    let value = match &values[..] {
        [] => return format!("# {name} is not set\n"),
        [value] if name != "listen" => quoted(value),
        several => format!("[{}]", several.iter().map(quoted).collect::<Vec<_>>().join(", ")),
    };
    format!("{:<40} # {}\n", format!("{name} = {value}"), source.name())
}

/// Those that are not defaults, for the log: `pool=1m (file)`.
pub(super) fn chosen(settings: &[Setting]) -> String {
    let chosen = settings.iter().filter(|setting| setting.source != Source::Default);
    let texts = chosen.map(|Setting { name, values, source }| {
        format!("{name}={} ({})", values.join(","), source.name())
    });
    texts.collect::<Vec<_>>().join(" ")
}
