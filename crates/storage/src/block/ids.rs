//! Event ids in fewer bytes: canonical UUIDs and hexadecimal hashes are stored as the bytes they write out.

use runnel_model::Ids;

/// How the event ids of a block are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IdForm {
    /// As text.
    Text,
    /// Canonical lower-case UUIDs as 16 bytes.
    Uuid,
    /// Lower-case hexadecimal text as so many bytes.
    Hex(u8),
}

const HYPHENS: [usize; 4] = [8, 13, 18, 23];

impl IdForm {
    /// The densest form of one id.
    pub(crate) fn of(id: &[u8]) -> IdForm {
        if id.len() == 36 && pack_uuid(id).is_some() {
            return IdForm::Uuid;
        }
        let fits = id.len().is_multiple_of(2) && (16..=128).contains(&id.len());
        if fits && id.iter().all(|&digit| VALUES[usize::from(digit)] < 16) {
            return IdForm::Hex((id.len() / 2) as u8);
        }
        IdForm::Text
    }

    /// The densest form that fits all of a set.
    pub(crate) fn of_all(ids: &Ids) -> Option<IdForm> {
        let first = IdForm::of((!ids.is_empty()).then(|| ids.get(0))?);
        let fits = first != IdForm::Text && (1..ids.len()).all(|row| IdForm::of(ids.get(row)) == first);
        Some(if fits { first } else { IdForm::Text })
    }

    /// The form that fits both.
    pub(crate) fn join(self, other: IdForm) -> IdForm {
        if self == other { self } else { IdForm::Text }
    }

    /// Bytes of an id, when all have the same.
    pub(crate) fn length(self) -> Option<usize> {
        match self {
            IdForm::Text => None,
            IdForm::Uuid => Some(16),
            IdForm::Hex(bytes) => Some(usize::from(bytes)),
        }
    }

    /// Appends an id of this form as bytes. `false` when it has another form.
    pub(crate) fn pack(self, id: &[u8], out: &mut Vec<u8>) -> bool {
        match self {
            IdForm::Text => out.extend_from_slice(id),
            IdForm::Uuid => match pack_uuid(id) {
                Some(bytes) => out.extend_from_slice(&bytes),
                None => return false,
            },
            IdForm::Hex(bytes) => {
                if id.len() != usize::from(bytes) * 2 {
                    return false;
                }
                let start = out.len();
                out.resize(start + id.len() / 2, 0);
                return pack_digits(id, &mut out[start..]);
            }
        }
        true
    }

    /// Writes stored bytes out as the id they came from, into `text`, which is cleared.
    pub(crate) fn unpack(self, bytes: &[u8], text: &mut Vec<u8>) {
        text.clear();
        if self == IdForm::Text {
            text.extend_from_slice(bytes);
            return;
        }
        for (at, &byte) in bytes.iter().enumerate() {
            if self == IdForm::Uuid && [4, 6, 8, 10].contains(&at) {
                text.push(b'-');
            }
            text.extend_from_slice(&DIGITS[usize::from(byte)]);
        }
    }
}

fn pack_uuid(id: &[u8]) -> Option<[u8; 16]> {
    if id.len() != 36 || HYPHENS.iter().any(|&at| id[at] != b'-') {
        return None;
    }
    let mut bytes = [0; 16];
    let parts = [(0..8, 0..4), (9..13, 4..6), (14..18, 6..8), (19..23, 8..10), (24..36, 10..16)];
    let all = parts.into_iter().all(|(digits, packed)| pack_digits(&id[digits], &mut bytes[packed]));
    all.then_some(bytes)
}

/// Packs two digits a byte. `false` when some is no lower-case hexadecimal digit.
fn pack_digits(digits: &[u8], bytes: &mut [u8]) -> bool {
    let mut seen = 0;
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let (high, low) = (VALUES[usize::from(pair[0])], VALUES[usize::from(pair[1])]);
        seen |= high | low;
        *byte = high << 4 | low & 15;
    }
    seen < 16
}

/// The value of each lower-case hexadecimal digit, 16 of anything else.
static VALUES: [u8; 256] = {
    let mut values = [16; 256];
    let mut value = 0;
    while value < 16 {
        values[b"0123456789abcdef"[value as usize] as usize] = value;
        value += 1;
    }
    values
};

static DIGITS: [[u8; 2]; 256] = {
    let digits = *b"0123456789abcdef";
    let mut table = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = [digits[byte >> 4], digits[byte & 15]];
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_back_exactly() {
        for (id, form) in [
            ("018f3f5e-7c1a-7b2c-8d3e-0123456789ab", IdForm::Uuid),
            ("018F3F5E-7c1a-7b2c-8d3e-0123456789ab", IdForm::Text),
            ("0123456789abcdef0123456789abcdef", IdForm::Hex(16)),
            ("0123456789abcdef0", IdForm::Text),
            ("", IdForm::Text),
            ("order-17", IdForm::Text),
        ] {
            assert_eq!(IdForm::of(id.as_bytes()), form, "{id}");
            let (mut bytes, mut text) = (Vec::new(), vec![1]);
            assert!(form.pack(id.as_bytes(), &mut bytes));
            form.unpack(&bytes, &mut text);
            assert_eq!(text, id.as_bytes());
        }
        assert!(!IdForm::Uuid.pack(b"0123456789abcdef0123456789abcdef0123", &mut Vec::new()));
    }
}
