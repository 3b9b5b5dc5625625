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
        if fits && id.iter().all(|&digit| digit_value(digit).is_some()) {
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
                for pair in id.chunks_exact(2) {
                    match (digit_value(pair[0]), digit_value(pair[1])) {
                        (Some(high), Some(low)) => out.push(high << 4 | low),
                        _ => return false,
                    }
                }
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
    let mut at = 0;
    for byte in &mut bytes {
        if HYPHENS.contains(&at) {
            at += 1;
        }
        *byte = digit_value(id[at])? << 4 | digit_value(id[at + 1])?;
        at += 2;
    }
    Some(bytes)
}

const fn digit_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

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
