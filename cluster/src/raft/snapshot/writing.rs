//! A snapshot's file while it is written: the checksum of the rest is put into its head at the end.

use std::io::{self, Write};

use sha2::{Digest, Sha256};

use super::{HEADER, MAGIC};
use crate::disk::DiskFile;

/// See the module.
pub(crate) struct Writing {
    file: Box<dyn DiskFile>,
    at: u64,
    buffer: Vec<u8>,
    hash: Sha256,
}

const BUFFER: usize = 256 * 1024;

impl Writing {
    pub(crate) fn begin(file: Box<dyn DiskFile>) -> io::Result<Writing> {
        Ok(Writing { file, at: HEADER as u64, buffer: Vec::with_capacity(BUFFER), hash: Sha256::new() })
    }

    /// Adds bytes behind the head.
    pub(crate) fn rest(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        if self.buffer.len() + bytes.len() > BUFFER {
            self.flush()?;
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// Writes the head and makes all of it durable.
    pub(crate) fn end(mut self) -> io::Result<()> {
        self.flush()?;
        let head = [MAGIC.as_slice(), &self.hash.finalize()].concat();
        self.file.write_at(0, &head)?;
        self.file.sync()
    }
}

impl Write for Writing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.rest(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_at(self.at, &self.buffer)?;
        self.at += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}
