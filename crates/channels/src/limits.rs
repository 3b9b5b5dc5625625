//! The bounds of rules and of what is read from a landing page.

/// Most bytes of one text of rules.
pub const TEXT_BYTES: usize = 64 * 1024;
/// Most rules of one layer.
pub const RULES: usize = 256;
/// Most conditions of a rule.
pub const CONDITIONS: usize = 16;
/// Most patterns of a condition or of a named set, sets within it included.
pub const PATTERNS: usize = 64;
/// Most bytes of a pattern, and of a value that is read from a landing page.
pub const VALUE_BYTES: usize = 256;
/// Most bytes of the name of a channel, a category, a set, or a click identifier.
pub const NAME_BYTES: usize = 64;
/// Most named sets of one text.
pub const SETS: usize = 64;
/// Most categories of hosts.
pub const CATEGORIES: usize = 64;
/// Most hosts of one layer, and of a tenant's own.
pub const HOSTS: usize = 4096;
/// Most labels of a host in a list; of a longer host that is looked up only the last ones are compared.
pub const LABELS: usize = 8;
/// Most kinds of click identifiers of one layer.
pub const CLICKS: usize = 256;
/// Most texts that stand for "nothing", of one layer.
pub const BLANKS: usize = 64;
/// Most bytes of a query that are looked at.
pub const QUERY_BYTES: usize = 8 * 1024;
/// Most parameters of a query that are looked at.
pub const PARAMETERS: usize = 256;
