//! Errors for people: what was wrong, where, and what to do.

use std::fmt;

/// The command line was understood, but what was asked was not done.
const REFUSED: u8 = 1;
/// The command line makes no sense.
const USAGE: u8 = 2;

/// What was wrong, with what to do about it.
#[derive(Debug)]
pub(crate) struct Failure {
    what: String,
    todo: String,
    code: u8,
}

/// Something was refused or failed.
pub(crate) fn refused(what: impl Into<String>, todo: impl Into<String>) -> anyhow::Error {
    Failure { what: what.into(), todo: todo.into(), code: REFUSED }.into()
}

/// The command was used wrongly in a way that only shows later.
pub(crate) fn usage(what: impl Into<String>, todo: impl Into<String>) -> anyhow::Error {
    Failure { what: what.into(), todo: todo.into(), code: USAGE }.into()
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Failure {}

/// The whole chain in one line, and below it what to do.
pub(crate) fn describe(error: &anyhow::Error) -> String {
    let todo =
        error.chain().find_map(|cause| cause.downcast_ref::<Failure>()).map(|failure| failure.todo.as_str());
    match todo {
        Some(todo) if !todo.is_empty() => format!("{error:#}\n  {todo}"),
        Some(_) | None => format!("{error:#}"),
    }
}

/// 1 for what was refused or failed, 2 for wrong usage.
pub(crate) fn exit_code(error: &anyhow::Error) -> u8 {
    error.chain().find_map(|cause| cause.downcast_ref::<Failure>()).map_or(REFUSED, |failure| failure.code)
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn the_line_says_where_and_what_and_the_next_one_what_to_do() {
        let error =
            Err::<(), _>(usage("no such layout", "choose classic, json or csv")).context("cdrs").unwrap_err();
        assert_eq!(describe(&error), "cdrs: no such layout\n  choose classic, json or csv");
        assert_eq!(exit_code(&error), 2);
        assert_eq!(exit_code(&anyhow::anyhow!("disk")), 1);
    }
}
