//! The state as bytes, with a version table: each layout that was ever released can be read.
//!
//! A snapshot is the magic, the layout's number (2 bytes, big endian), the SHA-256 of the body (which is
//! [`State::hash`] too) and the body. A layout is frozen by its release: the golden files of `tests/data/state`
//! prove that it is still read. What is written follows the rules in force, not the release: a member of the former
//! release can read it, and takes the same hash of it, until the rules are raised.

mod layout1;
mod layout2;
mod layout3;
mod layout4;

use std::io::{BufWriter, Write};

use imbl::OrdMap;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::tables::State;
use layout1::{Layout1, Layout1Ref};
use layout2::{Layout2, Layout2Ref};
use layout3::{Layout3, Layout3Ref};
use layout4::{Layout4, Layout4Ref};

const MAGIC: &[u8; 8] = b"TANDEMST";
const HEADER_LEN: usize = 8 + 2 + 32;

/// Why a snapshot can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// Written by a later release.
    #[error("snapshot layout {0} is newer than this release knows")]
    UnknownLayout(u16),
    /// Of rules that only a later release knows.
    #[error("the snapshot is of apply version {0}, which is newer than this release knows")]
    UnknownRules(u16),
    /// Its bytes make no sense.
    #[error("the snapshot is damaged: {0}")]
    Damaged(String),
}

impl State {
    /// The state in the layout of the rules in force.
    pub fn encode_snapshot(&self) -> Vec<u8> {
        let written = Written::of(self);
        let mut bytes = Vec::with_capacity(HEADER_LEN);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&written.number().to_be_bytes());
        bytes.extend_from_slice(&[0; 32]);
        let mut bytes = postcard::to_extend(&written, bytes).expect("every state has an encoding");
        let (header, body) = bytes.split_at_mut(HEADER_LEN);
        let hash: [u8; 32] = Sha256::digest(body).into();
        for (to, from) in header.iter_mut().skip(10).zip(hash) {
            *to = from;
        }
        bytes
    }

    /// Writes what [`State::encode_snapshot`] gives, without ever having all of it in memory.
    pub fn write_snapshot(&self, mut to: impl Write) -> std::io::Result<()> {
        let written = Written::of(self);
        to.write_all(MAGIC)?;
        to.write_all(&written.number().to_be_bytes())?;
        to.write_all(&self.hash())?;
        let mut to = postcard::to_io(&written, to).map_err(std::io::Error::other)?;
        to.flush()
    }

    /// A state from any released layout. Derived tables are rebuilt and the invariants checked.
    pub fn decode_snapshot(bytes: &[u8]) -> Result<State, SnapshotError> {
        let damaged = |why: &str| SnapshotError::Damaged(why.to_owned());
        let (magic, rest) = bytes.split_first_chunk::<8>().ok_or_else(|| damaged("it is too short"))?;
        if magic != MAGIC {
            return Err(damaged("it is no snapshot"));
        }
        let (layout, rest) = rest.split_first_chunk::<2>().ok_or_else(|| damaged("it is too short"))?;
        let (hash, body) = rest.split_first_chunk::<32>().ok_or_else(|| damaged("it is too short"))?;
        // The version table: a new layout adds a line here and keeps the others.
        let decode = match u16::from_be_bytes(*layout) {
            1 => decode_layout1,
            2 => decode_layout2,
            3 => decode_layout3,
            4 => decode_layout4,
            0 => return Err(damaged("there is no layout 0")),
            later => return Err(SnapshotError::UnknownLayout(later)),
        };
        if Sha256::digest(body).as_slice() != hash {
            return Err(damaged("its checksum is wrong"));
        }
        decode(body)
    }

    /// SHA-256 over the state (derived tables left out): equal on all nodes at one log position.
    pub fn hash(&self) -> [u8; 32] {
        let hasher = BufWriter::with_capacity(16 * 1024, Sha256::new());
        let hasher = postcard::to_io(&Written::of(self), hasher).expect("every state has an encoding");
        hasher.into_inner().expect("a hasher takes all bytes").finalize().into()
    }
}

