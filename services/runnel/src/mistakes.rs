//! Mistakes of a configuration, which are told all at once and before anything has begun.

use anyhow::bail;

use crate::command::with_causes;

/// The mistakes that were found so far.
#[derive(Debug, Default)]
pub(crate) struct Mistakes(Vec<String>);

impl Mistakes {
    /// Looks at one part; `at` is the option that it comes from.
    pub(crate) fn look<T, E: Into<anyhow::Error>>(&mut self, at: &str, part: Result<T, E>) {
        if let Err(fault) = part {
            self.0.push(format!("{at}: {}", with_causes(&fault.into())));
        }
    }

    /// An error that tells all of them, if there are any.
    pub(crate) fn told(self) -> anyhow::Result<()> {
        match &self.0[..] {
            [] => Ok(()),
            [one] => bail!("{one}"),
            many => bail!("{} mistakes:\n  {}", many.len(), many.join("\n  ")),
        }
    }
}
