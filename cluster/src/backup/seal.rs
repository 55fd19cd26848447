//! A stream of bytes sealed by a passphrase: `TANDEMB1 | salt | pieces`, each `length u32 | ChaCha20-Poly1305 of up to 1 MiB`.
//!
//! The key is Argon2id of the passphrase. Each piece's nonce is its number and whether it is the last, so that pieces can't be
//! changed, swapped, left out or cut off at the end without being noticed.

use std::io::{self, Read, Write};

use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::aead::Aead;
use chacha20poly1305::{ChaCha20Poly1305, Key, KeyInit, Nonce};

use crate::rpc::handshake::random;

const MAGIC: &[u8; 8] = b"TANDEMB1";
const PIECE: usize = 1024 * 1024;
/// What authentication adds to a piece.
const TAG: usize = 16;
/// Memory (KiB), passes and lanes of Argon2id: about a third of a second on one core.
const MEMORY_KIB: u32 = 64 * 1024;
const PASSES: u32 = 3;
const LANES: u32 = 1;

/// Why a sealed stream can't be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("this is no backup of Tandem's")]
    NoBackup,
    #[error("the passphrase is wrong, or piece {0} of the backup was changed")]
    Changed(u64),
    #[error("the backup ends early, after piece {0}")]
    Short(u64),
}

/// A passphrase that Argon2 can't take: one of more than 4 GiB.
fn unfit(error: argon2::Error) -> io::Error {
    io::Error::other(error.to_string())
}

struct Pieces {
    cipher: ChaCha20Poly1305,
    number: u64,
}

impl Pieces {
    fn new(passphrase: &str, salt: &[u8; 32]) -> io::Result<Pieces> {
        let params = Params::new(MEMORY_KIB, PASSES, LANES, Some(32)).map_err(unfit)?;
        let mut key = [0; 32];
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(passphrase.as_bytes(), salt, &mut key)
            .map_err(unfit)?;
        Ok(Pieces { cipher: ChaCha20Poly1305::new(Key::from_slice(&key)), number: 0 })
    }

    fn nonce(&mut self, last: bool) -> Nonce {
        let mut nonce = [0; 12];
        nonce.iter_mut().zip(self.number.to_le_bytes()).for_each(|(to, from)| *to = from);
        if let Some(end) = nonce.last_mut() {
            *end = u8::from(last);
        }
        self.number += 1;
        nonce.into()
    }
}

/// Seals what is written to it. [`Sealer::finish`] ends it; without that it can't be opened.
pub(crate) struct Sealer<W> {
    to: W,
    pieces: Pieces,
    waiting: Vec<u8>,
}

impl<W: Write> Sealer<W> {
    pub(crate) fn new(mut to: W, passphrase: &str) -> io::Result<Sealer<W>> {
        let salt: [u8; 32] = random()?;
        to.write_all(MAGIC)?;
        to.write_all(&salt)?;
        Ok(Sealer { to, pieces: Pieces::new(passphrase, &salt)?, waiting: Vec::with_capacity(PIECE) })
    }

    fn seal(&mut self, last: bool) -> io::Result<()> {
        let nonce = self.pieces.nonce(last);
        let sealed = self.pieces.cipher.encrypt(&nonce, self.waiting.as_slice());
        let sealed = sealed.map_err(|_| io::Error::other("a piece can't be sealed"))?;
        self.waiting.clear();
        let length = u32::try_from(sealed.len()).map_err(io::Error::other)?;
        self.to.write_all(&length.to_le_bytes())?;
        self.to.write_all(&sealed)
    }

    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.seal(true)?;
        self.to.flush()?;
        Ok(self.to)
    }
}

impl<W: Write> Write for Sealer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.waiting.len() == PIECE {
            self.seal(false)?;
        }
        let taken = bytes.len().min(PIECE - self.waiting.len());
        self.waiting.extend_from_slice(bytes.get(..taken).unwrap_or_default());
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Opens a sealed stream piece by piece.
pub(crate) struct Opener<R> {
    from: R,
    pieces: Pieces,
    last: bool,
}

