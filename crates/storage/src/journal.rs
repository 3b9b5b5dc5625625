//! How a batch lies in the journal: `RNLJ`, format, length, zstd of a `runnel.journal.v1.Batch`, and XXH3-64 over all of that.
//!
//! Reading is total: whatever the bytes, it gives the batch that was written or a [`JournalError`].

mod decode;
mod encode;
mod message;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use decode::{Decoded, decode};
pub(crate) use encode::encode;

/// The first bytes of a row.
const MARK: [u8; 4] = *b"RNLJ";
/// The newest format that is known, and the one that is written.
const FORMAT: u32 = 1;
/// Bytes before the compressed message: mark, format, length of the message, each four bytes, little endian.
const HEAD: usize = 12;
/// Bytes of the checksum behind it.
const TAIL: usize = 8;
/// Longest message before compression.
pub(crate) const MESSAGE_BYTES: usize = 64 << 20;

/// Why a journal row cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// It does not begin as a journal row does.
    #[error("the row does not begin with the journal's mark")]
    Mark,
    /// A newer program wrote it.
    #[error("the row has format {found}, this program knows {known}")]
    Newer {
        /// The row's format.
        found: u32,
        /// The newest known.
        known: u32,
    },
    /// The row is whole, and has something that only a newer program can have written.
    #[error("the row has {0} that this program does not know")]
    Unknown(&'static str),
    /// The stored bytes have another checksum.
    #[error("the row's checksum does not fit its bytes")]
    Checksum,
    /// It does not decompress, or to another length than it says.
    #[error("the row does not decompress")]
    Compression,
    /// The message cannot be decoded.
    #[error("the row is no journal message")]
    Message(#[source] prost::DecodeError),
    /// Lengths, indices or texts in the message do not fit together.
    #[error("the row's columns do not fit together: {0}")]
    Columns(&'static str),
    /// It has another number of events than was noted when it was appended.
    #[error("the row has {found} events, {noted} were appended")]
    Events {
        /// Events in it.
        found: u64,
        /// Events noted.
        noted: u64,
    },
    /// It is listed, but its bytes are not there.
    #[error("the row's bytes are missing")]
    Lost,
}
