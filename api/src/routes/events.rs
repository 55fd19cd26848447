//! The event stream (Server-Sent Events): each event once and in order, from the archive first, then live.

use std::convert::Infallible;
use std::time::Duration;

use axum::http::HeaderMap;
use axum::response::sse::{Event as Message, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tandem_cluster::archive::EventsRead;
use tandem_cluster::{Feed, FeedItem};
use tandem_state::{Event, EventId, State, TenantId};
use tokio::sync::mpsc;
use utoipa::IntoParams;

use super::Shared;
use crate::api::Api;
use crate::problem::Problem;
use crate::query::{Path, Query};
use crate::session::Session;
use crate::views::{EventView, ResetView};

/// Events read from the archive at once.
const BATCH: usize = 500;
/// Events waiting for one reader at most.
const QUEUE: usize = 1024;
/// Tells clients how long to wait before they come back, in milliseconds.
const RETRY: Duration = Duration::from_millis(1000);

/// Where to begin.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct From {
    /// The last event that was seen, for clients that can't send `Last-Event-ID`.
    last_event_id: Option<String>,
}

/// Events of all tenants and of the cluster, from now on or after `Last-Event-ID`.
#[utoipa::path(get, path = "/v1/events", tag = "events",
    params(From, ("Last-Event-ID" = Option<String>, Header)),
    responses((status = 200, body = EventView, content_type = "text/event-stream")))]
pub(crate) async fn stream_all(
    api: Shared,
    session: Session,
    Query(from): Query<From>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    session.operator()?;
    open(&api, session, None, from, &headers)
}

/// A tenant's events, from now on or after `Last-Event-ID`.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/events", tag = "events",
    params(("tenant" = String, Path), From, ("Last-Event-ID" = Option<String>, Header)),
    responses((status = 200, body = EventView, content_type = "text/event-stream")))]
pub(crate) async fn stream(
    api: Shared,
    session: Session,
    Path(tenant): Path<String>,
    Query(from): Query<From>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (tenant, _) = session.tenant(&tenant)?;
    open(&api, session, Some(tenant), from, &headers)
}

fn open(
    api: &Api,
    session: Session,
    tenant: Option<TenantId>,
    from: From,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let given = headers.get("last-event-id").map(|value| value.to_str().unwrap_or("?").to_owned());
    let after = match given.or(from.last_event_id).as_deref().map(str::trim) {
        None | Some("") => None,
        Some(text) => {
            let wrong = |_| Problem::bad_parameter("Last-Event-ID", "not an event id such as 120.0");
            Some(text.parse().map_err(wrong)?)
        }
    };
    let slot = std::sync::Arc::clone(&api.streams).try_acquire_owned();
    let slot = slot.map_err(|_| Problem::unavailable("too many event streams are open"))?;
    let (to, from_pump) = mpsc::channel(QUEUE);
    let pump = Pump { api: api.clone(), token_id: session.token_id, tenant, sent: after, to };
    let feed = api.cluster.feed();
    tokio::spawn(async move {
        let _slot = slot;
        let _ = pump.run(feed, after.is_some()).await;
    });
    let messages = futures_util::stream::unfold(from_pump, |mut from_pump| async {
        from_pump.recv().await.map(|message| (Ok::<_, Infallible>(message), from_pump))
    });
    let beat = KeepAlive::new().interval(api.limits.heartbeat).text("beat");
    Ok(Sse::new(messages).keep_alive(beat).into_response())
}

/// Brings events to one reader. Ends when the reader is gone or too slow: it comes back with `Last-Event-ID`.
struct Pump {
    api: Api,
    token_id: String,
    tenant: Option<TenantId>,
    /// The last event that was looked at.
    sent: Option<EventId>,
    to: mpsc::Sender<Message>,
}

/// The stream is over.
struct Over;

impl Pump {
    /// `feed` was opened first, so that what the archive doesn't hold yet comes from there.
    async fn run(mut self, mut feed: Feed, resume: bool) -> Result<(), Over> {
        self.send(Message::default().comment("tandem").retry(RETRY)).await?;
        if resume {
            self.catch_up().await?;
        }
        loop {
            let item = tokio::select! {
                item = feed.next() => item.map_err(|_| Over)?,
                () = tokio::time::sleep(self.api.limits.heartbeat) => {
                    self.may_read(&self.api.cluster.view())?;
                    continue;
                }
                () = self.api.stopped() => return Err(Over),
                () = self.to.closed() => return Err(Over),
            };
            match item {
                FeedItem::Applied { events, .. } => self.send_new(&events).await?,
                FeedItem::Reset if self.sent.is_some() => self.catch_up().await?,
                FeedItem::Reset => return Err(Over),
            }
        }
    }

    async fn catch_up(&mut self) -> Result<(), Over> {
        loop {
            let (archive, after, tenant) = (self.api.cluster.archive(), self.sent, self.tenant);
            let read = super::blocking(move || archive.events(after, tenant, BATCH)).await;
            match read.map_err(|_| Over)?.map_err(|_| Over)? {
                EventsRead::Events { events, last, more } => {
                    self.send_new(&events).await?;
                    self.sent = self.sent.max(last);
                    if !more {
                        return Ok(());
                    }
                }
                EventsRead::Reset { oldest } => {
                    self.send(reset(oldest)).await?;
                    return Err(Over);
                }
            }
        }
    }

    /// Sends those events that are after the last one and for this reader.
    async fn send_new(&mut self, events: &[Event]) -> Result<(), Over> {
        let view = self.api.cluster.view();
        self.may_read(&view)?;
        for event in events {
            if self.sent.is_some_and(|sent| event.id <= sent) {
                continue;
            }
            self.sent = Some(event.id);
            if self.tenant.is_none() || self.tenant == event.tenant {
                self.send(message(&EventView::of(&view, event))).await?;
            }
        }
        Ok(())
    }

    /// A stream lives no longer than its token.
    fn may_read(&self, view: &State) -> Result<(), Over> {
        if view.tokens.contains_key(&self.token_id) { Ok(()) } else { Err(Over) }
    }

    async fn send(&self, message: Message) -> Result<(), Over> {
        let sent = tokio::time::timeout(self.api.limits.stream_stall, self.to.send(message)).await;
        if sent.is_err() {
            metrics::counter!("tandem_api_streams_cut_total").increment(1);
        }
        sent.map_err(|_| Over)?.map_err(|_| Over)
    }
}

fn message(view: &EventView) -> Message {
    let message = Message::default().id(&view.id).event(&view.event);
    message.data(serde_json::to_string(view).unwrap_or_default())
}

fn reset(oldest: EventId) -> Message {
    let data = serde_json::to_string(&ResetView::of(oldest)).unwrap_or_default();
    Message::default().event("reset").data(data)
}
