//! Lists in pages: a bounded number of items and an opaque cursor to go on with.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::problem::Problem;
use crate::token::hex;

/// Items on a page when nothing else is asked.
const LIMIT_DEFAULT: usize = 100;
/// Items on a page at most.
const LIMIT_MAX: usize = 1000;

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct List<T> {
    /// What it holds.
    pub items: Vec<T>,
    /// Give it as `cursor` for the next page; `null` on the last.
    pub next_cursor: Option<String>,
}

/// Which page of a list.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct PageQuery {
    /// How many items at most.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000, default = 100)]
    limit: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

impl PageQuery {
    /// How many items at most.
    pub(crate) fn limit(&self) -> Result<usize, Problem> {
        let Some(text) = &self.limit else { return Ok(LIMIT_DEFAULT) };
        match text.parse() {
            Ok(limit) if (1..=LIMIT_MAX).contains(&limit) => Ok(limit),
            Ok(_) | Err(_) => {
                Err(Problem::bad_parameter("limit", format!("limit must be a number from 1 to {LIMIT_MAX}")))
            }
        }
    }

    /// The cursor as given.
    pub(crate) fn cursor(&self) -> Option<&str> {
        self.cursor.as_deref()
    }

    /// The key after which the page begins.
    pub(crate) fn after<K: DeserializeOwned>(&self) -> Result<Option<K>, Problem> {
        let Some(text) = &self.cursor else { return Ok(None) };
        let bad = || Problem::bad_parameter("cursor", "the cursor is none that this API gave");
        let bytes = unhex(text).ok_or_else(bad)?;
        serde_json::from_slice(&bytes).map(Some).map_err(|_| bad())
    }

    /// Cuts a page out of what follows `after`; `key` gives each item's place.
    pub(crate) fn cut<I, K: Serialize>(
        &self,
        mut following: impl Iterator<Item = I>,
        key: impl Fn(&I) -> K,
    ) -> Result<(Vec<I>, Option<String>), Problem> {
        let limit = self.limit()?;
        let items: Vec<I> = following.by_ref().take(limit).collect();
        let next = match (items.last(), following.next()) {
            (Some(last), Some(_)) => serde_json::to_vec(&key(last)).ok().map(|bytes| hex(&bytes)),
            (None, _) | (_, None) => None,
        };
        Ok((items, next))
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) || text.len() > 2048 {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let pairs = text.as_bytes().chunks_exact(2);
    pairs.map(|pair| Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(limit: Option<&str>, cursor: Option<String>) -> PageQuery {
        PageQuery { limit: limit.map(str::to_owned), cursor }
    }

    #[test]
    fn pages_follow_each_other_without_gap_or_overlap() {
        let all: Vec<u32> = (0..7).collect();
        let (mut seen, mut cursor) = (Vec::new(), None);
        loop {
            let page = query(Some("3"), cursor);
            let after: Option<u32> = page.after().unwrap();
            let rest = all.iter().copied().filter(|n| after.is_none_or(|after| *n > after));
            let (items, next) = page.cut(rest, |n| *n).unwrap();
            seen.extend(items);
            cursor = next;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(seen, all);
    }

    #[test]
    fn limits_out_of_bounds_and_foreign_cursors_are_refused() {
        assert!(query(Some("0"), None).limit().is_err());
        assert!(query(Some("1001"), None).limit().is_err());
        assert!(query(Some("ten"), None).limit().is_err());
        assert_eq!(query(None, None).limit().unwrap(), 100);
        for text in ["zz", "0", "ff", "é1"] {
            assert!(query(None, Some(text.to_owned())).after::<u32>().is_err(), "{text}");
        }
    }
}
