//! What must hold through everything. Each invariant judges a [`History`], and each has a test with made-up histories that
//! break it, so that none of them can hold because it looks at nothing.

mod applied_once;
mod audio_gap;
mod calls_go_on;
mod comes_back;
mod fenced_is_silent;
mod hash_equal;
#[cfg(test)]
pub(crate) mod made_up;
mod memory_level;
mod no_acknowledged_write_lost;
pub(crate) mod nothing_left;
mod one_cdr;
mod one_owner;
mod service_goes_on;
mod tenants_isolated;

use crate::history::History;

/// One of them.
pub(crate) struct Invariant {
    /// As scripts call it.
    pub(crate) name: &'static str,
    /// In words.
    pub(crate) says: &'static str,
    /// Looks at a history.
    pub(crate) judge: fn(&History) -> Judgement,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Judgement {
    /// How many things were looked at.
    pub(crate) looked_at: usize,
    /// How it is broken; empty when it holds.
    pub(crate) broken: Vec<String>,
    /// Figures for the reader.
    pub(crate) figures: String,
}

/// All of them.
pub(crate) const ALL: [Invariant; 13] = [
    Invariant {
        name: "no-acknowledged-write-lost",
        says: "what a node said yes to is on all nodes",
        judge: no_acknowledged_write_lost::judge,
    },
    Invariant {
        name: "applied-once",
        says: "a write is applied once, however often it was sent",
        judge: applied_once::judge,
    },
    Invariant {
        name: "one-owner",
        says: "one owner at most acts per call and epoch, by the packets that reach the phones",
        judge: one_owner::judge,
    },
    Invariant {
        name: "one-cdr",
        says: "each attempt has one CDR, right and the same on all nodes",
        judge: one_cdr::judge,
    },
    Invariant {
        name: "hash-equal",
        says: "all nodes have the same state and archive",
        judge: hash_equal::judge,
    },
    Invariant {
        name: "fenced-is-silent",
        says: "a node without authority sends nothing that it may not",
        judge: fenced_is_silent::judge,
    },
    Invariant {
        name: "audio-gap",
        says: "no phone of a standing call hears nothing for longer than the bound",
        judge: audio_gap::judge,
    },
    Invariant {
        name: "calls-go-on",
        says: "standing calls end by their phones alone",
        judge: calls_go_on::judge,
    },
    Invariant { name: "nothing-left", says: "no call is left over anywhere", judge: nothing_left::judge },
    Invariant {
        name: "tenants-isolated",
        says: "nobody hears or sees anything of another tenant",
        judge: tenants_isolated::judge,
    },
    Invariant { name: "memory-level", says: "memory comes back to its level", judge: memory_level::judge },
    Invariant {
        name: "comes-back",
        says: "a node whose fault is over is up again in time",
        judge: comes_back::judge,
    },
    Invariant {
        name: "service-goes-on",
        says: "registrations and writes are taken all the time",
        judge: service_goes_on::judge,
    },
];

/// The one of this name.
pub(crate) fn named(name: &str) -> Option<&'static Invariant> {
    ALL.iter().find(|one| one.name == name)
}

impl Judgement {
    /// Whether it holds.
    pub(crate) fn holds(&self) -> bool {
        self.broken.is_empty()
    }

    /// Whether there was anything by which it holds or is broken.
    pub(crate) fn is_of_something(&self) -> bool {
        self.looked_at > 0 || !self.holds()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_good_history_holds_everything_and_everything_looks_at_something() {
        let history = made_up::history();
        for invariant in &ALL {
            let judgement = (invariant.judge)(&history);
            assert!(judgement.holds() && judgement.looked_at > 0, "{}: {judgement:?}", invariant.name);
        }
    }

    #[test]
    fn names_are_those_of_the_files() {
        assert!(named("one-owner").is_some() && named("one-ownr").is_none());
    }
}