impl<R: Read> Opener<R> {
    pub(crate) fn new(mut from: R, passphrase: &str) -> Result<Opener<R>, OpenError> {
        let (mut magic, mut salt) = ([0; 8], [0; 32]);
        read_all(&mut from, &mut magic, OpenError::NoBackup)?;
        read_all(&mut from, &mut salt, OpenError::NoBackup)?;
        if &magic != MAGIC {
            return Err(OpenError::NoBackup);
        }
        Ok(Opener { from, pieces: Pieces::new(passphrase, &salt)?, last: false })
    }

    /// Whether nothing follows the last piece.
    pub(crate) fn is_at_end(&mut self) -> io::Result<bool> {
        Ok(self.from.read(&mut [0])? == 0)
    }

    /// The next piece; `None` after the last.
    pub(crate) fn next(&mut self) -> Result<Option<Vec<u8>>, OpenError> {
        if self.last {
            return Ok(None);
        }
        let number = self.pieces.number;
        let mut length = [0; 4];
        read_all(&mut self.from, &mut length, OpenError::Short(number))?;
        let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
        if length > PIECE + TAG {
            return Err(OpenError::Changed(number));
        }
        let mut sealed = vec![0; length];
        read_all(&mut self.from, &mut sealed, OpenError::Short(number))?;
        let (more, last) = (self.pieces.nonce(false), {
            self.pieces.number = number;
            self.pieces.nonce(true)
        });
        if let Ok(opened) = self.pieces.cipher.decrypt(&more, sealed.as_slice()) {
            return Ok(Some(opened));
        }
        let opened =
            self.pieces.cipher.decrypt(&last, sealed.as_slice()).map_err(|_| OpenError::Changed(number))?;
        self.last = true;
        Ok(Some(opened))
    }
}

fn read_all(from: &mut impl Read, into: &mut [u8], short: OpenError) -> Result<(), OpenError> {
    match from.read_exact(into) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(short),
        done => Ok(done?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(bytes: &[u8]) -> Vec<u8> {
        let mut sealer = Sealer::new(Vec::new(), "open sesame").unwrap();
        sealer.write_all(bytes).unwrap();
        sealer.finish().unwrap()
    }

    fn opened(sealed: &[u8], passphrase: &str) -> Result<Vec<u8>, OpenError> {
        let mut opener = Opener::new(sealed, passphrase)?;
        let mut bytes = Vec::new();
        while let Some(piece) = opener.next()? {
            bytes.extend(piece);
        }
        Ok(bytes)
    }

    #[test]
    fn what_was_sealed_is_opened_by_its_passphrase_alone() {
        let bytes: Vec<u8> = (0..PIECE + 100).map(|at| u8::try_from(at % 251).unwrap()).collect();
        let file = sealed(&bytes);
        assert_eq!(opened(&file, "open sesame").unwrap(), bytes);
        assert!(matches!(opened(&file, "open barley"), Err(OpenError::Changed(0))));
        assert_eq!(opened(&sealed(b""), "open sesame").unwrap(), b"");
    }

    #[test]
    fn a_piece_that_was_changed_swapped_or_cut_off_is_noticed() {
        let whole = PIECE + TAG + 4;
        let file = sealed(&vec![7; 3 * PIECE]);
        let (head, pieces) = file.split_at(8 + 32);
        let mut changed = file.clone();
        changed[100] ^= 1;
        assert!(matches!(opened(&changed, "open sesame"), Err(OpenError::Changed(0))));
        let swapped = [head, &pieces[whole..2 * whole], &pieces[..whole], &pieces[2 * whole..]].concat();
        assert!(matches!(opened(&swapped, "open sesame"), Err(OpenError::Changed(0))));
        let cut = [head, &pieces[..2 * whole]].concat();
        assert!(matches!(opened(&cut, "open sesame"), Err(OpenError::Short(2))));
        assert!(matches!(opened(b"TANDEMP1", "open sesame"), Err(OpenError::NoBackup)));
    }
}
