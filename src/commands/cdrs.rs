//! `tandem cdrs`.

use std::collections::BTreeMap;

use anyhow::Context;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use tandem_api::List;
use tandem_api::views::{CdrView, TenantView};

use crate::classic;
use crate::cli::{CdrsArgs, Format, Layout};
use crate::client::{Client, segment};
use crate::failure::usage;
use crate::output::{print, show, table};

pub(super) async fn list(client: Client, args: &CdrsArgs) -> anyhow::Result<()> {
    let (since, until) =
        (moment(args.since.as_deref(), "--since")?, moment(args.until.as_deref(), "--until")?);
    let given = [("since", since.as_deref()), ("until", until.as_deref())];
    let query: Vec<(&str, &str)> =
        given.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    let path = super::scoped(args.tenant.as_deref(), "cdrs");
    let cdrs: List<CdrView> = client.list(&path, &query, args.limit.unwrap_or(usize::MAX)).await?;
    match args.layout {
        Some(Layout::Classic) => print(&classic::layout(&cdrs.items, &zones(&client, &cdrs.items).await?)),
        Some(Layout::Csv) => print(&csv(&cdrs.items)?),
        Some(Layout::Json) => show(Format::Json, &cdrs, |_| String::new()),
        None => show(args.remote.format(), &cdrs, |cdrs| overview(&cdrs.items)),
    }
}

/// The time zones of all tenants among the CDRs; those of removed tenants are shown in UTC.
async fn zones(client: &Client, cdrs: &[CdrView]) -> anyhow::Result<BTreeMap<String, TimeZone>> {
    let mut zones = BTreeMap::new();
    for cdr in cdrs {
        if cdr.tenant.starts_with('#') || zones.contains_key(&cdr.tenant) {
            continue;
        }
        let tenant: TenantView = client.get(&format!("/v1/tenants/{}", segment(&cdr.tenant)), &[]).await?;
        let zone = TimeZone::get(&tenant.timezone).with_context(|| format!("tenant {}", tenant.name))?;
        zones.insert(tenant.name, zone);
    }
    Ok(zones)
}

fn overview(cdrs: &[CdrView]) -> String {
    let rows = cdrs.iter().cloned().map(|cdr| {
        let seconds = cdr.duration_s.to_string();
        [
            cdr.start,
            cdr.tenant,
            cdr.from,
            cdr.to,
            seconds,
            cdr.billed_s.to_string(),
            cdr.status,
            cdr.cause,
            cdr.node,
        ]
    });
    table(["START", "TENANT", "FROM", "TO", "SECONDS", "BILLED", "STATUS", "CAUSE", "NODE"], rows)
}

/// One line a CDR, columns as in JSON with the members of `quality` behind.
fn csv(cdrs: &[CdrView]) -> anyhow::Result<String> {
    const QUALITY: [&str; 6] =
        ["mos_x100", "loss_ppm", "jitter_us", "longest_gap_ms", "caller_packets", "callee_packets"];
    const COLUMNS: [&str; 22] = [
        "id",
        "interaction",
        "call",
        "attempt",
        "tenant",
        "direction",
        "from",
        "from_name",
        "to",
        "to_name",
        "start",
        "answer",
        "end",
        "duration_s",
        "billed_s",
        "cost",
        "currency",
        "status",
        "cause",
        "trunk",
        "node",
        "epoch",
    ];
    let mut text = [&COLUMNS[..], &QUALITY[..]].concat().join(",") + "\r\n";
    for cdr in cdrs {
        let cdr = serde_json::to_value(cdr)?;
        let outer = COLUMNS.iter().map(|name| cdr.get(name));
        let inner = QUALITY.iter().map(|name| cdr.get("quality").and_then(|quality| quality.get(name)));
        let fields: Vec<String> = outer.chain(inner).map(field).collect();
        text += &(fields.join(",") + "\r\n");
    }
    Ok(text)
}

/// A value as a CSV field (RFC 4180); a text that a spreadsheet would take for a formula is disarmed.
fn field(value: Option<&serde_json::Value>) -> String {
    let text = match value {
        None | Some(serde_json::Value::Null) => String::new(),
        Some(serde_json::Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    let number = text
        .strip_prefix(['+', '-'])
        .is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit() || b == b'.'));
    let text = if text.starts_with(['=', '+', '-', '@']) && !number { format!("'{text}") } else { text };
    if text.contains(['"', ',', '\r', '\n']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

/// A time as the API wants it: RFC 3339, a date (its beginning in UTC), or a span back from now.
fn moment(text: Option<&str>, option: &str) -> anyhow::Result<Option<String>> {
    let Some(text) = text else { return Ok(None) };
    let date = || text.parse::<Date>().ok()?.to_zoned(TimeZone::UTC).ok().map(|start| start.timestamp());
    let back = || text.parse::<Span>().ok().and_then(ago);
    match text.parse::<Timestamp>().ok().or_else(date).or_else(back) {
        Some(time) => Ok(Some(time.to_string())),
        None => Err(usage(
            format!("{option}: not a time: {text:?}"),
            "give 2026-11-22T13:00:00Z, a date such as 2026-11-22, or a span back from now such as 90m, 24h, 7d",
        )),
    }
}

fn ago(span: Span) -> Option<Timestamp> {
    Timestamp::now().to_zoned(TimeZone::UTC).checked_sub(span.abs()).ok().map(|time| time.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_stamps_dates_or_spans_back() {
        let of = |text| moment(Some(text), "--since").ok().flatten();
        assert_eq!(of("2026-11-22T13:00:00+01:00").unwrap(), "2026-11-22T12:00:00Z");
        assert_eq!(of("2026-11-22").unwrap(), "2026-11-22T00:00:00Z");
        assert!(of("7d").unwrap() < of("90m").unwrap());
        assert_eq!(of("soon"), None);
    }

    #[test]
    fn fields_are_quoted_and_formulas_disarmed() {
        let of = |text: &str| field(Some(&text.into()));
        assert_eq!(of("Doe, \"John\""), "\"Doe, \"\"John\"\"\"");
        assert_eq!(of("=cmd()"), "'=cmd()");
        assert_eq!(of("+442075866660"), "+442075866660");
        assert_eq!(field(None), "");
    }

    #[test]
    fn csv_has_a_column_for_every_member() {
        let text = csv(&[classic::tests::cdr()]).unwrap();
        let mut lines = text.lines();
        let (head, row) = (lines.next().unwrap(), lines.next().unwrap());
        assert_eq!(head.split(',').count(), row.split(',').count());
        assert!(row.contains(",101,John Doe,102,,2014-09-21T12:16:22.000Z,"), "{row}");
    }
}
