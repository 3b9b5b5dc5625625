//! Names and texts that came before in the same message: most events bring the same few.

use runnel_model::{ColumnKey, Dictionary, EventBatch, Short, ValueType};

/// Not known yet.
const NONE: u32 = u32::MAX;
/// Places where a name may be looked for.
const PLACES: usize = 256;
/// Names that are kept; fewer than places, so that most are found where they are looked for first.
const KEPT: usize = 96;
/// Places that are tried.
const TRIED: usize = 4;

/// The names of one message, and what is known of them in the batch that it becomes.
#[derive(Debug)]
pub(super) struct Names<'a> {
    /// The message.
    buffer: &'a [u8],
    /// By hash: one more than the place among the names, or 0.
    places: [u8; PLACES],
    names: Vec<Name<'a>>,
    /// Those of one event that are not kept.
    others: Vec<&'a str>,
}

/// A name that was checked.
#[derive(Debug)]
struct Name<'a> {
    /// None where it is long.
    short: Option<Short>,
    text: &'a str,
    /// Its place in the batch's dictionary.
    code: u32,
    /// The columns of the property with this name, by type.
    columns: [u32; 4],
    /// The event that brought the property last.
    event: u32,
}

/// A name's place among those that are kept, or behind them.
#[derive(Clone, Copy, Debug)]
pub(super) struct NameRef(u32);

impl<'a> Names<'a> {
    /// None yet, of a message with these bytes.
    pub(super) fn of(buffer: &'a [u8]) -> Names<'a> {
        Names { buffer, places: [0; PLACES], names: Vec::new(), others: Vec::new() }
    }

    /// Forgets what is known of the names of one event only.
    pub(super) fn next_event(&mut self) {
        self.others.clear();
    }

    /// The name with these bytes. One that did not come before is checked.
    #[inline(always)]
    pub(super) fn find<E>(
        &mut self,
        bytes: &'a [u8],
        check: impl FnOnce(&'a [u8]) -> Result<&'a str, E>,
    ) -> Result<NameRef, E> {
        let Some(short) = Short::of(bytes, self.buffer) else {
            return self.find_further(bytes, None, check);
        };
        let at = usize::from(self.places[short.place()]).wrapping_sub(1);
        match self.names.get(at) {
            Some(name) if name.short == Some(short) => Ok(NameRef(at as u32)),
            _ => self.find_further(bytes, Some(short), check),
        }
    }

    /// Looks further: at the places behind, for a name that is long, or came for the first time.
    #[inline(never)]
    fn find_further<E>(
        &mut self,
        bytes: &'a [u8],
        short: Option<Short>,
        check: impl FnOnce(&'a [u8]) -> Result<&'a str, E>,
    ) -> Result<NameRef, E> {
        // Long names differ at their ends.
        let end = short.or_else(|| Short::of(&bytes[bytes.len().saturating_sub(Short::MOST)..], self.buffer));
        let first = end.map_or(0, Short::place);
        for place in first..first + TRIED {
            let at = usize::from(self.places[place % PLACES]).wrapping_sub(1);
            match self.names.get(at) {
                Some(name) if name.text.as_bytes() == bytes => return Ok(NameRef(at as u32)),
                Some(_) => {}
                None if self.names.len() == KEPT => break,
                None => {
                    let text = check(bytes)?;
                    self.names.push(Name { short, text, code: NONE, columns: [NONE; 4], event: NONE });
                    self.places[place % PLACES] = self.names.len() as u8;
                    return Ok(NameRef(self.names.len() as u32 - 1));
                }
            }
        }
        self.others.push(check(bytes)?);
        Ok(NameRef((KEPT + self.others.len()) as u32 - 1))
    }

    /// The name's text.
    #[inline]
    pub(super) fn text(&self, name: NameRef) -> &'a str {
        let at = name.0 as usize;
        match at.checked_sub(KEPT) {
            None => self.names[at].text,
            Some(other) => self.others[other],
        }
    }

    /// Notes that an event brings a property with this name. Whether it may have brought one before.
    #[inline]
    pub(super) fn came_before(&mut self, name: NameRef, event: u32) -> bool {
        let kept = self.names.get_mut(name.0 as usize);
        kept.is_none_or(|kept| std::mem::replace(&mut kept.event, event) == event)
    }

    /// The place of a name in the batch's dictionary, where it is added when it is new.
    #[inline]
    pub(super) fn code(&mut self, name: NameRef, strings: &mut Dictionary) -> u32 {
        match self.names.get(name.0 as usize) {
            Some(kept) if kept.code != NONE => kept.code,
            _ => {
                let code = strings.intern(self.text(name));
                if let Some(kept) = self.names.get_mut(name.0 as usize) {
                    kept.code = code;
                }
                code
            }
        }
    }

    /// The column of a property in the batch, which is added when it is new.
    #[inline]
    pub(super) fn column(&mut self, name: NameRef, value_type: ValueType, batch: &mut EventBatch) -> usize {
        let slot = value_type as usize - 1;
        match self.names.get(name.0 as usize) {
            Some(kept) if kept.columns[slot] != NONE => kept.columns[slot] as usize,
            _ => {
                let code = self.code(name, &mut batch.strings);
                let column = batch.place(ColumnKey::Property(code), value_type);
                if let Some(kept) = self.names.get_mut(name.0 as usize) {
                    kept.columns[slot] = column as u32;
                }
                column
            }
        }
    }
}

/// Short texts that the batch has, with their places in its dictionary.
#[derive(Debug)]
pub(super) struct Texts<'a> {
    buffer: &'a [u8],
    places: Box<[(Short, u32); PLACES]>,
}

impl<'a> Texts<'a> {
    /// None yet, of a message with these bytes.
    pub(super) fn of(buffer: &'a [u8]) -> Texts<'a> {
        Texts { buffer, places: Box::new([(Short::default(), NONE); PLACES]) }
    }

    /// The place of a text in the dictionary, if it is there.
    #[inline(always)]
    pub(super) fn find(&mut self, bytes: &[u8], strings: &Dictionary) -> Option<u32> {
        let Some(short) = Short::of(bytes, self.buffer) else { return strings.find_bytes(bytes) };
        let (kept, code) = &mut self.places[short.place()];
        if *kept != short {
            *code = strings.find_bytes(bytes)?;
            *kept = short;
        }
        Some(*code)
    }
}
