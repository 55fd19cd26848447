//! Where in a TOML text something is wrong: line and key.

use std::ops::Range;

/// `LINE: table.key`, as far as they can be told.
pub(super) fn of(text: &str, span: Option<Range<usize>>) -> String {
    let Some(span) = span else { return "1".to_owned() };
    let before = text.get(..span.start).unwrap_or(text);
    let number = before.matches('\n').count() + 1;
    let line = text.lines().nth(number - 1).unwrap_or_default();
    let key = line.split_once('=').map(|(key, _)| key.trim());
    let table = text.lines().take(number).filter_map(header).last();
    match (table, key) {
        (Some(table), Some(key)) => format!("{number}: {table}.{key}"),
        (Some(name), None) | (None, Some(name)) => format!("{number}: {name}"),
        (None, None) => number.to_string(),
    }
}

fn header(line: &str) -> Option<&str> {
    let name = line.trim().strip_prefix('[')?;
    let name = name.split_once(']').map_or(name, |(name, _)| name);
    Some(name.trim())
}
