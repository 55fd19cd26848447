//! What is answered to a request that was not admitted.

use tandem_sip::build::ResponseBuilder;
use tandem_sip::digest::{Algorithm, challenge, challenges};
use tandem_sip::header::Header;
use tandem_sip::message::Message;
use tandem_sip::transaction::ServerKey;
use tandem_switching::admission::Admission;
use tandem_switching::quirks::takes_sha256;

use crate::endpoint::Serving;

/// Challenges (401, SHA-256 first) or refuses.
pub(crate) fn deny(serving: &mut Serving, key: &ServerKey, request: &Message, denied: Admission) {
    match denied {
        Admission::Admitted(_) => {}
        Admission::Challenged { realm, stale } => {
            if stale {
                metrics::counter!("tandem_auth_stale_total").increment(1);
            }
            let shared = &serving.shared;
            let nonce = shared.nonces.issue(&realm, shared.now().cluster.0, shared.ids.seed());
            let offered = match takes_sha256(request.header(Header::UserAgent).unwrap_or_default()) {
                true => challenges(&realm, &nonce, stale).to_vec(),
                false => vec![challenge(&realm, &nonce, Algorithm::Md5, stale)],
            };
            let more =
                |r| offered.iter().fold(r, |r: ResponseBuilder, one| r.header(Header::WwwAuthenticate, one));
            serving.answer_once(key, request, 401, more);
        }
        Admission::Refused { status, reason } => {
            metrics::counter!("tandem_auth_failures_total", "reason" => reason).increment(1);
            serving.answer(key, request, status, |r| r);
        }
    }
}
