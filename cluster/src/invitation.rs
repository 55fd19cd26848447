//! Invitations: a join token names a node, the cluster, and a secret that works once and not for long.
//!
//! The inviting node keeps open invitations in memory only: a restart ends them.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tandem_state::{ClusterId, Role};

use crate::cluster::InviteError;
use crate::identity::{from_hex, to_hex};
use crate::rpc::handshake::{Key, random};

/// What a join token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JoinToken {
    pub(crate) cluster: ClusterId,
    pub(crate) address: String,
    pub(crate) invitation: u64,
    pub(crate) secret: Key,
}

const PREFIX: &str = "tandem-join-1-";

impl JoinToken {
    pub(crate) fn to_text(&self) -> String {
        let bytes = postcard::to_stdvec(self).expect("plain fields always encode");
        format!("{PREFIX}{}", to_hex(&bytes))
    }

    pub(crate) fn parse(text: &str) -> Option<JoinToken> {
        let bytes = from_hex(text.trim().strip_prefix(PREFIX)?)?;
        postcard::from_bytes(&bytes).ok()
    }
}

/// The invitations of this node that may still be used.
#[derive(Debug, Default)]
pub(crate) struct Invitations {
    open: Mutex<BTreeMap<u64, Invitation>>,
}

#[derive(Debug)]
struct Invitation {
    secret: Key,
    role: Role,
    until: Instant,
}

const OPEN_MAX: usize = 64;

impl Invitations {
    /// Makes one.
    pub(crate) fn invite(&self, role: Role, ttl: Duration) -> Result<(u64, Key), InviteError> {
        let secret = random().map_err(|_| InviteError::NoRandomness)?;
        let number = random().map_err(|_| InviteError::NoRandomness)?;
        let number = u64::from_le_bytes(*number.first_chunk().ok_or(InviteError::NoRandomness)?);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, invitation| invitation.until > Instant::now());
        if open.len() >= OPEN_MAX {
            return Err(InviteError::TooMany);
        }
        open.insert(number, Invitation { secret, role, until: Instant::now() + ttl });
        Ok((number, secret))
    }

    /// The secret of one that may still be used.
    pub(crate) fn secret(&self, number: u64) -> Option<Key> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.get(&number)
            .filter(|invitation| invitation.until > Instant::now())
            .map(|invitation| invitation.secret)
    }

    /// Uses one up.
    pub(crate) fn take(&self, number: u64) -> Option<Role> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.remove(&number)
            .filter(|invitation| invitation.until > Instant::now())
            .map(|invitation| invitation.role)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back_and_anything_else_is_refused() {
        let token = JoinToken {
            cluster: ClusterId(1),
            address: "127.0.0.1:7400".into(),
            invitation: 9,
            secret: [3; 32],
        };
        assert_eq!(JoinToken::parse(&token.to_text()), Some(token));
        assert_eq!(JoinToken::parse("tandem-join-1-00"), None);
        assert_eq!(JoinToken::parse("hello"), None);
    }

    #[test]
    fn an_invitation_works_once_and_not_after_its_time() {
        let invitations = Invitations::default();
        let (number, secret) = invitations.invite(Role::Full, Duration::from_secs(60)).unwrap();
        assert_eq!(invitations.secret(number), Some(secret));
        assert_eq!(invitations.take(number), Some(Role::Full));
        assert_eq!((invitations.secret(number), invitations.take(number)), (None, None));
        let (late, _) = invitations.invite(Role::Full, Duration::ZERO).unwrap();
        assert_eq!((invitations.secret(late), invitations.take(late)), (None, None));
    }
}
