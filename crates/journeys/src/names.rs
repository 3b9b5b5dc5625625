//! A tenant's event names, each with a code that lasts as long as its journeys are in memory.

use std::sync::Mutex;

use runnel_model::{Dictionary, limits};

/// Event names and their codes.
#[derive(Debug, Default)]
pub struct Names {
    inner: Mutex<Dictionary>,
}

impl Names {
    /// The code of a name, which is added when it is new; `None` when there are too many.
    pub fn code(&self, name: &str) -> Option<u16> {
        let mut names = self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match names.find(name) {
            Some(code) => u16::try_from(code).ok(),
            None if names.len() >= limits::EVENT_NAMES => None,
            None => u16::try_from(names.intern(name)).ok(),
        }
    }

    /// The code of a name that there is.
    pub fn find(&self, name: &str) -> Option<u16> {
        let names = self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        names.find(name).and_then(|code| u16::try_from(code).ok())
    }

    /// The name of a code.
    pub fn name(&self, code: u16) -> String {
        let names = self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        names.get(u32::from(code)).to_owned()
    }

    /// How many names.
    pub fn len(&self) -> usize {
        self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner).len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
