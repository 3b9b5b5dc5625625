//! The bounds of what is read of a header, and of rules.

/// Most bytes of a header that are looked at. What stands behind them changes nothing.
pub const USER_AGENT_BYTES: usize = 512;
/// Most bytes of one text of rules.
pub const TEXT_BYTES: usize = 64 * 1024;
/// Most rules of one table.
pub const RULES: usize = 256;
/// Most conditions of a rule.
pub const CONDITIONS: usize = 8;
/// Most different patterns of all rules together.
pub const PATTERNS: usize = 512;
/// Most bytes of a pattern, and of a name.
pub const NAME_BYTES: usize = 64;
/// Fewest bytes of a pattern.
pub const PATTERN_BYTES: usize = 2;

// Patterns are numbered in 16 bits, of which the highest number means none, and sets of them are whole words
// of 64 bits.
const _: () = assert!(PATTERNS < u16::MAX as usize && PATTERNS.is_multiple_of(64));
// They are found by their first two bytes.
const _: () = assert!(PATTERN_BYTES >= 2);
