//! The classic CDR layout: tab separated, one row per CDR, times in the tenant's time zone.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use tandem_api::views::CdrView;

const HEADER: &str = "From\tTo\tDate/Time\tDuration\tBilling\tCost\tStatus\n";

/// CDRs in their given order, each in its tenant's zone (UTC where none is known).
pub(crate) fn layout(cdrs: &[CdrView], zones: &BTreeMap<String, TimeZone>) -> String {
    let rows = cdrs.iter().map(|cdr| row(cdr, zones.get(&cdr.tenant).unwrap_or(&TimeZone::UTC)));
    HEADER.to_owned() + &rows.collect::<String>()
}

fn row(cdr: &CdrView, zone: &TimeZone) -> String {
    let answered = cdr.answer.is_some();
    let columns = [
        party(&cdr.from_name, &cdr.from),
        party(&cdr.to_name, &cdr.to),
        local_time(&cdr.start, zone),
        clock(cdr.duration_s),
        if answered { clock(cdr.billed_s) } else { "0".to_owned() },
        cdr.cost.clone().unwrap_or_default(),
        if answered { "Answered" } else { "Not Answered" }.to_owned(),
    ];
    columns.join("\t") + "\n"
}

/// `John Doe (101)`, or the bare number; what would break the row is a blank.
fn party(name: &str, number: &str) -> String {
    let text = if name.is_empty() { number.to_owned() } else { format!("{name} ({number})") };
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// `21 Sep 2014 13:16:22`.
fn local_time(start: &str, zone: &TimeZone) -> String {
    let stamp = start.parse::<Timestamp>();
    stamp.map_or_else(
        |_| start.to_owned(),
        |stamp| stamp.to_zoned(zone.clone()).strftime("%d %b %Y %H:%M:%S").to_string(),
    )
}

/// `HH:MM:SS`; hours go on past 99.
fn clock(seconds: u32) -> String {
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn cdr() -> CdrView {
        CdrView {
            id: "0-1".into(),
            interaction: "0".into(),
            call: "0".into(),
            attempt: 1,
            tenant: "acme".into(),
            direction: "internal".into(),
            from: "101".into(),
            from_name: "John Doe".into(),
            to: "102".into(),
            to_name: String::new(),
            start: "2014-09-21T12:16:22.000Z".into(),
            answer: Some("2014-09-21T12:16:27.000Z".into()),
            end: "2014-09-21T13:17:32.000Z".into(),
            duration_s: 3670,
            billed_s: 3665,
            cost: None,
            currency: "GBP".into(),
            status: "answered".into(),
            cause: "normal_clearing".into(),
            trunk: String::new(),
            node: "n1".into(),
            epoch: 1,
            quality: None,
        }
    }

    #[test]
    fn rows_are_as_people_know_them_in_the_tenants_zone() {
        let missed = CdrView {
            from: "+442075866660".into(),
            from_name: String::new(),
            to: "101".into(),
            to_name: "John\tDoe".into(),
            start: "2014-12-01T09:00:00.000Z".into(),
            answer: None,
            duration_s: 7,
            billed_s: 0,
            cost: Some("0.012".into()),
            ..cdr()
        };
        let elsewhere = CdrView { tenant: "#7".into(), ..cdr() };
        let zones = BTreeMap::from([("acme".to_owned(), TimeZone::get("Europe/London").unwrap())]);
        let golden = "From\tTo\tDate/Time\tDuration\tBilling\tCost\tStatus\n\
            John Doe (101)\t102\t21 Sep 2014 13:16:22\t01:01:10\t01:01:05\t\tAnswered\n\
            +442075866660\tJohn Doe (101)\t01 Dec 2014 09:00:00\t00:00:07\t0\t0.012\tNot Answered\n\
            John Doe (101)\t102\t21 Sep 2014 12:16:22\t01:01:10\t01:01:05\t\tAnswered\n";
        assert_eq!(layout(&[cdr(), missed, elsewhere], &zones), golden);
    }
}
