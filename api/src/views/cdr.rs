//! A call detail record.

use serde::{Deserialize, Serialize};
use tandem_state::{Cdr, Quality, State};
use utoipa::ToSchema;

use super::{node_name, tenant_name, word};
use crate::time::{money, rfc3339};

/// One attempt from one party to one destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CdrView {
    /// `<call>-<attempt>`.
    pub id: String,
    /// Kept over transfers.
    pub interaction: String,
    /// The call.
    pub call: String,
    /// Which attempt of it, from 1.
    pub attempt: u32,
    /// Whose.
    pub tenant: String,
    /// `internal`, `inbound` or `outbound`.
    pub direction: String,
    /// Who called, a bare number.
    pub from: String,
    /// The caller's name, empty when unknown.
    pub from_name: String,
    /// Who was called, a bare number.
    pub to: String,
    /// The callee's name, empty when unknown.
    pub to_name: String,
    /// When it began.
    #[schema(format = DateTime)]
    pub start: String,
    /// When it was answered.
    #[schema(format = DateTime)]
    pub answer: Option<String>,
    /// When it ended.
    #[schema(format = DateTime)]
    pub end: String,
    /// Start to end, ringing included.
    pub duration_s: u32,
    /// Answer to end; 0 when not answered.
    pub billed_s: u32,
    /// A decimal string; `null` when free of charge.
    pub cost: Option<String>,
    /// ISO 4217.
    pub currency: String,
    /// `answered` or `not_answered`.
    pub status: String,
    /// Why it ended, such as `normal_clearing` or `busy`.
    pub cause: String,
    /// The carrier, empty inside.
    pub trunk: String,
    /// The owner at the end.
    pub node: String,
    /// The ownership at the end.
    pub epoch: u64,
    /// Media figures, when there were any.
    pub quality: Option<QualityView>,
}

/// Media figures, the worse of both directions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QualityView {
    /// Mean opinion score times 100.
    pub mos_x100: u16,
    /// Packets lost per million.
    pub loss_ppm: u32,
    /// Interarrival jitter in microseconds.
    pub jitter_us: u32,
    /// The longest silence on the wire in milliseconds.
    pub longest_gap_ms: u32,
    /// Packets from the caller.
    pub caller_packets: u64,
    /// Packets from the callee.
    pub callee_packets: u64,
}

impl CdrView {
    pub(crate) fn of(state: &State, cdr: &Cdr) -> CdrView {
        let status = if cdr.answer.is_some() { "answered" } else { "not_answered" };
        CdrView {
            id: cdr.id.clone(),
            interaction: cdr.interaction.to_string(),
            call: cdr.call.to_string(),
            attempt: cdr.attempt,
            tenant: tenant_name(state, cdr.tenant),
            direction: word(cdr.direction),
            from: cdr.from.number.clone(),
            from_name: cdr.from.name.clone(),
            to: cdr.to.number.clone(),
            to_name: cdr.to.name.clone(),
            start: rfc3339(cdr.start),
            answer: cdr.answer.map(rfc3339),
            end: rfc3339(cdr.end),
            duration_s: cdr.duration_s,
            billed_s: cdr.billed_s,
            cost: cdr.cost_micros.map(money),
            currency: cdr.currency.clone(),
            status: status.to_owned(),
            cause: word(cdr.cause),
            trunk: cdr.trunk.clone(),
            node: node_name(state, cdr.node),
            epoch: cdr.epoch.0,
            quality: cdr.quality.map(QualityView::of),
        }
    }
}

impl QualityView {
    fn of(quality: Quality) -> QualityView {
        QualityView {
            mos_x100: quality.mos_x100,
            loss_ppm: quality.loss_ppm,
            jitter_us: quality.jitter_us,
            longest_gap_ms: quality.longest_gap_ms,
            caller_packets: quality.caller_packets,
            callee_packets: quality.callee_packets,
        }
    }
}