/// What is written; the number is in the header alone.
enum Written<'a> {
    Layout1(Layout1Ref<'a>),
    Layout2(Layout2Ref<'a>),
    Layout3(Layout3Ref<'a>),
    Layout4(Layout4Ref<'a>),
}

impl<'a> Written<'a> {
    fn of(state: &'a State) -> Self {
        if state.moves_calls() {
            Written::Layout4(Layout4Ref::of(state))
        } else if state.has_marks() {
            Written::Layout3(Layout3Ref::of(state))
        } else if state.has_leases() {
            Written::Layout2(Layout2Ref::of(state))
        } else {
            Written::Layout1(Layout1Ref::of(state))
        }
    }

    fn number(&self) -> u16 {
        match self {
            Written::Layout1(_) => 1,
            Written::Layout2(_) => 2,
            Written::Layout3(_) => 3,
            Written::Layout4(_) => 4,
        }
    }
}

impl Serialize for Written<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Written::Layout1(layout) => layout.serialize(serializer),
            Written::Layout2(layout) => layout.serialize(serializer),
            Written::Layout3(layout) => layout.serialize(serializer),
            Written::Layout4(layout) => layout.serialize(serializer),
        }
    }
}

fn decode_layout1(body: &[u8]) -> Result<State, SnapshotError> {
    decode_with(body, Layout1::into_state)
}

fn decode_layout2(body: &[u8]) -> Result<State, SnapshotError> {
    decode_with(body, Layout2::into_state)
}

fn decode_layout3(body: &[u8]) -> Result<State, SnapshotError> {
    decode_with(body, Layout3::into_state)
}

fn decode_layout4(body: &[u8]) -> Result<State, SnapshotError> {
    decode_with(body, Layout4::into_state)
}

fn decode_with<'a, L: Deserialize<'a>>(
    body: &'a [u8],
    into_state: impl Fn(L) -> State,
) -> Result<State, SnapshotError> {
    let damaged = |why: String| SnapshotError::Damaged(why);
    let (layout, rest) = postcard::take_from_bytes::<L>(body).map_err(|e| damaged(e.to_string()))?;
    if !rest.is_empty() {
        return Err(damaged(format!("{} bytes follow the state", rest.len())));
    }
    let mut state = into_state(layout);
    if !state.knows_its_rules() {
        return Err(SnapshotError::UnknownRules(state.apply_version));
    }
    state.rebuild_derived();
    state.check_invariants().map_err(|broken| damaged(broken.to_string()))?;
    Ok(state)
}

/// Reads a map row by row: a declared length is never trusted with memory.
pub(crate) fn bounded_map<'de, K, V, D>(deserializer: D) -> Result<OrdMap<K, V>, D::Error>
where
    K: Deserialize<'de> + Ord + Clone,
    V: Deserialize<'de> + Clone,
    D: Deserializer<'de>,
{
    deserializer.deserialize_map(Rows(std::marker::PhantomData))
}

struct Rows<K, V>(std::marker::PhantomData<(K, V)>);

