//! Invitations: a join token says where the cluster is, how its CA is known, and a secret that works once and not for
//! long.
//!
//! The inviting node keeps invitations in memory only: a restart ends them.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tandem_state::{ClusterId, Role};
use tokio::time::Instant;

use crate::cluster::InviteError;
use crate::identity::{from_hex, to_hex};
use crate::rpc::handshake::{Key, Refused, random, random_number};
use crate::tls::Pin;

/// What a join token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JoinToken {
    pub(crate) cluster: ClusterId,
    /// Where to ask, in turn.
    pub(crate) addresses: Vec<String>,
    /// Of the cluster's CA.
    pub(crate) pin: Pin,
    pub(crate) invitation: u64,
    pub(crate) secret: Key,
    /// Not good after then, in seconds since 1970, by the clock of the node that made it.
    pub(crate) until_s: u64,
    /// The name of the node that it is for; absent: any.
    pub(crate) node: Option<String>,
}

/// The name of the node that a join token is for, if it is for one.
pub fn invited_node(token: &str) -> Option<String> {
    JoinToken::parse(token)?.node
}

const PREFIX: &str = "tandem-join-2-";

impl JoinToken {
    pub(crate) fn to_text(&self) -> String {
        let bytes = postcard::to_stdvec(self).expect("plain fields always encode");
        format!("{PREFIX}{}", to_hex(&bytes))
    }

    pub(crate) fn parse(text: &str) -> Option<JoinToken> {
        let bytes = from_hex(text.trim().strip_prefix(PREFIX)?)?;
        let (token, rest) = postcard::take_from_bytes::<JoinToken>(&bytes).ok()?;
        (rest.is_empty() && !token.addresses.is_empty()).then_some(token)
    }
}

/// The invitations of this node: those that may still be used, and for a while those that may not, to say why.
#[derive(Debug, Default)]
pub(crate) struct Invitations {
    made: Mutex<BTreeMap<u64, Invitation>>,
}

#[derive(Debug)]
struct Invitation {
    secret: Key,
    role: Role,
    until: Instant,
    used: bool,
}

impl Invitation {
    fn check(&self) -> Result<(), Refused> {
        match (self.used, self.until > Instant::now()) {
            (true, _) => Err(Refused::InvitationUsed),
            (false, false) => Err(Refused::InvitationExpired),
            (false, true) => Ok(()),
        }
    }
}

/// Those that may be used at once.
const OPEN_MAX: usize = 64;
/// All that are remembered.
const MADE_MAX: usize = 256;

impl Invitations {
    /// Makes one.
    pub(crate) fn invite(&self, role: Role, ttl: Duration) -> Result<(u64, Key), InviteError> {
        let secret = random().map_err(|_| InviteError::NoRandomness)?;
        let number = random_number().map_err(|_| InviteError::NoRandomness)?;
        let mut made = self.made();
        if made.values().filter(|invitation| invitation.check().is_ok()).count() >= OPEN_MAX {
            return Err(InviteError::TooMany);
        }
        if made.len() >= MADE_MAX {
            made.retain(|_, invitation| invitation.check().is_ok());
        }
        made.insert(number, Invitation { secret, role, until: Instant::now() + ttl, used: false });
        Ok((number, secret))
    }

    /// The secret of one that may still be used.
    pub(crate) fn secret(&self, number: u64) -> Result<Key, Refused> {
        let made = self.made();
        let invitation = made.get(&number).ok_or(Refused::InvitationUnknown)?;
        invitation.check()?;
        Ok(invitation.secret)
    }

    /// Uses one up.
    pub(crate) fn take(&self, number: u64) -> Result<Role, Refused> {
        let mut made = self.made();
        let invitation = made.get_mut(&number).ok_or(Refused::InvitationUnknown)?;
        invitation.check()?;
        invitation.used = true;
        Ok(invitation.role)
    }

    fn made(&self) -> MutexGuard<'_, BTreeMap<u64, Invitation>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back_and_anything_else_is_refused() {
        let token = JoinToken {
            cluster: ClusterId(1),
            addresses: vec!["127.0.0.1:7400".into()],
            pin: [4; 32],
            invitation: 9,
            secret: [3; 32],
            until_s: 5,
            node: Some("n4".into()),
        };
        let text = token.to_text();
        assert_eq!(JoinToken::parse(&text), Some(token.clone()));
        assert_eq!((invited_node(&text), invited_node("hello")), (Some("n4".into()), None));
        assert_eq!(JoinToken::parse(&text[..text.len() - 2]), None);
        assert_eq!(JoinToken::parse(&format!("{text}00")), None);
        assert_eq!(JoinToken::parse(&JoinToken { addresses: Vec::new(), ..token }.to_text()), None);
        assert_eq!(JoinToken::parse("tandem-join-2-00"), None);
        assert_eq!(JoinToken::parse("hello"), None);
    }

    #[test]
    fn an_invitation_works_once_and_not_after_its_time() {
        let invitations = Invitations::default();
        let (number, secret) = invitations.invite(Role::Full, Duration::from_secs(60)).unwrap();
        assert_eq!(invitations.secret(number), Ok(secret));
        assert_eq!(invitations.take(number), Ok(Role::Full));
        assert_eq!(invitations.secret(number), Err(Refused::InvitationUsed));
        assert_eq!(invitations.take(number), Err(Refused::InvitationUsed));
        let (late, _) = invitations.invite(Role::Full, Duration::ZERO).unwrap();
        assert_eq!(invitations.secret(late), Err(Refused::InvitationExpired));
        assert_eq!(invitations.take(late), Err(Refused::InvitationExpired));
        assert_eq!(invitations.secret(number ^ 1), Err(Refused::InvitationUnknown));
    }

    #[test]
    fn open_invitations_and_remembered_ones_are_bounded() {
        let invitations = Invitations::default();
        for _ in 0..2 * MADE_MAX {
            invitations.invite(Role::Full, Duration::ZERO).unwrap();
        }
        assert!(invitations.made().len() <= MADE_MAX);
        for _ in 0..OPEN_MAX {
            invitations.invite(Role::Full, Duration::from_secs(60)).unwrap();
        }
        assert_eq!(invitations.invite(Role::Full, Duration::from_secs(60)), Err(InviteError::TooMany));
    }
}
