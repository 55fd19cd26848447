//! What happened, line by line, and a hash over it that tells two runs apart.

use std::fmt;

/// The trace of a run.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    lines: Option<Vec<String>>,
}

impl Trace {
    /// A trace that keeps its lines only if asked to.
    pub fn new(keep: bool) -> Self {
        Trace { hash: 0xcbf2_9ce4_8422_2325, lines: keep.then(Vec::new) }
    }

    /// One more line, at a simulated time in milliseconds.
    pub fn line(&mut self, now_ms: u64, what: fmt::Arguments<'_>) {
        let line = format!("{:>3}.{:03}  {what}", now_ms / 1000, now_ms % 1000);
        self.mix(line.as_bytes());
        if let Some(lines) = &mut self.lines {
            lines.push(line);
        }
    }

    /// Bytes that count for the hash but are not shown (FNV-1a).
    pub fn mix(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// The hash so far.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The lines, if they were kept.
    pub fn into_lines(self) -> Vec<String> {
        self.lines.unwrap_or_default()
    }
}