impl<'de, K, V> Visitor<'de> for Rows<K, V>
where
    K: Deserialize<'de> + Ord + Clone,
    V: Deserialize<'de> + Clone,
{
    type Value = OrdMap<K, V>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a table")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut rows: A) -> Result<Self::Value, A::Error> {
        let mut table = OrdMap::new();
        while let Some((key, value)) = rows.next_entry()? {
            table.insert(key, value);
        }
        Ok(table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::*;

    fn filled() -> State {
        let mut state = started();
        run(&mut state, propose(1, 80, bind("101", 1)));
        run(&mut state, propose(1, 81, create_call(1)));
        run(&mut state, propose(2, 80, create_call(2)));
        state
    }

    fn is_damaged(bytes: &[u8]) -> bool {
        matches!(State::decode_snapshot(bytes), Err(SnapshotError::Damaged(_)))
    }

    #[test]
    fn a_snapshot_is_read_back_equal_with_its_derived_tables() {
        let state = filled();
        let bytes = state.encode_snapshot();
        let read = State::decode_snapshot(&bytes).unwrap();
        assert_eq!(read, state);
        assert_eq!(read.encode_snapshot(), bytes);
        assert_eq!(&bytes[10..42], state.hash());
        let mut streamed = Vec::new();
        state.write_snapshot(&mut streamed).unwrap();
        assert_eq!(streamed, bytes);
    }

    #[test]
    fn a_snapshot_of_rules_that_this_release_does_not_know_is_refused() {
        let mut state = leased();
        state.apply_version = crate::tables::NEWEST_APPLY_VERSION;
        assert_eq!(State::decode_snapshot(&state.encode_snapshot()), Ok(state.clone()));
        state.apply_version += 1;
        let refused = Err(SnapshotError::UnknownRules(state.apply_version));
        assert_eq!(State::decode_snapshot(&state.encode_snapshot()), refused);
    }

    #[test]
    fn the_hash_covers_rows_time_and_position_but_no_derived_table() {
        let state = filled();
        let mut other = state.clone();
        other.usage.clear();
        assert_eq!(other.hash(), state.hash());
        let edits: [fn(&mut State); 4] = [
            |s| s.position += 1,
            |s| s.time = s.time.plus_ms(1),
            |s| drop(s.calls.remove(&CallId(1))),
            |s| s.streams.clear(),
        ];
        for edit in edits {
            let mut other = state.clone();
            edit(&mut other);
            assert_ne!(other.hash(), state.hash());
        }
    }

    #[test]
    fn a_later_layout_is_named_and_damage_is_refused() {
        let bytes = filled().encode_snapshot();
        let mut later = bytes.clone();
        later[9] = 5;
        assert_eq!(State::decode_snapshot(&later), Err(SnapshotError::UnknownLayout(5)));
        let mut none = bytes.clone();
        none[9] = 0;
        assert!(is_damaged(&none));
        for len in [0, 7, 9, 41, 42, bytes.len() - 1] {
            assert!(is_damaged(&bytes[..len]), "{len}");
        }
        for at in [0, 12, 50, bytes.len() - 1] {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            assert!(is_damaged(&flipped), "{at}");
        }
    }

    #[test]
    fn rows_after_the_state_or_against_the_invariants_are_damage() {
        let state = filled();
        let mut body = state.encode_snapshot().split_off(HEADER_LEN);
        body.push(0);
        assert_eq!(decode_layout1(&body), Err(SnapshotError::Damaged("1 bytes follow the state".to_owned())));
        let mut broken = state;
        broken.tenants.clear();
        assert!(is_damaged(&broken.encode_snapshot()));
    }

    #[test]
    fn a_huge_declared_length_takes_no_memory() {
        // apply_version, position, time, then a node table of 2^63 rows that are not there.
        let mut body = vec![1, 0, 0];
        body.extend([0xff; 8]);
        body.push(0x7f);
        assert!(matches!(decode_layout1(&body), Err(SnapshotError::Damaged(_))));
    }

    proptest::proptest! {
        #[test]
        fn mutated_bodies_never_panic(at in 0usize..2000, with: u8, cut in 0usize..2000) {
            let mut body = filled().encode_snapshot().split_off(HEADER_LEN);
            let place = at % body.len();
            body[place] = with;
            let read = decode_layout1(&body);
            if let Ok(state) = read {
                proptest::prop_assert_eq!(state.check_invariants(), Ok(()));
            }
            body.truncate(cut % body.len());
            proptest::prop_assert!(decode_layout1(&body).is_err());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = decode_layout1(&bytes);
            let _ = State::decode_snapshot(&bytes);
        }
    }

    use crate::ids::CallId;
}
