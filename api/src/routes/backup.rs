//! A backup of the whole cluster, streamed while the node works.

use std::io::{self, Write};

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tokio::sync::mpsc;
use utoipa::ToSchema;

use super::Shared;
use crate::change::{Change, note};
use crate::problem::Problem;

/// What a backup is sealed by.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Backup {
    /// At least 12 characters; without it the backup can't be read by anybody.
    passphrase: String,
}

/// Short passphrases are guessed.
const PASSPHRASE_MIN: usize = 12;
/// Pieces on their way to a slow reader.
const PIECES_MAX: usize = 4;

/// The state as of one log position and the archive up to it, sealed by a passphrase. A file for `tandem restore`.
#[utoipa::path(post, path = "/v1/cluster/backup", tag = "cluster", request_body = Backup,
    responses((status = 200, description = "the sealed backup", content_type = "application/octet-stream")))]
pub(crate) async fn backup(api: Shared, change: Change<Backup>) -> Result<Response, Problem> {
    change.session.operator()?;
    let passphrase = change.body.passphrase;
    if passphrase.chars().count() < PASSPHRASE_MIN {
        return Err(Problem::invalid("passphrase", format!("at least {PASSPHRASE_MIN} characters")));
    }
    note(&api, &change.session, None, "take a backup".to_owned()).await?;
    let (pieces, taken) = mpsc::channel(PIECES_MAX);
    let cluster = api.cluster.clone();
    tokio::task::spawn_blocking(move || {
        let broken = pieces.clone();
        match cluster.backup(&passphrase, Pieces(pieces)) {
            Ok(head) => tracing::info!(position = head.position, "a backup was taken"),
            Err(error) => {
                tracing::warn!(%error, "a backup was not finished");
                // The reader sees the stream break off, not end.
                let _ = broken.blocking_send(Err(io::Error::other(error)));
            }
        }
    });
    let stream =
        futures_util::stream::unfold(taken, |mut taken| async move { Some((taken.recv().await?, taken)) });
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], Body::from_stream(stream)).into_response())
}

/// Hands each write on as a piece, and waits for the reader.
struct Pieces(mpsc::Sender<io::Result<Bytes>>);

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes))).map_err(gone)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
