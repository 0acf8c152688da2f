//! Values that come from the environment: an error about one names the variable, because nobody
//! typed the flag that it speaks of.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue};
use clap::{Arg, Command, Error};

use super::report::chain;

/// An environment variable that is empty counts as one that is not set.
#[must_use]
pub fn without_empty(command: Command) -> Command {
    let is_empty =
        |arg: &Arg| arg.get_env().and_then(std::env::var_os).is_some_and(|value| value.is_empty());
    let unset = |arg: Arg| if is_empty(&arg) { arg.env(None::<&str>) } else { arg };
    let names: Vec<String> =
        command.get_subcommands().map(|command| command.get_name().to_owned()).collect();
    names.iter().fold(command, |command, name| {
        command.mut_subcommand(name, |subcommand| subcommand.mut_args(unset))
    })
}

/// Adds to a usage error about a flag's value that it comes from the file, if it does.
pub(super) fn blame_file(error: &mut Error, in_file: &[String]) {
    let Some(ContextValue::String(about)) = error.get(ContextKind::InvalidArg) else { return };
    let flag = about.split([' ', '=']).next().unwrap_or_default();
    if in_file.iter().any(|name| flag.strip_prefix("--") == Some(name)) {
        let tip = "the value is that of the file --config names".to_owned();
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
}

/// Adds to a usage error about a flag's value the variable that the value was taken from.
#[must_use]
pub fn explained(mut error: Error, command: &Command, args: &[OsString]) -> Error {
    let Some(ContextValue::String(about)) = error.get(ContextKind::InvalidArg) else {
        return error;
    };
    if error.get(ContextKind::Suggested).is_some() {
        return error;
    }
    let flag = about.split([' ', '=']).next().unwrap_or_default();
    let mut used = used(command, args).filter(|(arg, _)| long(arg).as_deref() == Some(flag));
    if let Some((_, variable)) = used.next() {
        let tip = format!("the value is that of the environment variable {variable}");
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    error
}

/// Adds to another error where the flags that it speaks of were set.
pub(super) fn traced(error: anyhow::Error, command: &Command, args: &[OsString]) -> anyhow::Error {
    let text = chain(&error);
    match origins(&text, command, args) {
        none if none.is_empty() => error,
        origins => anyhow::Error::msg(text + &origins),
    }
}

fn origins(text: &str, command: &Command, args: &[OsString]) -> String {
    let spoken_of = |long: &str| {
        text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').any(|word| word == long)
    };
    let used = used(command, args).filter(|(arg, _)| spoken_of(&long(arg).unwrap_or_default()));
    used.map(|(arg, variable)| {
        let flag = long(arg).unwrap_or_default();
        format!(" ({flag} has its value from the environment variable {variable})")
    })
    .collect()
}

/// The flags of the subcommand that were not typed and whose variable is set.
fn used<'a>(
    command: &'a Command,
    args: &'a [OsString],
) -> impl Iterator<Item = (&'a Arg, String)> + 'a {
    let named = args.get(1).and_then(|name| command.find_subcommand(name));
    let typed = |flag: &str| {
        let words = args.iter().filter_map(|arg| arg.to_str());
        words.into_iter().any(|word| word.split('=').next() == Some(flag))
    };
    named.into_iter().flat_map(Command::get_arguments).filter_map(move |arg| {
        let variable = arg
            .get_env()
            .filter(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()))?;
        let flag = long(arg)?;
        (!typed(&flag)).then(|| (arg, variable.to_string_lossy().into_owned()))
    })
}

fn long(arg: &Arg) -> Option<String> {
    arg.get_long().map(|long| format!("--{long}"))
}
